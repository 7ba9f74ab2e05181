"""What only reads creates no database; what writes does."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from ticketlock.stores.sql.settings import SQLSettings

from ticketlock import cli
from ticketlock.endpoints.registry import create_tracker_store, require_existing
from ticketlock.settings.section import Section
from ticketlock.settings.store_keys import SQLStoreKeys

READING = [
    ["tracker", "list"],
    ["tracker", "show", "anna"],
    ["tracker", "delete", "anna"],
    ["tracker", "export", "-"],
    ["tracker", "migrate", "--to", "other.yml"],
    ["events", "status"],
    ["events", "dead"],
    ["events", "dead", "--drop"],
    ["events", "resend"],
    ["events", "export"],
    ["events", "gaps"],
]


@pytest.mark.parametrize("words", READING, ids=" ".join)
@pytest.mark.parametrize(("key", "path"), [("db", "typo.db"), ("url", "sqlite:///typo.db")])
def test_a_missing_file_is_named_and_not_created(
    words: list[str], key: str, path: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """With the key of endpoints.yml that names it."""
    monkeypatch.chdir(tmp_path)
    Path("endpoints.yml").write_text(
        f"tracker_store: {{type: sql, {key}: '{path}'}}\n"
        f"event_service: {{type: sql, {key}: '{path}'}}\n"
        "event_broker: {type: file, path: events.log}\n"
    )
    Path("other.yml").write_text("tracker_store: {type: sql, db: other.db}\n")
    assert cli.main(words) == cli.EXIT_BAD_INPUT
    section = "event_service" if words == ["events", "gaps"] else "tracker_store"
    assert capsys.readouterr().err == (
        f"ticketlock: endpoints.yml: {section}: {key}: there is no file {tmp_path}/typo.db, and "
        "this command does not create one: correct the path, which is relative to the current "
        "folder\n"
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["endpoints.yml", "other.yml"]


def test_what_writes_creates_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An import, and the target of a migration; what reads the file then finds it."""
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two", "three"):
        Path(f"{name}.yml").write_text(f"tracker_store: {{type: sql, db: {name}.db}}\n")
    asyncio.run(_save("one.db"))
    assert cli.main(["tracker", "export", "all.jsonl", "--endpoints", "one.yml"]) == 0
    assert cli.main(["tracker", "import", "all.jsonl", "--endpoints", "two.yml"]) == 0
    assert cli.main(["tracker", "migrate", "--endpoints", "two.yml", "--to", "three.yml"]) == 0
    capsys.readouterr()
    assert cli.main(["tracker", "list", "--endpoints", "three.yml"]) == 0
    assert capsys.readouterr().out == "anna\n"


async def _save(path: str) -> None:
    async with create_tracker_store({"type": "sql", "db": path}) as store:
        tracker = store.init_tracker("anna")
        tracker.update({"event": "action", "name": "action_listen"})
        await store.save(tracker)


def test_databases_that_are_no_file(tmp_path: Path) -> None:
    """One in memory is used; PostgreSQL creates none that is not there."""
    require_existing(create_tracker_store({"type": "in_memory"}))
    require_existing(create_tracker_store({"type": "sql", "db": ":memory:"}))
    keys = {"dialect": "postgresql", "url": "localhost", "db": "typo", "login_db": "postgres"}
    settings = SQLSettings.read(Section(keys, "tracker_store"), SQLStoreKeys)
    assert settings.login_db == "postgres"
    assert settings.existing("tracker_store").login_db is None
