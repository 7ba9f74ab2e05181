"""The loop of the event service: what it does in which order, with a source and a database that
do as they are told.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import pytest
from conftest import until

from ticketlock.errors import EventBrokerConnectionError
from ticketlock.event_service import service as loop
from ticketlock.event_service.database import (
    EventDatabase,
    EventDatabaseError,
    Gap,
    HistoryKey,
    StoreResult,
)
from ticketlock.event_service.records import Received, Reject
from ticketlock.event_service.service import EventService
from ticketlock.event_service.source import RawMessage, Source
from ticketlock.event_service.watch import GapWatch, describe


class Script:
    """What happened, in order; and errors that are to be raised, by the name of the call."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.errors: dict[str, list[Exception]] = {}

    def call(self, name: str, *details: Any) -> None:
        self.calls.append((name, *details))
        if self.errors.get(name):
            raise self.errors[name].pop(0)

    def names(self, *wanted: str) -> list[str]:
        return [call[0] for call in self.calls if call[0] in wanted]


class ListSource(Source):
    def __init__(self, script: Script, *batches: Sequence[int]) -> None:
        self.script = script
        self.batches = [list(batch) for batch in batches]
        self.is_there = True

    def open(self, end: float) -> None:
        self.script.call("open")

    @property
    def is_ready(self) -> bool:
        return self.is_there

    def read(self, most: int, seconds: float) -> list[RawMessage]:
        self.script.call("read")
        if not self.batches:
            time.sleep(0.01)
            return []
        return [_delivery(number) for number in self.batches.pop(0)]

    def confirm(self, deliveries: Sequence[RawMessage]) -> None:
        self.script.call("confirm", [d.token for d in deliveries])

    def keep_alive(self) -> None:
        self.script.call("keep_alive")

    def close(self, end: float) -> None:
        self.script.call("close")


class ListDatabase(EventDatabase):
    def __init__(self, script: Script) -> None:
        self.script = script
        self.seconds = 0.0
        self.missing: list[Gap] = []

    async def open(self) -> None:
        self.script.call("database")

    async def store(self, events: Sequence[Received], rejects: Sequence[Reject]) -> StoreResult:
        await asyncio.sleep(self.seconds)
        self.script.call("store", [event.sequence for event in events])
        found: dict[HistoryKey, list[Gap]] = {HistoryKey("c", 0): self.missing}
        return StoreResult(len(events), 0, len(rejects), found)

    async def gaps(self, histories: Collection[HistoryKey] | None = None) -> list[Gap]:
        return self.missing


def _delivery(number: int) -> RawMessage:
    body = b"?" if number < 0 else json.dumps({"sender_id": "c", "sequence": number}).encode()
    return RawMessage(body, "q", False, number)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    monkeypatch.setattr(loop, "BACKOFF", (0.01, 0.04))
    return Script()


def work(script: Script, *batches: Sequence[int], **options: Any) -> EventService:
    return EventService(
        ListSource(script, *batches), ListDatabase(script), until_idle=0.05, **options
    )


async def test_confirmed_after_it_is_stored(script: Script) -> None:
    """Batch by batch: a crash in between leads to repeats, never to a loss."""
    service = work(script, [0, 1], [2, -1])
    done = await service.run()
    assert (done.stored, done.duplicates, done.rejected) == (3, 0, 1)
    steps = [call for call in script.calls if call[0] in ("store", "confirm")]
    assert steps == [("store", [0, 1]), ("confirm", [0, 1]), ("store", [2]), ("confirm", [2, -1])]
    assert script.calls[-1] == ("close",)


