"""Conversations of the documented system open, continue and export, without loss."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from contract_events import LEGACY_TYPES, session, user
from servers import dynamo, mongo, redis_tracker
from servers.documented import FORMATS, Format

from ticketlock.endpoints.registry import create_tracker_store
from ticketlock.errors import StaleFence, UnreadableHistory
from ticketlock.tracker.store import TrackerStore

MANAGERS = {
    "redis": redis_tracker.tracker_sections,
    "redis-cluster": redis_tracker.cluster_sections,
    "mongo": mongo.tracker_sections,
    "dynamo": dynamo.tracker_sections,
}

#: Two sessions; floats with every digit, an empty list, a null and text beyond ASCII.
HISTORY = [
    *session(13423.23434623),
    user("grüße 🙂", 1700000000.1234567),
    *session(1700003600.3),
    {**user("last", 1700003601.7), "metadata": {"list": [], "deep": {"x": [None, 0.1, 1e22]}}},
]

Old = tuple[Format, dict[str, Any]]


@pytest.fixture(scope="module", params=list(MANAGERS))
def backend(request: pytest.FixtureRequest) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    with ExitStack() as stack:
        yield request.param, stack.enter_context(MANAGERS[request.param]())


@pytest.fixture
def old(backend: Any) -> Old:
    name, section = backend
    return FORMATS[name], section()


async def history(store: TrackerStore, sender_id: str = "a") -> list[dict[str, Any]]:
    tracker = await store.retrieve_full_tracker(sender_id)
    return [event.as_dict() for event in tracker.events] if tracker else []


async def test_reading_leaves_it_as_it_is(old: Old) -> None:
    """All that reads can be done before the first write, and beside the old version."""
    form, section = old
    form.write(section, "a", HISTORY)
    form.write(section, "with {braces} and: more", [user("hi", 5)])
    async with create_tracker_store(section) as store:
        assert await history(store) == HISTORY
        latest = await store.retrieve("a")
        assert [event.as_dict() for event in latest.events] == HISTORY[4:]
        assert sorted(await store.keys()) == ["a", "with {braces} and: more"]
        assert await store.exists("a")
        assert not await store.exists("b")
        counts = [await store.count_conversations(t) for t in (0, 6, 1700003601.7, 2e9)]
        assert counts == [2, 1, 1, 0]
    assert form.leftovers(section) == 2


@pytest.mark.parametrize("sender_id", ["a", "{a}:b}", "123"])
async def test_a_claim_carries_it_over(old: Old, sender_id: str) -> None:
    form, section = old
    form.write(section, sender_id, HISTORY)
    async with create_tracker_store(section) as store:
        claim = await store.claim(sender_id, 7, "x")
        assert [event.as_dict() for event in claim.tracker.events] == HISTORY[4:]
        assert claim.sequence == len(HISTORY)
        await store.append(claim, [user("new", 1700003700.0)])
        assert await history(store, sender_id) == [*HISTORY, user("new", 1700003700.0)]
        assert await store.keys() == [sender_id]
        assert await store.count_conversations(1700003650) == 1
        with pytest.raises(StaleFence):
            await store.claim(sender_id, 6, "y")
    assert form.leftovers(section) == 0


async def test_a_save_continues_it(old: Old) -> None:
    """Of its own tracker, and of one made by hand, which adds nothing."""
    form, section = old
    form.write(section, "a", HISTORY)
    async with create_tracker_store(section) as store:
        tracker = await store.retrieve("a")
        await store.save(tracker)
        tracker.update(user("new", 1700003700.0))
        await store.save(tracker)
        await store.save(tracker)
        assert await history(store) == [*HISTORY, user("new", 1700003700.0)]


async def test_updates_and_deletes_reach_it(old: Old) -> None:
    """Nothing of a conversation that is replaced or deleted comes back."""
    form, section = old
    form.write(section, "a", HISTORY)
    form.write(section, "b", HISTORY)
    async with create_tracker_store(section) as store:
        tracker = await store.retrieve_full_tracker("a")
        del tracker.events[1:]
        await store.update(tracker)
        assert await history(store) == HISTORY[:1]
        assert await store.delete("b")
        assert not await store.exists("b")
        assert not await store.delete("b")
        assert await store.keys() == ["a"]
    assert form.leftovers(section) == 0


async def test_many_carry_it_over_at_once(old: Old) -> None:
    """It is carried over once, whoever is first."""
    form, section = old
    form.write(section, "a", HISTORY)

    async def turn(fence: int) -> bool:
        async with create_tracker_store(section) as store:
            try:
                claim = await store.claim("a", fence, f"owner {fence}")
                assert [event.as_dict() for event in claim.tracker.events][:4] == HISTORY[4:]
                await store.append(claim, [user(str(fence), fence)])
            except StaleFence:
                return False
            return True

    won = await asyncio.gather(*(turn(fence) for fence in range(1, 7)))
    async with create_tracker_store(section) as store:
        stored = await history(store)
    assert stored[: len(HISTORY)] == HISTORY
    assert len(stored) == len(HISTORY) + sum(won)
    assert won[-1]


async def test_every_type_of_event(old: Old) -> None:
    form, section = old
    # What these databases could not hold natively: integers over 64 bits, numbers over 1e125;
    # and moto cannot give back a map with an empty key.
    beyond = (str(2**70), "e+300", "'': 2")
    events = [e for e in LEGACY_TYPES if not any(text in repr(e) for text in beyond)]
    form.write(section, "a", events)
    async with create_tracker_store(section) as store:
        assert await history(store) == events
        assert await store.count_conversations() == 1
        await store.claim("a", 1, "x")
        assert await history(store) == events


#: What another program goes on to store beside a converted conversation, and what is new in it.
BESIDE = {
    "begun anew": ([*session(1700004000.5), user("theirs", 1700004001.0)], 4),
    "of a turn that had begun before": ([*HISTORY[4:], user("theirs", 1700003602.5)], 1),
    "left by a process that was killed": (HISTORY, 0),
    "a copy of all with other fields, and without one": (
        [{**event, "metadata": {"stored": "again"}} for event in HISTORY[:2] + HISTORY[3:]]
        + [user("theirs", 1700004001.0)],
        1,
    ),
    "with no event in common": ([user("theirs", 1.0), user("theirs", 2.0)], 2),
}


@pytest.mark.parametrize("backend", ["redis", "mongo", "dynamo"], indirect=True)
@pytest.mark.parametrize("case", list(BESIDE))
async def test_what_another_program_writes_beside_it_is_added(old: Old, case: str) -> None:
    """Each event once: to what is read at once, and to what is stored by the next claim."""
    form, section = old
    written, count = BESIDE[case]
    form.write(section, "a", HISTORY)
    async with create_tracker_store(section) as store:
        ours = user("ours", 1700003700.0)
        await store.append(await store.claim("a", 1, "x"), [ours])
        form.write(section, "a", written)
        if section["type"] == "dynamo":
            return await refused(store, section["table_name"])
        expected = [*HISTORY, ours, *written[len(written) - count :]]
        assert await history(store) == expected
        assert form.leftovers(section) == 1
        claim = await store.claim("a", 2, "y")
        assert claim.sequence == len(expected)
        assert form.leftovers(section) == 0
        await store.append(claim, [user("last", 1700005000.0)])
        assert await history(store) == [*expected, user("last", 1700005000.0)]
        assert await store.keys() == ["a"]


async def refused(store: TrackerStore, table: str) -> None:
    """It has replaced the item that referred to all events: nothing less is read, or written."""
    for attempt in (
        store.retrieve("a"),
        store.retrieve_full_tracker("a"),
        store.claim("a", 2, "y"),
    ):
        with pytest.raises(UnreadableHistory, match=f"has replaced the item of 'a' in {table}"):
            await attempt
    assert await store.delete("a")
    assert not (await store.claim("a", 3, "z")).tracker.events
