"""What is kept of histories that were read: it saves parsing, is bounded, and is never shown again."""

from __future__ import annotations

import itertools
import json
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from ticketlock.events import BotUttered, SlotSet, UnknownEvent, UserUttered
from ticketlock.events.event import EVENT_TYPES, Event
from ticketlock.plain_json import weight
from ticketlock.tracker import stored as module
from ticketlock.tracker.stored import RecentEvents, StoredEvents, Unmade
from ticketlock.tracker.tracker import Tracker


class Counted(StoredEvents):
    """Says from which event on it was parsed."""

    parsed_from: int | None = None

    def parse(self, start: int) -> Sequence[Mapping[str, Any]]:
        assert self.parsed_from is None  # once
        self.parsed_from = start
        return super().parse(start)


def texts(*events: Event) -> list[str]:
    return [json.dumps(event.as_dict()) for event in events]


HELLO = texts(UserUttered("hello", timestamp=1.0, parse_data={"entities": []}))
MORE = texts(SlotSet("cart", ["tea"], timestamp=2.0), BotUttered("bye", timestamp=3.0))


def read(recent: RecentEvents, name: str, some: Sequence[str]) -> int | None:
    """Read a history; returns the place of the first event that was parsed."""
    stored = Counted(list(some))
    made, size = recent.made(name, stored)
    events = made.make() if isinstance(made, Unmade) else made
    assert [event.as_dict() for event in events] == [json.loads(text) for text in some]
    assert size == weight(some)
    return stored.parsed_from


def test_only_new_events_are_parsed() -> None:
    recent = RecentEvents()
    assert read(recent, "a", HELLO) == 0
    assert read(recent, "a", HELLO) is None
    assert read(recent, "a", HELLO + MORE) == 1
    assert read(recent, "b", HELLO + MORE) == 0
    assert read(recent, "a", HELLO + MORE) is None
    assert read(recent, "a", HELLO) == 0  # shorter: another history
    assert read(recent, "a", MORE) == 0
    recent.forget("a")
    recent.forget("never read")
    assert read(recent, "a", MORE) == 0


