"""What every tracker store promises. T-numbers name known defects of others that ours lack."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from contract_events import LEGACY_TYPES, action, session, slot, user

from ticketlock.errors import ConfigurationError, InvalidConversationId, InvalidEvent
from ticketlock.events import SlotSet
from ticketlock.tracker.store import TrackerStore
from ticketlock.tracker.tracker import EventVerbosity, Tracker


async def events_of(store: TrackerStore, sender_id: str = "a") -> list[dict[str, Any]]:
    tracker = await store.retrieve_full_tracker(sender_id)
    return [event.as_dict() for event in tracker.events] if tracker else []


async def filled(store: TrackerStore, *events: dict[str, Any], sender_id: str = "a") -> None:
    claim = await store.claim(sender_id, 1, "filler")
    await store.append(claim, events)


async def test_unknown_conversation(stores: Any) -> None:
    """Nothing is None, and asking for it stores nothing (T31)."""
    store = stores.open()
    assert await store.retrieve("a") is None
    assert await store.retrieve_full_tracker("a") is None
    assert not await store.exists("a")
    assert await store.create_tracker("a", append_action_listen=False) == Tracker("a")
    await store.claim("a", 1, "x")
    assert await store.retrieve("a") is None
    assert await store.keys() == []
    assert not await store.delete("b")


async def test_get_or_create(stores: Any) -> None:
    store = stores.open(domain={"slots": {"city": {"initial_value": "Rome"}, "n": None}})
    tracker = await store.get_or_create_tracker("a")
    assert [event.as_dict()["name"] for event in tracker.events] == ["action_listen"]
    assert tracker.slots == {"city": "Rome", "n": None}
    again = await store.get_or_create_tracker("a")
    assert again == tracker
    assert await store.exists("a")
    assert await store.get_or_create_full_tracker("a") == tracker


async def test_history_survives_sessions(stores: Any) -> None:
    """Saving the latest session keeps the earlier ones (T1), with their first event (T15)."""
    store = stores.open()
    await filled(store, *session(0), user("one", 3), *session(10), user("two", 13))
    latest = await store.retrieve("a")
    assert [e.as_dict() for e in latest.events] == [*session(10), user("two", 13)]
    latest.update(user("three", 14))
    await store.save(latest)
    assert len(await events_of(store)) == 9
    assert (await events_of(store))[:3] == session(0)


async def test_sessions_go_by_order_not_by_time(stores: Any) -> None:
    """Timestamps that go back, or are equal, neither add nor drop events (T14)."""
    store = stores.open()
    history = [user("late", 900), *session(500), user("early", 5), user("same", 500)]
    await filled(store, *history)
    assert await events_of(store) == history
    latest = await store.retrieve("a")
    assert [e.as_dict() for e in latest.events] == history[1:]


async def test_saving_twice_adds_nothing(stores: Any) -> None:
    """One tracker, a copy made by hand, or one from another replica (T2, T3)."""
    store = stores.open()
    tracker = Tracker.from_dict("a", [*session(0), user("one", 3), *session(10)])
    await store.save(tracker)
    await store.save(tracker)
    history = [event.as_dict() for event in tracker.events]
    await store.save(Tracker.from_dict("a", history))
    full = await store.retrieve_full_tracker("a")
    await store.save(full)
    other = stores.open()
    await other.save(full)
    await other.save(await store.retrieve("a"))
    assert await events_of(store) == history
    full.update(user("new", 20))
    await other.save(full)
    await store.save(full)
    assert await events_of(store) == [*history, user("new", 20)]


async def test_equal_events_are_all_kept(stores: Any) -> None:
    """A genuine repetition, to the timestamp, is no duplicate (T27d)."""
    store = stores.open()
    tracker = await store.get_or_create_tracker("a", append_action_listen=False)
    for _ in range(3):
        tracker.update(user("again", 1))
        await store.save(tracker)
    assert len(await events_of(store)) == 3


async def test_two_unclaimed_writers_lose_nothing(stores: Any) -> None:
    """Both had read the same state; both have their events stored (T13, T16)."""
    one, other = stores.open(), stores.open()
    await filled(one, *session(0))
    trackers = [await store.retrieve("a") for store in (one, other)]
    for number, tracker in enumerate(trackers):
        tracker.update(user(f"from {number}", 5))
    await asyncio.gather(one.save(trackers[0]), other.save(trackers[1]))
    texts = [event.get("text") for event in await events_of(one)]
    assert sorted(filter(None, texts)) == ["from 0", "from 1"]
    assert await one.keys() == ["a"]


async def test_first_events_of_many_at_once(stores: Any) -> None:
    """A conversation that several create at once is one conversation (T16)."""
    writers = [stores.open() for _ in range(4)]
    await asyncio.gather(
        *(w.save(Tracker.from_dict("a", [user(f"{n}", n)])) for n, w in enumerate(writers))
    )
    assert sorted(event["text"] for event in await events_of(writers[0])) == list("0123")
    assert await writers[0].keys() == ["a"]


async def test_update_replaces(stores: Any) -> None:
    """A shorter, another and an empty history: the same in every store (T9)."""
    store = stores.open()
    await filled(store, *session(0), user("one", 3))
    tracker = Tracker.from_dict("a", [*session(7), slot("x", 1)])
    await store.update(tracker)
    await store.update(tracker)
    assert await events_of(store) == [*session(7), slot("x", 1)]
    tracker.update(user("more", 9))
    await store.save(tracker)
    assert len(await events_of(store)) == 5
    assert (await store.claim("a", 2, "x")).sequence == 13  # 4 + 4 + 4 + 1: none used twice
    await store.update(Tracker("a"))
    assert await store.retrieve("a") is None
    assert await store.keys() == []
    await filled(stores.open(), user("anew", 1), sender_id="b")
    assert await store.keys() == ["b"]


async def test_keys_and_delete(stores: Any) -> None:
    """Ids as they were given (T18), however strange; deleting one touches no other."""
    store = stores.open()
    ids = ["a", "A", "a ", "ä", "a*", "[a]?", "{a}:b|c", "a/b", "🙂", "a%_", "'\"\\", "x" * 255]
    for sender_id in ids:
        await filled(store, user(sender_id, 1), sender_id=sender_id)
    assert sorted(await store.keys()) == sorted(ids)
    for sender_id in ids:
        assert [e["text"] for e in await events_of(store, sender_id)] == [sender_id]
    assert await store.delete("a")
    assert not await store.delete("a")
    assert sorted(await store.keys()) == sorted(ids[1:])
    await filled(store, user("new", 1))
    assert [e["text"] for e in await events_of(store)] == ["new"]


async def test_count_conversations(stores: Any) -> None:
    store = stores.open()
    await filled(store, user("old", 10), user("new", 1_700_000_000.5))
    await filled(store, user("old", 10), sender_id="b")
    await filled(store, {"event": "listen to this"}, sender_id="c")
    counts = [await store.count_conversations(t) for t in (0.0, 10, 11, 1_700_000_000.5, 2e9)]
    assert counts == [3, 2, 1, 1, 0]


async def test_all_events_come_back_as_they_were(stores: Any) -> None:
    """Unknown types, unknown fields, big numbers, a NUL character, timestamp 0, a topic (T8)."""
    store = stores.open()
    await filled(store, *LEGACY_TYPES)
    assert await events_of(store) == LEGACY_TYPES
    tracker = await store.retrieve("a")
    state = tracker.current_state(EventVerbosity.ALL)
    assert state["events"] == LEGACY_TYPES
    assert [list(event) for event in state["events"]] == [list(event) for event in LEGACY_TYPES]


@pytest.mark.parametrize(
    "bad",
    [
        {"event": "slot", "name": "x", "value": float("nan")},
        {"event": "slot", "name": "x", "value": float("inf")},
        {"event": "slot", "name": "x", "value": "\ud800"},
        {"event": "slot", "name": "x", "value": {1: 2}},
        {"event": "slot", "name": "x", "value": b"bytes"},
        {"event": "slot", "name": "x", "value": {1, 2}},
        {"event": 5},
        {"name": "x"},
        "text",
    ],
    ids=repr,
)
async def test_bad_events_are_refused(stores: Any, bad: Any) -> None:
    """The whole call, before anything is written; the error names the event's place."""
    store = stores.open()
    claim = await store.claim("a", 1, "x")
    with pytest.raises(InvalidEvent, match="event 1"):
        await store.append(claim, [user("good", 1), bad])
    assert await store.retrieve("a") is None
    await store.append(claim, [user("good", 1)])
    assert len(await events_of(store)) == 1


