"""The file of an SQLite store is taken away, or another one is put in its place, while it is in use."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from ticketlock.stores.sql import SQLTrackerStore

from ticketlock import TrackerStoreConnectionError

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
