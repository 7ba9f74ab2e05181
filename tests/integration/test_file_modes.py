"""Files with what people said are their owner's alone, whatever the umask."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ticketlock import Conversations, StateFile, cli, open_export

FILES = """
tracker_store:
  type: sql
  db: {folder}/bot.db
event_broker:
  type: {broker}
event_service:
  db: {folder}/service.db
"""
BROKERS = {
    "file": "file\n  path: {folder}/events.log",
    "sql": "sql\n  dialect: sqlite\n  db: {folder}/events.db",
}


@pytest.fixture(autouse=True)
def generous() -> Iterator[None]:
    """The umask of most machines, or a wider one."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize("broker", BROKERS)
def test_all_that_is_made(tmp_path: Path, broker: str) -> None:
    """Histories, events, exports, and what SQLite puts beside its files: 0600."""
    endpoints = tmp_path / "endpoints.yml"
    section = BROKERS[broker].format(folder=tmp_path)
    endpoints.write_text(FILES.format(folder=tmp_path, broker=section))
    endpoints.chmod(0o600)
    (tmp_path / "export.jsonl.part").write_text("left of an earlier try")
    seen: dict[str, int] = {}

    def look() -> None:
        for path in tmp_path.iterdir():
            seen[path.name] = stat.S_IMODE(path.stat().st_mode)

    async def body() -> None:
        async with Conversations.from_endpoints(endpoints) as conversations:
            async with conversations.turn("anna") as turn:
                turn.add({"event": "user", "text": "my secret"})
            look()  # -wal and -shm are there while the database is open
        state = StateFile(tmp_path / "export.json")
        async with open_export(endpoints, state=state) as export:
            await export.run()

    asyncio.run(body())
    export = str(tmp_path / "export.jsonl")
    assert cli.main(["tracker", "export", export, "--endpoints", str(endpoints)]) == 0
    from ticketlock.endpoints.registry import create_event_database

    _, database = create_event_database({"db": f"{tmp_path}/service.db"}, "event_service")

    async def serve() -> None:
        async with database:
            pass

    asyncio.run(serve())
    del seen["export.jsonl.part"]
    look()
    made = {"bot.db", "bot.db-wal", "bot.db-shm", "export.json", "export.jsonl", "service.db"}
    assert seen.keys() >= made | {"events.log" if broker == "file" else "events.db"}
    assert {name: oct(mode) for name, mode in seen.items() if mode != 0o600} == {}


async def test_a_file_that_is_there_keeps_its_rights(tmp_path: Path) -> None:
    """Whoever wants another program to read it makes it first."""
    (tmp_path / "bot.db").touch(0o640)
    (tmp_path / "events.log").touch(0o644)
    endpoints = tmp_path / "endpoints.yml"
    endpoints.write_text(
        FILES.format(folder=tmp_path, broker=BROKERS["file"].format(folder=tmp_path))
    )
    async with Conversations.from_endpoints(endpoints) as conversations:
        async with conversations.turn("anna") as turn:
            turn.add({"event": "user", "text": "hi"})
    assert stat.S_IMODE((tmp_path / "bot.db").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "events.log").stat().st_mode) == 0o644