@pytest.mark.parametrize("bad", ["", 5, None, "a\0b", "\ud800", "x" * 70_000], ids=ascii)
async def test_bad_ids_are_refused(stores: Any, bad: Any) -> None:
    store = stores.open()
    if isinstance(bad, str) and len(bad) > 1000 and store.max_id_length is None:
        pytest.skip("this store keeps ids of any length")
    for call in (store.retrieve(bad), store.claim(bad, 1, "x"), store.delete(bad)):
        with pytest.raises(InvalidConversationId):
            await call
    with pytest.raises(InvalidConversationId):
        await store.save(Tracker(bad, [SlotSet("x", 1)]))


async def test_a_big_event(stores: Any) -> None:
    """A megabyte is stored whole, or refused with a way out (T17)."""
    store = stores.open()
    claim = await store.claim("a", 1, "x")
    big = user("ü" + "x" * 1_000_000, 1)
    try:
        await store.append(claim, [user("before", 0), big])
    except InvalidEvent as error:
        assert "elsewhere" in str(error)  # noqa: PT017  # both outcomes are allowed
        assert await store.retrieve("a") is None
    else:
        assert await events_of(store) == [user("before", 0), big]


async def test_max_event_history_limits_nothing_that_is_stored(stores: Any) -> None:
    """It belongs to one tracker (T10, T11)."""
    store = stores.open()
    tracker = await store.get_or_create_tracker("a", max_event_history=2)
    for number in range(5):
        tracker.update(user(str(number), number))
        await store.save(tracker)
    assert len(tracker.current_state(EventVerbosity.ALL)["events"]) == 2
    assert len(await events_of(store)) == 6
    other = await store.get_or_create_tracker("a")
    assert len(other.current_state(EventVerbosity.ALL)["events"]) == 6


