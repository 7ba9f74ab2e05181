"""What the outboxes of the Mongo and Dynamo stores must do beyond the contract of all."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any

import pytest
from contract_events import session, user
from pymongo import MongoClient
from pymongo.monitoring import CommandListener
from servers.tracker_stores import Stores
from ticketlock.stores.dynamo import outbox as _dynamo_outbox
from ticketlock.stores.dynamo.client import DynamoClient
from ticketlock.stores.mongo import store as mongo

from ticketlock.errors import EventsWaiting
from ticketlock.tracker.outbox import LEASE_MS, Batch, DeadLetter, Lease, now_ms
from ticketlock.tracker.store import TrackerStore
from ticketlock.tracker.tracker import Tracker

SOON = 10**13


@pytest.fixture(params=["mongo", "dynamo"])
def stores(request: pytest.FixtureRequest, tracker_sections: Any) -> Stores:
    return Stores(request.param, tracker_sections(request.param))


@pytest.fixture
def one(request: pytest.FixtureRequest, tracker_sections: Any) -> Stores:
    return Stores(request.param, tracker_sections(request.param))


def publishing(stores: Any) -> TrackerStore:
    store: TrackerStore = stores.open()
    store.publishes = True
    return store


async def relayed(store: TrackerStore, limit: int) -> list[Batch]:
    """All batches of conversation a."""
    batches = []
    while True:
        lease = Lease.of("relay")
        batch = await store.outbox.take("a", lease, limit)
        if batch is None:
            return batches
        batches.append(batch)
        await store.outbox.advance(batch, lease, batch.first + len(batch.events))


def events_of(batches: list[Batch]) -> list[Any]:
    return [event for batch in batches for event in batch.events]


async def test_parcels_end_at_a_megabyte(stores: Any) -> None:
    """But have one event at least, however large; a write of several transactions is among it."""
    store = publishing(stores)
    claim = await store.claim("a", 1, "x")
    events = [user("x" * 300_000, n) for n in range(5)]
    events += [user("y" * 5_000_000, 5), user("small", 6), user("z" * 12_000_000, 7)]
    await store.append(claim, events[:4])
    await store.append(claim, events[4:])
    batches = await relayed(store, 100)
    assert [len(batch.events) for batch in batches] == [3, 2, 1, 1, 1]
    assert events_of(batches) == events


async def test_a_write_larger_than_any_document_waits(stores: Any) -> None:
    store = publishing(stores)
    claim = await store.claim("a", 1, "x")
    await store.append(claim, [user("before", 0)])
    events = [user(f"{n} " + "x" * 1_000_000, n) for n in range(20)]
    await store.append(claim, events)
    assert (await store.outbox.backlog()).events == 21
    assert events_of(await relayed(store, 100)) == [user("before", 0), *events]


async def test_a_large_replacement_is_refused_before_it_is_written(
    stores: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by a store that publishes nothing itself."""
    monkeypatch.setattr("ticketlock.tracker.fenced._WAIT_FOR_OUTBOX", 0.1)
    store, other = publishing(stores), stores.open()
    await store.save(Tracker.from_dict("a", [user("old", 1)]))
    for replacement in ([], [user("new", 1)], [user("x" * 1_000_000, n) for n in range(20)]):
        for writer in (store, other):
            with pytest.raises(EventsWaiting):
                await writer.update(Tracker.from_dict("a", replacement))
    [batch] = await relayed(store, 10)
    assert list(batch.events) == [user("old", 1)]
    await other.update(Tracker.from_dict("a", [user("new", 1)]))
    assert await store.outbox.waiting(10, SOON) == []


async def test_a_replacement_and_what_is_appended_while_it_runs(stores: Any) -> None:
    """Appends that race with replacements: no event that was acknowledged goes unpublished."""
    store, other = publishing(stores), publishing(stores)
    published: list[str] = []
    done = False

    async def relay() -> None:
        while not done or await store.outbox.waiting(1, SOON):
            published.extend(event["text"] for event in events_of(await relayed(store, 10)))

    async def append(writer: TrackerStore, name: str) -> None:
        for number in range(15):
            await writer.save(Tracker.from_dict("a", [user(f"{name}{number}", 1)]))

    async def replace() -> None:
        for number in range(8):
            while True:  # as the error says: others append all the time
                with contextlib.suppress(EventsWaiting):
                    await other.update(Tracker.from_dict("a", [user(f"r{number}", 1)]))
                    break

    relaying = asyncio.create_task(relay())
    await asyncio.gather(append(store, "s"), append(other, "o"), replace())
    done = True
    await relaying
    expected = {f"{name}{n}" for name in "so" for n in range(15)} | {f"r{n}" for n in range(8)}
    assert set(published) == expected
    assert len(published) == len(expected)


async def test_a_lease_of_a_clock_that_is_off_is_found(stores: Any) -> None:
    store = publishing(stores)
    await store.save(Tracker.from_dict("a", [user("1", 1)]))
    far = now_ms() + 100 * LEASE_MS
    assert await store.outbox.take("a", Lease("ahead", far, far + LEASE_MS), 10) is not None
    assert await store.outbox.waiting(10, now_ms()) == ["a"]