def test_many_claims_make_few_parts() -> None:
    recent = RecentEvents()
    for length in range(1, 100):
        assert read(recent, "a", HELLO * length) == length - 1
    assert len(recent._kept["a"].parts) < 20


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The conversation that was not read for longest goes first; one too large is not kept."""
    recent = RecentEvents()
    read(recent, "a", HELLO)
    one = recent._bytes
    assert one > len(HELLO[0])
    monkeypatch.setattr(module, "MAX_KEPT", 3 * one)
    for name in ("b", "c", "a", "d"):
        read(recent, name, HELLO)
    assert [*recent._kept] == ["c", "a", "d"]
    assert recent._bytes == 3 * one
    read(recent, "large", HELLO * 20)
    assert (recent._kept, recent._bytes) == ({}, 0)


def test_what_is_kept_is_counted_to_the_end() -> None:
    """A turn makes its events when it likes: also when its conversation was read again, or is kept no more."""
    recent, unmade = RecentEvents(), []
    for length in range(1, 60):
        for name in ("a", "b"):
            made, _ = recent.made(name, StoredEvents(HELLO * length))
            assert isinstance(made, Unmade)
            unmade.append((made, length))
        assert len(made.make()) == length
    recent.forget("a")
    for made, length in unmade:
        assert len(made.make()) == length
    recent.forget("b")
    assert recent._bytes == 0


def test_conversations_without_events_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KEPT", 10_000)
    recent = RecentEvents()
    for number in range(100):
        read(recent, str(number), [])
    assert 0 < len(recent._kept) <= 50


def test_what_no_turn_reads_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    recent, now = RecentEvents(), 1000.0
    monkeypatch.setattr(module, "clock", lambda: now)
    read(recent, "a", HELLO)
    now += module.KEPT_FOR / 2
    read(recent, "b", HELLO)
    now += module.KEPT_FOR / 2
    read(recent, "c", HELLO)
    assert [*recent._kept] == ["b", "c"]


def test_invalid_events_are_not_kept() -> None:
    recent = RecentEvents()
    read(recent, "a", HELLO)
    for _ in range(2):
        with pytest.raises(ValueError, match="Expecting value"):
            recent.made("a", StoredEvents([*HELLO, "not JSON"]))
    assert recent._kept == {}
    assert recent._bytes == 0


class Place:
    pass


@pytest.mark.parametrize("make", [Place, lambda: [array("d", [1.0])], lambda: {b"raw": 1}])
def test_a_type_with_fields_of_its_own(make: Callable[[], object]) -> None:
    """One that cannot be kept is made anew each time; an array must not come back as bytes."""

    @dataclass(frozen=True, eq=False)
    class Moved(Event):
        type_name = "moved"
        place: Any = None

        @classmethod
        def arguments_from(cls, wire: Mapping[str, Any]) -> dict[str, Any]:
            return {"place": make()}

    try:
        recent, moved = RecentEvents(), ['{"event": "moved", "timestamp": 1.0}']
        for _ in range(2):
            assert read(recent, "a", moved) == 0
            assert recent._kept == {}
    finally:
        del EVENT_TYPES["moved"]


def test_a_type_that_leaves_out_a_field() -> None:
    """It has the value of its class then."""

    @dataclass(frozen=True, eq=False)
    class Moved(Event):
        type_name = "moved"
        place: Any = "home"

        @classmethod
        def arguments_from(cls, wire: Mapping[str, Any]) -> dict[str, Any]:
            return {key: wire[key] for key in ("place",) if wire[key] is not None}

    try:
        recent, moved = RecentEvents(), ['{"event": "moved", "timestamp": 1.0, "place": null}']
        for parsed_from in (0, None):
            assert read(recent, "a", moved) == parsed_from
        made, _ = recent.made("a", StoredEvents(moved))
        assert isinstance(made, Unmade)
        assert [vars(event).get("place", "none of its own") for event in made.make()] == [
            "none of its own"
        ]
        assert made.make()[0].place == "home"  # type: ignore[attr-defined]
    finally:
        del EVENT_TYPES["moved"]


def test_fields_that_a_type_does_not_know_are_kept() -> None:
    recent = RecentEvents()
    unknown = ['{"event": "new", "b": 1, "a": {"c": [null]}}', '{"timestamp": 1, "event": "bot"}']
    known = ['{"event": "form", "name": "f", "timestamp": 1, "more": 2}']
    for _ in range(3):
        read(recent, "a", unknown + known)
    made, _ = recent.made("a", StoredEvents(unknown + known))
    assert isinstance(made, Unmade)
    events = made.make()
    assert isinstance(events[0], UnknownEvent)
    assert [[*event.as_dict()] for event in events] == [
        [*json.loads(text)] for text in unknown + known
    ]


def test_stored_events_are_a_sequence() -> None:
    stored = StoredEvents(HELLO + MORE)
    assert len(stored) == 3
    assert stored[0] == json.loads(HELLO[0])
    assert stored[1:] == [json.loads(text) for text in MORE]
    assert list(stored) == [json.loads(text) for text in HELLO + MORE]


KINDS: list[dict[str, Any]] = [
    {"event": "user", "text": "a", "message_id": "1", "timestamp": 1.0, "metadata": {"x": 1}},
    {"event": "user", "text": "b", "message_id": "1", "timestamp": 2.0},
    {"event": "user", "text": "c", "message_id": 3, "timestamp": 3.0},
    {"event": "bot", "text": "d", "timestamp": 4.0, "metadata": {"x": 1}},
    {"event": "slot", "name": "s", "value": 1, "timestamp": 5.0},
]


def told(tracker: Tracker) -> list[object]:
    """What is known without making the events, and what they say."""
    known: list[object] = [
        tracker.count, tracker.kinds, tracker.find_message("1"), tracker.find_message("2"),
        tracker.last_message_at, tracker.first_with_metadata,
    ]  # fmt: skip
    places = range(tracker.count + 1)
    return known + [tracker.since(place) for place in reversed(places)] + [tracker.events]


def test_what_is_known_without_the_events_is_what_they_say() -> None:
    """For each history of up to three stored events, with one more behind them."""
    for length in range(4):
        for wires in itertools.product(KINDS, repeat=length):
            for added in [[], *([one] for one in KINDS)]:
                made, _ = RecentEvents().made("a", StoredEvents([*map(json.dumps, wires)]))
                assert isinstance(made, Unmade)
                unmade, whole = Tracker("a", made), Tracker.from_dict("a", wires)
                for one in added:
                    unmade.update(Event.from_dict(one, stamp=False))
                    whole.update(Event.from_dict(one, stamp=False))
                assert told(unmade) == told(whole), (wires, added)


def test_a_turn_sees_no_later_events() -> None:
    """Those which a later claim finds are kept with the others; the turn before does not have them."""
    recent = RecentEvents()
    first = [*map(json.dumps, KINDS[:1])]
    made, _ = recent.made("a", StoredEvents(first))
    recent.made("a", StoredEvents([*first, *map(json.dumps, KINDS[1:])]))
    early, whole = Tracker("a", made), Tracker.from_dict("a", KINDS[:1])
    assert told(early) == told(whole)


def test_a_thread_asks_for_events_while_a_turn_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the turn does meanwhile sees all events, and is not lost. Here it is done while they are made."""
    made, _ = RecentEvents().made("a", StoredEvents([*map(json.dumps, KINDS)]))
    assert isinstance(made, Unmade)
    tracker, seen = Tracker("a", made), []
    make = Unmade.make

    def made_meanwhile(unmade: Unmade) -> list[Event]:
        events = make(unmade)
        if not seen:
            seen.append((tracker.count, tracker.kinds, tracker.since(5), tracker.find_message("1")))
            tracker.update(SlotSet("meanwhile", 1))
            seen.append((tracker.count, len(tracker.since(5)), len(tracker.events)))
        return events

    monkeypatch.setattr(Unmade, "make", made_meanwhile)
    assert [event.as_dict() for event in tracker.events[:5]] == KINDS
    kinds = [type(Event.from_dict(one)) for one in KINDS]
    assert seen == [(5, kinds, [], (1, 2.0)), (6, 1, 6)]
    assert [getattr(event, "name", None) for event in tracker.events[4:]] == ["s", "meanwhile"]


def test_a_thread_asks_for_events_while_a_claim_finds_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of a turn that was stopped, when the next one begins. Here it does while parts are joined."""
    recent, marshal = RecentEvents(), module.marshal
    for length in range(1, 31):
        made, _ = recent.made("a", StoredEvents(HELLO * length))

    class Marshal:
        loads = staticmethod(marshal.loads)

        @staticmethod
        def dumps(value: Any) -> bytes:
            monkeypatch.setattr(module, "marshal", marshal)
            recent.made("a", StoredEvents(HELLO * 31))
            return marshal.dumps(value)

    monkeypatch.setattr(module, "marshal", Marshal)
    assert isinstance(made, Unmade)
    assert len(made.make()) == 30
    assert module.marshal is marshal  # it was asked
    assert read(recent, "a", HELLO * 32) == 31
    assert len(made.make()) == 30