def test_nothing_is_confirmed_while_the_database_is_away(
    run: Callable[..., None], script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    """It tries again, says so, and stays alive for the broker meanwhile."""
    script.errors["store"] = [EventDatabaseError("PostgreSQL is away") for _ in range(4)]
    service = work(script, [0])
    with caplog.at_level(logging.INFO, "ticketlock"):
        run(service.run())
    assert script.names("store", "confirm") == ["store"] * 5 + ["confirm"]
    assert "waiting for the database: PostgreSQL is away" in caplog.text
    assert "the database answers again" in caplog.text


def test_a_slow_database(run: Callable[..., None], script: Script) -> None:
    """The source is kept alive while a transaction takes its time."""
    service = work(script, [0])
    service._database.seconds = 1.3  # type: ignore[attr-defined]  # ours
    run(service.run())
    assert "keep_alive" in script.names("store", "keep_alive")


async def test_the_broker_comes_back(script: Script) -> None:
    """A lost connection is opened again; so is one that no retry helps, once it has worked."""
    lost = EventBrokerConnectionError("lost")
    script.errors["read"] = [lost]
    service = work(script, [0])
    script.errors["open"] = []
    task = asyncio.ensure_future(service.run())
    await until(lambda: script.errors["read"] == [], "it read")
    script.errors["open"] = [EventBrokerConnectionError("wrong password", False)] * 4
    assert (await task).stored == 1
    assert len(script.names("open")) >= 2


@pytest.mark.parametrize("what", ["open", "database"])
async def test_what_cannot_help_ends_the_start(script: Script, what: str) -> None:
    """A wrong password is an error at once; a server that is not up yet is waited for."""
    kind = EventBrokerConnectionError if what == "open" else EventDatabaseError
    script.errors[what] = [kind("not up"), kind("wrong password", False)]
    with pytest.raises(kind, match="wrong password"):
        await work(script).run()
    assert script.names(what) == [what] * 2
    assert script.calls[-1] == ("close",)


async def test_stop_ends_after_the_batch_in_hand(script: Script) -> None:
    """What was read is stored and confirmed, nothing more is read."""
    service = work(script, *[[n] for n in range(50)])
    service._database.seconds = 0.05  # type: ignore[attr-defined]  # ours
    task = asyncio.ensure_future(service.run())
    await until(lambda: script.names("read"), "it read")
    service.stop()
    await task
    assert script.names("read", "store", "confirm") == ["read", "store", "confirm"]


@pytest.mark.bound(5)
async def test_stop_while_the_database_is_away(script: Script) -> None:
    """It ends soon, says that nothing is lost, and confirms nothing."""
    script.errors["store"] = [EventDatabaseError("away") for _ in range(1000)]
    service = work(script, [0, 1])
    task = asyncio.ensure_future(service.run())
    await until(lambda: script.names("store"), "it tried")
    service.stop()
    with pytest.raises(EventDatabaseError, match="2 events could not be stored; they stay"):
        await task
    assert "confirm" not in script.names("confirm")


async def test_idle_counts_while_the_broker_is_there(script: Script) -> None:
    """A topic that does not exist yet is no idle one."""
    service = work(script)
    service._source.is_there = False  # type: ignore[misc]  # ours
    task = asyncio.ensure_future(service.run())
    await until(lambda: len(script.names("read")) > 10, "it reads")
    assert not task.done()
    service._source.is_there = True  # type: ignore[misc]  # ours
    await asyncio.wait_for(task, 5)


async def test_gaps_are_told_once_when_they_last(
    script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    """Not at first sight, once, and again when they are filled."""
    database = ListDatabase(script)
    gap = Gap("c\n", 2, 1, 3)
    name = HistoryKey("c\n", 2)
    with caplog.at_level(logging.INFO, "ticketlock"):
        watch = GapWatch(database, grace=0.05)
        watch.note({name: [gap]})
        await watch.look()
        assert not caplog.records
        database.missing = [gap]
        await asyncio.sleep(0.06)
        for _ in range(3):
            await watch.look()
            await asyncio.sleep(0.03)
        assert [record.message for record in caplog.records] == [describe(gap)]
        watch.note({name: []})
        assert "its gaps are filled" in caplog.text
        database.missing = []
        watch.note({name: [gap]})  # another instance fills it at once
        await watch.look(last=True)
    assert len(caplog.records) == 2
    assert describe(gap) == "conversation 'c\\n' (history 2): events 1 to 3 are missing"
    assert describe(Gap("c", 0, 5, 5)) == "conversation 'c': event 5 is missing"