async def test_conversations_that_are_deleted_while_they_are_read(stores: Any) -> None:
    """A batch is of one life: its events are those of the history that it names."""
    store, other = publishing(stores), stores.open()
    await store.connect()
    done = False
    lives = 12

    async def live() -> None:
        nonlocal done
        for life in range(lives):
            await store.save(Tracker.from_dict("a", [user(f"{life}", n) for n in range(120)]))
            await asyncio.sleep(0.01)
            await store.delete("a")
        done = True

    living = asyncio.create_task(live())
    named: dict[int, str] = {}
    while not done:
        batch = await other.outbox.take("a", Lease.of("relay"), 500)
        if batch is not None:
            [text] = {event["text"] for event in batch.events}
            assert named.setdefault(batch.history, text) == text
            assert len(batch.events) == 120
    await living
    assert len(set(named.values())) == len(named)
    assert await other.outbox.take("a", Lease.of("relay"), 10) is None


async def test_a_large_dead_letter(stores: Any) -> None:
    """What no broker takes is often large; and a reason may be long."""
    store = stores.open()
    letter = DeadLetter("a", 5, 1, user("x" * 5_000_000, 1), "too large")
    small = DeadLetter("a", 5, 2, user("2", 1), "ü" * 20_000)
    await store.outbox.add_dead_letters([small, letter])
    first, second = await store.outbox.dead_letters()
    assert first == letter
    assert second.event == small.event
    assert small.reason.startswith(second.reason)
    assert await store.outbox.remove_dead_letter(letter)
    assert [letter.sequence for letter in await store.outbox.dead_letters()] == [2]


# -- what it costs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("one", ["dynamo"], indirect=True)
async def test_dynamo_reads_what_waits_and_no_history(
    one: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither other conversations nor a long history or backlog of this one are read."""
    store = publishing(one)
    store.publishes = False
    for name in "bcdefg":
        await store.save(Tracker.from_dict(name, [user("other", 1)]))
    await store.save(Tracker.from_dict("a", [user("x" * 1000, n) for n in range(2000)]))
    store.publishes = True
    claim = await store.claim("a", 1, "x")
    await store.append(claim, [user("x" * 1000, n) for n in range(2000)])
    await store.append(claim, session(1))
    read: dict[str, int] = {}
    lock = threading.Lock()
    call = DynamoClient.call

    def counted(self: DynamoClient, operation: str, **parameters: Any) -> Any:
        answer = call(self, operation, **parameters)
        with lock:
            read[operation] = read.get(operation, 0) + len(answer.get("Items", ()))
        return answer

    monkeypatch.setattr(DynamoClient, "call", counted)
    assert await store.outbox.waiting(10, SOON) == ["a"]
    assert read == {"scan": 1}
    lease = Lease.of("relay")
    for number in range(3):
        read.clear()
        batch = await store.outbox.take("a", lease, 10)
        assert batch is not None
        assert batch.first == 2000 + 10 * number
        assert read["query"] <= 11
        assert await store.outbox.advance(batch, lease, batch.first + 10)
    assert (await store.outbox.backlog()).events == 2000 + len(session(1)) - 30


@pytest.mark.parametrize("one", ["dynamo"], indirect=True)
async def test_dynamo_finds_what_waits_page_by_page(
    one: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call looks at a bounded number of entries, and the next one goes on behind them."""
    store = publishing(one)
    names = {f"n{n}" for n in range(13)}
    for name in names:
        await store.save(Tracker.from_dict(name, [user("1", 1)]))
    monkeypatch.setattr(_dynamo_outbox, "_PAGE", 3)
    monkeypatch.setattr(_dynamo_outbox, "_PAGES", 2)
    found = [await store.outbox.waiting(100, SOON) for _ in range(3)]
    assert [len(part) <= 6 for part in found] == [True] * 3
    assert {name for part in found for name in part} == names


@pytest.mark.parametrize("one", ["mongo"], indirect=True)
async def test_mongo_reads_what_waits_and_no_history(one: Any) -> None:
    """Of a backlog in buckets, those that a batch needs, and by an index."""
    store = publishing(one)
    claim = await store.claim("a", 1, "x")
    expected = [user(f"{n}", n) for n in range(1500)]
    for start in range(0, 1500, 60):
        await store.append(claim, expected[start : start + 60])
    assert isinstance(store, mongo.MongoTrackerStore)
    seen = _Answers()
    store._db._options = {**store._db._options, "event_listeners": [seen]}
    await store._db.close()  # what comes next makes a client that is listened to
    lease = Lease.of("relay")
    for first in range(0, 60, 20):
        batch = await store.outbox.take("a", lease, 20)
        assert batch is not None
        assert batch.first == first
        assert list(batch.events) == expected[first : first + 20]
        assert await store.outbox.advance(batch, lease, first + 20)
    assert seen.documents <= 3 * 2 * 8
    with MongoClient[dict[str, Any]](one.section["url"]) as client:
        indexes = client[one.section["db"]]["conversations_current"].index_information()
        assert any(index["key"] == [("outbox_at", 1)] for index in indexes.values())
    assert events_of(await relayed(store, 100)) == expected[60:]


class _Answers(CommandListener):
    """Counts the documents that queries have brought."""

    documents = 0

    def started(self, event: Any) -> None: ...

    def failed(self, event: Any) -> None: ...

    def succeeded(self, event: Any) -> None:
        cursor = event.reply.get("cursor", {})
        self.documents += len(cursor.get("firstBatch", ())) + len(cursor.get("nextBatch", ()))
