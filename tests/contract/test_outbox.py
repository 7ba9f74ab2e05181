"""What was committed waits until it is published: in the same step, once, in order."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

import pytest
from contract_events import session, slot, user
from ticketlock.stores.sql import schema

from ticketlock.errors import EventsWaiting, StaleFence
from ticketlock.events.stored import StoredEvent
from ticketlock.tracker.outbox import LEASE_MS, Batch, DeadLetter, Lease, now_ms
from ticketlock.tracker.store import TrackerStore
from ticketlock.tracker.tracker import Tracker

SOON = 10**13  # milliseconds; later than everything here


def publishing(stores: Any) -> TrackerStore:
    store: TrackerStore = stores.open()
    store.publishes = True
    return store


async def write(store: TrackerStore, sender_id: str, *texts: str, fence: int = 1) -> None:
    claim = await store.claim(sender_id, fence, "writer")
    await store.append(claim, [user(text, 1) for text in texts])


def said(batch: Batch | None) -> list[Any]:
    return [event["text"] for event in batch.events] if batch else []


async def take(store: TrackerStore, sender_id: str = "a", limit: int = 100) -> Batch:
    batch = await store.outbox.take(sender_id, Lease.of("relay"), limit)
    assert batch is not None
    return batch


async def test_what_was_committed_waits(stores: Any) -> None:
    store = publishing(stores)
    assert await store.outbox.waiting(10, SOON) == []
    assert (await store.outbox.backlog()).since is None
    before = now_ms()
    await write(store, "a", "1", "2")
    assert await stores.open().outbox.waiting(10, SOON) == ["a"]
    assert await store.outbox.waiting(10, before - 1000) == []
    backlog = await store.outbox.backlog()
    assert (backlog.conversations, backlog.events) == (1, 2)
    assert before <= (backlog.since or 0) <= now_ms()
    batch = await take(store)
    assert (batch.sender_id, batch.first, batch.sequence) == ("a", 0, 2)
    assert list(batch.events) == [user("1", 1), user("2", 1)]
    assert await store.outbox.advance(batch, Lease.of("relay"), 2) is False
    assert await store.outbox.waiting(10, SOON) == []
    assert await store.outbox.take("a", Lease.of("relay"), 10) is None
    assert (await store.outbox.backlog()).events == 0


async def test_what_is_not_for_the_outbox_does_not_wait(stores: Any) -> None:
    """History from before there was a broker is not published when one comes."""
    store = stores.open()
    await write(store, "a", "before")
    assert await store.outbox.take("a", Lease.of("relay"), 10) is None
    store.publishes = True
    claim = await store.claim("a", 2, "writer")
    await store.append(claim, [user("after", 2)])
    batch = await take(store)
    assert (batch.first, said(batch)) == (1, ["after"])


async def test_a_refused_write_leaves_nothing_to_publish(stores: Any) -> None:
    store = publishing(stores)
    old = await store.claim("a", 1, "old")
    await store.claim("a", 2, "new")
    with pytest.raises(StaleFence):
        await store.append(old, [user("stale", 1)])
    assert await store.outbox.waiting(10, SOON) == []


async def test_a_retried_append_waits_once(stores: Any) -> None:
    store = publishing(stores)
    claim = await store.claim("a", 1, "writer")
    events = [user("1", 1), user("2", 2)]
    await store.append(claim, events)
    claim.sequence = 0  # the reply was lost
    await store.append(claim, events)
    assert said(await take(store)) == ["1", "2"]


async def test_saved_by_hand_it_waits_too(stores: Any) -> None:
    store = publishing(stores)
    await store.save(Tracker.from_dict("a", [user("by hand", 1)]))
    assert said(await take(store)) == ["by hand"]


async def test_one_relay_has_a_conversation_at_a_time(stores: Any) -> None:
    """A dead one is taken over when its lease is over; what it says then changes nothing."""
    store, other = publishing(stores), stores.open()
    await write(store, "a", "1", "2")
    start = now_ms()
    first = Lease("first", start, start + 1000)
    batch = await store.outbox.take("a", first, 100)
    assert batch is not None
    assert await other.outbox.take("a", Lease("second", start + 999, start + 9000), 100) is None
    assert await other.outbox.waiting(10, start + 999) == []
    assert await other.outbox.waiting(10, start + 1000) == ["a"]
    assert await store.outbox.take("a", first, 100) == batch  # its own, again
    late = Lease("second", start + 1001, start + 9000)
    taken = await other.outbox.take("a", late, 100)
    assert said(taken) == ["1", "2"]
    assert await store.outbox.advance(batch, first, 2) is False
    assert taken is not None
    assert await other.outbox.advance(taken, late, 1) is True
    assert said(await other.outbox.take("a", late, 100)) == ["2"]


async def test_a_lease_of_a_clock_that_is_off_is_void(stores: Any) -> None:
    store = publishing(stores)
    await write(store, "a", "1")
    far = now_ms() + 100 * LEASE_MS
    assert await store.outbox.take("a", Lease("ahead", far, far + LEASE_MS), 10) is not None
    assert said(await take(store)) == ["1"]


async def test_released_it_is_free_at_once(stores: Any) -> None:
    store = publishing(stores)
    await write(store, "a", "1")
    await take(store)
    await store.outbox.release("a", "somebody else")
    assert await store.outbox.take("a", Lease.of("other"), 10) is None
    await store.outbox.release("a", "relay")
    assert await stores.open().outbox.waiting(10, now_ms()) == ["a"]
    assert said(await store.outbox.take("a", Lease.of("other"), 10)) == ["1"]


async def test_in_parts_and_while_it_grows(stores: Any) -> None:
    store = publishing(stores)
    await write(store, "a", *"01234")
    batch = await take(store, limit=2)
    assert (said(batch), batch.sequence) == (["0", "1"], 5)
    claim = await store.claim("a", 2, "later turn")
    await store.append(claim, [user("5", 2)])
    lease = Lease.of("relay")
    assert await store.outbox.advance(batch, lease, 2) is True
    assert (await store.outbox.backlog()).events == 4
    batch = await take(store)
    assert (batch.first, said(batch)) == (2, ["2", "3", "4", "5"])
    assert await store.outbox.advance(batch, lease, 5) is True  # the last one is to be retried
    batch = await take(store)
    assert (batch.first, said(batch)) == (5, ["5"])
    claim = await store.claim("a", 3, "even later turn")
    await store.append(claim, [user("6", 2)])
    assert await store.outbox.advance(batch, lease, 6) is True  # it came in between
    assert said(await take(store)) == ["6"]


async def test_sessions_and_long_histories_are_read_in_parts(stores: Any) -> None:
    store = publishing(stores)
    expected = []
    for turn in range(30):
        claim = await store.claim("a", turn + 1, "writer")
        events = [*(session(turn) if turn % 7 == 3 else ()), *(slot("n", i) for i in range(turn))]
        await store.append(claim, events)
        expected += events
    found: list[Any] = []
    more = True
    while more:
        batch = await take(store, limit=37)
        assert batch.first == len(found)
        found += batch.events
        more = await store.outbox.advance(batch, Lease.of("relay"), len(found))
    assert found == expected


async def test_a_replacement_drops_nothing_that_waits(
    stores: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ticketlock.tracker.fenced._WAIT_FOR_OUTBOX", 0.1)
    store = publishing(stores)
    await write(store, "a", "old")
    tracker = Tracker.from_dict("a", [user("new", 2)])
    try:
        await store.update(tracker)
    except EventsWaiting:
        batch = await take(store)
        assert said(batch) == ["old"]
        await store.outbox.advance(batch, Lease.of("relay"), 1)
        await store.update(tracker)
        batch = await take(store)
        assert (batch.first, said(batch)) == (1, ["new"])
    else:
        assert said(await take(store)) == ["old", "new"]


async def test_a_replacement_waits_for_the_relay(stores: Any) -> None:
    store = publishing(stores)
    await write(store, "a", "old")

    async def relay() -> None:
        await asyncio.sleep(0.1)
        batch = await take(store)
        await store.outbox.advance(batch, Lease.of("relay"), batch.sequence)

    relaying = asyncio.create_task(relay())
    await store.update(Tracker.from_dict("a", [user("new", 2)]))
    await relaying


async def test_a_deleted_conversation_begins_another_history(stores: Any) -> None:
    """What waited goes with it; later events count from 0 under a greater history."""
    store = publishing(stores)
    await write(store, "a", "1", "2")
    batch = await take(store)
    await store.delete("a")
    assert await store.outbox.waiting(10, SOON) == []
    assert await store.outbox.take("a", Lease.of("relay"), 10) is None
    assert await store.outbox.advance(batch, Lease.of("relay"), 2) is False
    await asyncio.sleep(0.002)
    await write(store, "a", "3", fence=2)
    again = await take(store)
    assert (again.first, said(again)) == (0, ["3"])
    assert again.history > batch.history > 0
    assert await store.outbox.advance(batch, Lease.of("relay"), 1) is False  # of the other one
    assert said(await take(store)) == ["3"]


async def test_the_longest_waiting_comes_first(stores: Any) -> None:
    store = publishing(stores)
    names = ["b", "hostile }{*[?] %7D id", "a", "ü" * 40, "-"]
    for name in names:
        await write(store, name, "x")
        await asyncio.sleep(0.003)
    assert await store.outbox.waiting(10, SOON) == names
    assert await store.outbox.waiting(2, SOON) == names[:2]
    for name in names:
        assert said(await take(store, name)) == ["x"]


async def test_dead_letters(stores: Any) -> None:
    store = stores.open()
    assert await store.outbox.dead_letters() == []
    letters = [
        DeadLetter("b", 5, 10, user("ü \0 x", 1), "it is\nrefused"),
        # as an outbox gives it
        DeadLetter("a", 5, 2, StoredEvent(json.dumps(user("2", 1))), "too large"),
        DeadLetter("a", 5, 10, user("10", 1), "too large"),
    ]
    await store.outbox.add_dead_letters(letters)
    await store.outbox.add_dead_letters(letters[1:2])  # again, after a lost reply
    assert await stores.open().outbox.dead_letters() == [letters[1], letters[2], letters[0]]
    assert await store.outbox.dead_letters(1) == [letters[1]]
    assert await store.outbox.remove_dead_letter(letters[1]) is True
    assert await store.outbox.remove_dead_letter(letters[1]) is False
    assert await store.outbox.dead_letters() == [letters[2], letters[0]]


async def test_several_at_once(stores: Any) -> None:
    """Each of them is taken and moved on as it would be alone."""
    store = publishing(stores)
    for name in "abcd":
        await write(store, name, f"{name}1", f"{name}2", f"{name}3")
    assert await store.outbox.take("b", Lease.of("other"), 1)
    mine, names = Lease.of("relay"), ["a", "b", "none", "c", "d"]
    found = await store.outbox.take_each(names, mine, 2)
    taken = [batch for batch in found if batch is not None]
    assert [name for name, batch in zip(names, found, strict=True) if batch] == ["a", "c", "d"]
    assert [said(batch) for batch in taken] == [[f"{n}1", f"{n}2"] for n in "acd"]
    await store.outbox.release("d", "relay")
    assert await store.outbox.take("d", Lease.of("other"), 1)
    reached = list(zip(taken, (1, 2, 2), strict=True))
    assert await store.outbox.advance_each(reached, mine) == [True, True, False]
    assert [said(p) for p in await store.outbox.take_each(["a", "c"], mine, 9)] == [
        ["a2", "a3"], ["c3"],
    ]  # fmt: skip
    (last,) = await store.outbox.take_each(["c"], mine, 9)
    assert last is not None
    assert await store.outbox.advance_each([(last, 3)], mine) == [False]
    assert sorted(await store.outbox.waiting(10, SOON)) == ["a", "b", "d"]
    assert (await store.outbox.backlog()).events == 2 + 3 + 3


@pytest.mark.parametrize("stores", ["postgres", "mariadb"], indirect=True)
async def test_a_turn_that_holds_its_row_delays_no_other(stores: Any) -> None:
    """Of several conversations those that are free are taken, and moved on, at once."""
    store = publishing(stores)
    for name in "ab":
        await write(store, name, "1", "2")
    engine, mine = await store._open(), Lease.of("relay")

    async def row(name: str) -> Any:
        async with engine.connect() as connection:
            return (await connection.execute(schema.row, {"conversation": name})).one()

    async def so(name: str, column: str, value: Any) -> None:
        for _ in range(200):
            if getattr(await row(name), column) == value:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"{name} waits for another conversation: {column} is not {value!r}")

    async with AsyncExitStack() as ended:  # a relay that waits has a connection

        def begin(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
            task = asyncio.create_task(work)
            ended.push_async_callback(asyncio.wait, {task})
            return task

        async with engine.begin() as turn:
            await turn.execute(schema.locked, {"conversation": "b"})
            taking = begin(store.outbox.take_each(["a", "b"], mine, 9))
            await so("a", "relay", "relay")
            assert not taking.done()
        taken = [batch for batch in await taking if batch is not None]
        assert [said(batch) for batch in taken] == [["1", "2"]] * 2
        async with engine.begin() as turn:
            await turn.execute(schema.locked, {"conversation": "b"})
            reached = list(zip(taken, (2, 1), strict=True))
            moving = begin(store.outbox.advance_each(reached, mine))
            await so("a", "outbox", None)
            assert not moving.done()
        assert await moving == [False, True]
        assert (await row("b")).outbox == 1


async def test_relays_and_writers_at_once(stores: Any) -> None:
    """Of 120 events by three writers each is taken, in order, by whoever relays it."""
    store = publishing(stores)
    published: dict[str, list[int]] = {name: [] for name in "abc"}
    done = asyncio.Event()

    async def writer(name: str) -> None:
        for number in range(0, 40, 4):
            claim = await store.claim(name, number + 1, "writer")
            await store.append(claim, [user(str(number + i), 1) for i in range(4)])

    async def relay(me: str, outbox: Any) -> None:
        over = False
        while not over:
            over = done.is_set()  # once more after the end
            for name in await outbox.waiting(10, SOON):
                lease = Lease.of(me)
                batch = await outbox.take(name, lease, random.choice((1, 3, 100)))
                if batch is not None:
                    # What a broker would have; a repeat is dropped as a consumer does.
                    for number, event in enumerate(batch.events, batch.first):
                        assert event["text"] == str(number)
                        if number == len(published[name]):
                            published[name].append(number)
                        assert number < len(published[name]), "left out"
                    end = batch.first + len(batch.events)
                    await outbox.advance(batch, lease, end)
                    await outbox.release(name, me)
            await asyncio.sleep(0.001)

    relays = [asyncio.create_task(relay(f"r{i}", stores.open().outbox)) for i in range(3)]
    await asyncio.gather(*(writer(name) for name in "abc"))
    # A relay that has found a fault ends at once, and says so below.
    while not any(relay.done() for relay in relays) and await store.outbox.waiting(10, SOON):
        await asyncio.sleep(0.01)
    done.set()
    await asyncio.gather(*relays)
    assert published == {name: list(range(40)) for name in "abc"}
