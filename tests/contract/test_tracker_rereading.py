"""A turn sees what is stored now, whatever the same process has read of it before."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from contract_events import LEGACY_TYPES, session, slot, user

from ticketlock.errors import StaleFence
from ticketlock.tracker.store import TrackerStore
from ticketlock.tracker.tracker import Tracker


async def claimed(store: TrackerStore, fence: int) -> list[dict[str, Any]]:
    """The events that a turn reads."""
    claim = await store.claim("a", fence, "x")
    return [event.as_dict() for event in claim.tracker.events]


async def test_what_another_process_has_added(stores: Any) -> None:
    """Its turns are between ours, and ours between its."""
    ours, others = stores.open(), stores.open()
    expected = session(0)
    await ours.append(await ours.claim("a", 1, "x"), expected)
    for fence in range(2, 30, 2):
        for store, number in ((ours, fence), (others, fence + 1)):
            claim = await store.claim("a", number, "x")
            assert [event.as_dict() for event in claim.tracker.events] == expected
            new = [user(f"message {number}", number), slot("count", {"n": [number]})]
            await store.append(claim, new)
            expected = expected + new
    full = await others.retrieve_full_tracker("a")
    assert full is not None
    assert [event.as_dict() for event in full.events] == expected


async def test_events_are_the_same_each_time(stores: Any) -> None:
    """Of each type, and with each field, as they were when they were read first."""
    store = stores.open()
    events = [event for event in LEGACY_TYPES if len(str(event.get("event"))) < 200]
    await store.append(await store.claim("a", 1, "x"), events)
    read = await store.retrieve_full_tracker("a")  # parses all of them
    assert read is not None
    first = (await store.claim("a", 2, "x")).tracker
    again = (await store.claim("a", 3, "x")).tracker
    for parsed, one, two in zip(read.events, first.events, again.events, strict=True):
        assert type(parsed) is type(one) is type(two)
        shown, kept = vars(parsed), vars(one)
        assert kept | {"_wire": shown.get("_wire")} == shown
        assert vars(two) == kept
        assert list(parsed.as_dict().items()) == list(one.as_dict().items())
    assert again == first
    assert again.current_state() == first.current_state()


async def test_a_tracker_can_be_copied_and_pickled(stores: Any) -> None:
    """As a bot does that asks another process."""
    store = stores.open()
    await store.append(await store.claim("a", 1, "x"), [user("one", 1), slot("city", "Rome")])
    claim = await store.claim("a", 2, "x")
    for number, one in enumerate((claim.tracker, await store.retrieve("a"))):
        assert one is not None
        for copied in (copy.deepcopy(one), pickle.loads(pickle.dumps(one)), copy.copy(one)):
            assert copied == one
            assert copied.slots == {"city": "Rome"}
        assert copy.copy(one).events is one.events
        assert number or pickle.loads(pickle.dumps(claim)).tracker == one


async def test_a_tracker_outlives_its_claim(stores: Any) -> None:
    """What is saved is fenced all the same, and a later turn does not change what it shows."""
    store = stores.open()
    await store.append(await store.claim("a", 1, "x"), [user("one", 1)])
    tracker = (await store.claim("a", 2, "x")).tracker  # nobody has the claim
    tracker.update(user("two", 2))
    await store.save(tracker)
    late = (await store.claim("a", 3, "x")).tracker
    await store.append(await store.claim("a", 4, "x"), [user("three", 3)])
    assert [event.text for event in (await store.claim("a", 5, "x")).tracker.events] == [
        "one", "two", "three",
    ]  # fmt: skip
    assert [event.text for event in late.events] == ["one", "two"]
    late.update(user("late", 4))
    with pytest.raises(StaleFence):
        await store.save(late)


async def test_a_history_that_was_replaced(stores: Any) -> None:
    """Only an event in its middle differs, and is as long as it was."""
    ours, others = stores.open(), stores.open()
    events = [user("one", 1), user("two", 2), user("six", 3)]
    await ours.append(await ours.claim("a", 1, "x"), events)
    assert await claimed(ours, 2) == events
    changed = [events[0], user("ten", 2), events[2]]
    await others.update(Tracker.from_dict("a", changed))
    assert await claimed(ours, 3) == changed


async def test_a_history_that_became_shorter(stores: Any) -> None:
    ours, others = stores.open(), stores.open()
    events = [user("one", 1), user("two", 2), user("six", 3)]
    await ours.append(await ours.claim("a", 1, "x"), events)
    assert await claimed(ours, 2) == events
    await others.update(Tracker.from_dict("a", events[:1]))
    assert await claimed(ours, 3) == events[:1]
    await others.append(await others.claim("a", 4, "y"), session(5))
    assert await claimed(ours, 5) == session(5)


async def test_a_history_that_was_deleted(stores: Any) -> None:
    """The new one begins as the old one did."""
    ours, others = stores.open(), stores.open()
    events = [user("one", 1), user("two", 2)]
    await ours.append(await ours.claim("a", 1, "x"), events)
    assert await claimed(ours, 2) == events
    await others.delete("a")
    assert await claimed(ours, 3) == []
    await others.append(await others.claim("a", 4, "y"), events[:1])
    assert await claimed(ours, 5) == events[:1]


async def test_what_a_bot_changes_in_an_event_it_has_read(stores: Any) -> None:
    """It ends with the turn: the next one reads what is stored."""
    store = stores.open()
    events = [user("one", 1), slot("cart", {"items": ["tea"]}), user("two", 2)]
    await store.append(await store.claim("a", 1, "x"), events)
    for fence in (2, 3, 4):
        claim = await store.claim("a", fence, "x")
        assert [event.as_dict() for event in claim.tracker.events] == events
        one, cart, two = (vars(event) for event in claim.tracker.events)
        one["parse_data"]["intent"]["name"] = "changed"
        one["metadata"]["changed"] = True
        cart["value"]["items"].append("changed")
        claim.tracker.events[2].as_dict()["parse_data"]["entities"].append("changed")
        two["text"] = "changed"
        claim.tracker.events.reverse()
