"""The file of an SQLite store is taken away, or another one is put in its place, while it is in use."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ticketlock.brokers.sql import SQLEventBroker
from ticketlock.stores.sql import SQLTrackerStore

from ticketlock import TrackerStoreConnectionError
from ticketlock.endpoints.registry import create_event_database
from ticketlock.event_service.database import EventDatabaseError
from ticketlock.publishing.message import BrokerMessage

GONE = "events.db: the file was deleted or replaced while this process used it; put it back, or"


async def say(store: SQLTrackerStore, fence: int, text: str) -> list[str]:
    """Add a text in a turn; return those before it."""
    claim = await store.claim("a", fence, "me")
    before = [event.text for event in claim.tracker.events]
    await store.append(claim, [{"event": "user", "text": text, "timestamp": 1.0}])
    return before


async def test_a_file_that_is_taken_away(tmp_path: Path) -> None:
    """What would be written to it, or read, would be gone with this process: all of it is refused."""
    path, aside = tmp_path / "events.db", tmp_path / "aside.db"
    async with SQLTrackerStore(db=str(path)) as store:
        await say(store, 1, "1")
        held = await store.claim("a", 2, "me")
        event = {"event": "user", "text": "held", "timestamp": 1.0}
        path.rename(aside)
        uses = [
            lambda: store.claim("a", 3, "me"), lambda: store.append(held, [event]), store.keys,
            lambda: store.retrieve("a"), store.check_ready, lambda: store.delete("a"),
            store.outbox.backlog,
        ]  # fmt: skip
        for use in uses:
            with pytest.raises(TrackerStoreConnectionError, match=GONE):
                await use()
        found = await asyncio.gather(
            *(store.claim(str(number), 1, "me") for number in range(40)), return_exceptions=True
        )
        assert {type(error) for error in found} == {TrackerStoreConnectionError}
        assert not path.exists()
        aside.rename(path)
        assert await say(store, 3, "2") == ["1"]


async def test_a_file_that_is_replaced(tmp_path: Path) -> None:
    """Nothing of one goes into the other; a store that is opened then has the new one."""
    path, other = tmp_path / "events.db", tmp_path / "other.db"
    async with SQLTrackerStore(db=str(other)) as store:
        await say(store, 1, "other")
    async with SQLTrackerStore(db=str(path)) as store:
        await say(store, 1, "1")
        os.replace(other, path)
        with pytest.raises(TrackerStoreConnectionError, match=GONE):
            await say(store, 2, "2")
    for part in ("-wal", "-shm"):  # as the error says: SQLite would put them into the new file
        Path(f"{path}{part}").unlink()
    async with SQLTrackerStore(db=str(path)) as store:
        assert await say(store, 2, "more") == ["other"]


BESIDE = "events.db: its -wal or -shm was removed while this process used it; end all processes"


@pytest.mark.parametrize("part", ["-wal", "-shm"])
async def test_a_log_that_is_removed(tmp_path: Path, part: str) -> None:
    """Without it, or the index of it, processes would overwrite what others have stored."""
    path = tmp_path / "events.db"
    async with SQLTrackerStore(db=str(path)) as store:
        await say(store, 1, "1")
        held = await store.claim("a", 2, "me")
        Path(f"{path}{part}").unlink()
        event = {"event": "user", "text": "held", "timestamp": 1.0}
        uses = [
            lambda: store.claim("a", 3, "me"), lambda: store.append(held, [event]), store.keys,
            lambda: store.retrieve("a"), store.check_ready, lambda: store.delete("a"),
        ]  # fmt: skip
        for use in uses:
            with pytest.raises(TrackerStoreConnectionError, match=BESIDE):
                await use()
    async with SQLTrackerStore(db=str(path)) as store:
        assert await say(store, 3, "2") == ["1"]


async def test_a_log_that_another_process_lacks(tmp_path: Path) -> None:
    """SQLite itself says no more than that its input failed."""
    path = tmp_path / "events.db"
    async with SQLTrackerStore(db=str(path)) as store:
        await say(store, 1, "1")
        Path(f"{path}-wal").unlink()
        command = f"""if True:
            import asyncio
            from ticketlock.stores.sql import SQLTrackerStore
            asyncio.run(SQLTrackerStore(db={str(path)!r}).keys())
        """
        done = subprocess.run(
            [sys.executable, "-c", command], capture_output=True, text=True, timeout=60, check=False
        )
        assert (
            "events.db: disk I/O error; its disk or file system fails, or its -wal" in done.stderr
        )


async def test_tables_of_events_that_are_taken_away(tmp_path: Path) -> None:
    """A broker and the event service say it too, and go on when the file is back."""
    path, aside = tmp_path / "events.db", tmp_path / "aside.db"
    broker = SQLEventBroker(dialect="sqlite", db=str(path))
    event = {"event": "user", "text": "1", "sender_id": "a"}
    database = create_event_database({"type": "sql", "db": str(tmp_path / "service.db")})[1]
    outcomes = await broker.deliver([BrokerMessage.of_event(event)])
    await database.open()
    for file in (path, tmp_path / "service.db"):
        file.rename(aside)
        if file == path:
            outcomes += await broker.deliver([BrokerMessage.of_event(event)])
        else:
            with pytest.raises(EventDatabaseError, match="was deleted or replaced while"):
                await database.gaps()
        aside.rename(file)
    outcomes += await broker.deliver([BrokerMessage.of_event(event)])
    assert await database.gaps() == []
    assert [outcome.status for outcome in outcomes] == ["delivered", "retry", "delivered"]
    assert GONE in outcomes[1].reason
    await broker.close()
    await database.close()