async def test_stores_do_not_publish(stores: Any) -> None:
    """A broker that fails, or is slow, cannot keep events from being stored (T4, T5, T6)."""

    class Broken:
        def publish(self, event: Any) -> None:
            raise AssertionError("a store must not publish")

    store = stores.open(event_broker=Broken())
    await filled(store, user("one", 1))
    await store.save(Tracker.from_dict("b", [user("two", 1)]))
    assert sorted(await store.keys()) == ["a", "b"]
    assert isinstance(store.event_broker, Broken)


async def test_order_is_the_order_of_appending(stores: Any) -> None:
    """One append, many appends, a new session without a user message (T27a-c)."""
    store = stores.open()
    claim = await store.claim("a", 1, "x")
    events = [action(f"action_{n}", 7) for n in range(30)] + session(7) + session(7)
    await store.append(claim, events[:20])
    for event in events[20:]:
        await store.append(claim, [event])
    assert await events_of(store) == events
    assert claim.sequence == len(events)


async def test_connects_beside_one_another(stores: Any) -> None:
    """Each begins when it likes: when another one has just ended, too."""
    store = stores.open()

    async def connect(ticks: int) -> None:
        for _ in range(ticks):
            await asyncio.sleep(0)
        await store.connect()

    await asyncio.gather(*(connect(ticks) for ticks in range(300)))


@pytest.mark.quiet
async def test_the_event_loop_runs_on(stores: Any) -> None:
    """While a store works, others' turns do too (T20)."""
    store = stores.open()
    await store.connect()
    slowest, done = 0.0, False

    async def watch() -> None:
        nonlocal slowest
        while not done:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            slowest = max(slowest, time.perf_counter() - before)

    watcher = asyncio.create_task(watch())
    for number in range(20):
        await filled(store, *session(0), sender_id=str(number))
    done = True
    await watcher
    assert slowest < 0.25


async def test_unknown_settings_are_errors(stores: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"tracker_store: .*colour"):
        stores.open(colour="red")
