"""A mark is stored with the events of a turn, or not at all, and the next claim returns it."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest
from contract_events import session, user

from ticketlock.errors import InvalidEvent, StaleFence
from ticketlock.tracker.fenced import FencedTrackerStore, Write
from ticketlock.tracker.store import TrackerStore
from ticketlock.tracker.tracker import Claim, Tracker

#: 64 KiB, the limit, of characters of three bytes and one of one.
LONGEST = "€" * (64 * 1024 // 3) + "x"


async def mark_of(store: TrackerStore, fence: int, sender_id: str = "a") -> str | None:
    return (await store.claim(sender_id, fence, "reader")).mark


async def test_a_mark_is_kept_for_the_next_claims(stores: Any) -> None:
    """Until another one is stored, by whichever process."""
    store = stores.open()
    claim = await store.claim("a", 1, "x")
    assert claim.mark == ""
    await store.append(claim, [user("one", 1)], '{"m1": 0}')
    assert claim.mark == ""  # as it was when it was claimed
    assert await mark_of(stores.open(), 2) == '{"m1": 0}'
    claim = await store.claim("a", 3, "x")
    await store.append(claim, [user("two", 2)])
    assert await mark_of(stores.open(), 4) == '{"m1": 0}'
    claim = await store.claim("a", 5, "x")
    await store.append(claim, session(3), '{"m2": 2}')
    assert await mark_of(stores.open(), 6) == '{"m2": 2}'
    assert await mark_of(store, 1, "another") == ""


async def test_a_mark_without_events(stores: Any) -> None:
    """It is a fenced write that stores no event, and an empty mark is one too."""
    store = stores.open()
    old = await store.claim("a", 1, "x")
    await store.append(old, [], "first")
    assert old.sequence == 0
    assert await store.retrieve_full_tracker("a") is None
    claim = await store.claim("a", 2, "y")
    assert claim.mark == "first"
    with pytest.raises(StaleFence):
        await store.append(old, [], "late")
    await store.append(claim, [user("one", 1)])
    await store.append(claim, [], "")
    assert claim.sequence == 1
    assert await mark_of(store, 3) == ""


async def test_a_mark_without_events_is_not_published(stores: Any) -> None:
    store = stores.open()
    store.publishes = True
    claim = await store.claim("a", 1, "x")
    await store.append(claim, [], "first")
    assert (await store.outbox.backlog()).conversations == 0
    await store.append(claim, [user("one", 1)])
    await store.append(claim, [], "second")
    backlog = await store.outbox.backlog()
    assert (backlog.conversations, backlog.events) == (1, 1)


async def test_an_overtaken_turn_stores_no_mark(stores: Any) -> None:
    """Nor one whose conversation is gone, nor one whose events are refused."""
    paused, successor = stores.open(), stores.open()
    old = await paused.claim("a", 1, "paused")
    new = await successor.claim("a", 2, "successor")
    await successor.append(new, [user("by the successor", 1)], "new")
    for events in ([user("too late", 2)], []):
        with pytest.raises(StaleFence):
            await paused.append(old, events, "old")
    with pytest.raises(InvalidEvent):
        await successor.append(new, [{"no": "event"}], "broken")
    assert await mark_of(successor, 3) == "new"
    await successor.delete("a")
    with pytest.raises(StaleFence):
        await successor.append(new, [], "gone")
    assert await mark_of(successor, 4) == ""  # deleting drops it


async def test_a_repeated_write_leaves_its_mark(stores: Any) -> None:
    """The answer was lost: the claim still stands where it was before, and the mark is stored."""
    store = stores.open()
    claim = await store.claim("a", 1, "x")
    for number, events in enumerate(([user("a", 1), user("a", 1)], [], session(3))):
        before = claim.sequence
        await store.append(claim, events)  # stored, but for the mark
        after, claim.sequence = claim.sequence, before
        await store.append(claim, events, f"mark {number}")
        assert claim.sequence == after == before + len(events)
        claim.sequence = before
        await store.append(claim, events, f"mark {number}")
        claim = await store.claim("a", number + 2, "x")
        assert claim.mark == f"mark {number}"
    tracker = await store.retrieve_full_tracker("a")
    assert len(tracker.events) == 5


async def test_mark_and_events_are_one_step(stores: Any) -> None:
    """A reader in between sees both, or neither. (A repeated claim reads both at once.)"""
    writer, reader = stores.open(), stores.open()
    claim = await writer.claim("a", 1, "x")
    seen = set()
    read = asyncio.Event()

    async def write() -> None:
        for number in range(1, 61):
            await writer.append(claim, [user("one more", number)], str(number))
            if number % 10 == 0:  # a busy writer may keep the reader of SQLite out
                read.clear()
                await read.wait()

    writing = asyncio.ensure_future(write())
    while not writing.done():
        found = await reader.claim("a", 1, "x")
        assert found.mark == (str(found.sequence) if found.sequence else "")
        seen.add(found.sequence)
        read.set()
        for _ in range(random.randrange(5)):  # not in step with the writer
            await asyncio.sleep(0)
    await writing
    assert len(seen) > 5


async def test_a_replaced_history_keeps_its_mark(stores: Any) -> None:
    store = stores.open()
    claim = await store.claim("a", 1, "x")
    await store.append(claim, [user("one", 1), user("two", 2)], "kept ü")
    await store.update(Tracker.from_dict("a", [user("other", 1)]))
    claim = await store.claim("a", 2, "x")
    assert claim.mark == "kept ü"
    claim.tracker.update(user("more", 3))
    await store.save(claim.tracker)
    await store.update(claim.tracker)
    assert await mark_of(store, 3) == "kept ü"


async def test_a_replacement_with_a_mark(stores: Any) -> None:
    """What no public method does yet, but the six operations of a backend promise."""
    store = stores.open()
    assert isinstance(store, FencedTrackerStore)
    await store.claim("a", 1, "x")
    encoded = await store._encoded([user("one", 1)])
    await store._do_write(Write("a", encoded, 0, (1, "x"), replace=True, mark="other"))
    assert await mark_of(store, 2) == "other"


@pytest.mark.parametrize(
    "mark", ["=", " ", "ü€😀\n\"'\\", LONGEST, json.dumps({"m": 2**60})], ids=ascii
)
async def test_marks_are_opaque(stores: Any, mark: str) -> None:
    store = stores.open()
    claim = await store.claim("a", 1, "x")
    await store.append(claim, [user("one", 1)], mark)
    assert await mark_of(stores.open(), 2) == mark


@pytest.mark.parametrize("mark", [LONGEST + "x", "a\0", "\ud800", b"bytes", 1, {}], ids=ascii)
async def test_bad_marks(stores: Any, mark: Any) -> None:
    """They are refused before anything is written."""
    store = stores.open()
    claim = await store.claim("a", 1, "x")
    with pytest.raises(ValueError, match="a mark m"):
        await store.append(claim, [user("one", 1)], mark)
    assert await store.retrieve("a") is None
    assert await mark_of(store, 2) == ""


async def test_a_mark_is_no_event(stores: Any) -> None:
    """It is neither read with a history nor published; an unclaimed write leaves it."""
    store = stores.open()
    store.publishes = True
    claim = await store.claim("a", 1, "x")
    await store.append(claim, [], "unseen")
    assert (await store.outbox.backlog()).events == 0
    assert not await store.exists("a")
    assert await store.keys() == []
    await store.append(claim, [user("one", 1)], "unseen")
    visitor = await store.retrieve("a")
    visitor.update(user("two", 2))
    await store.save(visitor)
    assert (await store.outbox.backlog()).events == 2
    tracker = await store.retrieve_full_tracker("a")
    assert "unseen" not in json.dumps([event.as_dict() for event in tracker.events])
    assert await mark_of(store, 2) == "unseen"


def test_the_default_of_a_claim() -> None:
    """A store that builds its claims as before keeps no marks."""
    assert Claim("a", 1, "x", Tracker("a"), 0).mark is None
