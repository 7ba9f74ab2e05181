"""Reminders of a history: when they are due, and by which id they fire."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Any

import pytest

from ticketlock import InvalidEvent
from ticketlock.events import ReminderCancelled, ReminderScheduled
from ticketlock.events.event import Event
from ticketlock.tracker.reminders import due_at, entities_of, message_id, pending
from ticketlock.tracker.tracker import Tracker

AT = datetime(2026, 11, 26, 20, 0, 0, 250_000, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-26T20:00:00.250+00:00", "2026-11-26T20:00:00.250Z", "2026-11-26T21:00:00.250+01:00",
        "2026-11-26 20:00:00.250000+00:00", AT.isoformat(),
    ],
)  # fmt: skip
def test_times(text: str) -> None:
    assert due_at(ReminderScheduled("i", text)) == AT.timestamp()


def test_a_time_without_a_zone_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        found = due_at(ReminderScheduled("i", "2026-11-26T15:00:00.250"))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert found == AT.timestamp()


def test_before_the_epoch_is_now() -> None:
    assert due_at(ReminderScheduled("i", "1950-01-01T00:00:00+00:00")) == 0.0


@pytest.mark.parametrize("wrong", ["", "tomorrow", "2026-13-01T00:00:00", None, 5, AT, "Z", ["x"]])
def test_wrong_times(wrong: Any) -> None:
    """The error has the name of the reminder, and an example."""
    event = ReminderScheduled("i", wrong, name="tea")
    with pytest.raises(InvalidEvent, match=r"reminder 'tea': date_time is .* as 2026-11-26T20"):
        due_at(event)
    assert list(pending(Tracker("c", [event]))) == [message_id(event)]  # no other error comes first


def test_the_id_is_the_same_whenever_it_is_read() -> None:
    """And differs by name, intent, time, entities, and the moment of the event."""
    event = ReminderScheduled("i", AT.isoformat(), name="tea", timestamp=1.25)
    assert message_id(event) == "reminder:tea:a2aae8969fe7dbb1"
    assert message_id(Event.from_dict(event.as_dict())) == message_id(event)  # type: ignore[arg-type]
    others = [
        ReminderScheduled("i", AT.isoformat(), name="tea", timestamp=1.251),
        ReminderScheduled("j", AT.isoformat(), name="tea", timestamp=1.25),
        ReminderScheduled("i", "2026", name="tea", timestamp=1.25),
        ReminderScheduled("i", AT.isoformat(), name="te", timestamp=1.25),
        ReminderScheduled("i", AT.isoformat(), name="x" * 500, timestamp=1.25),
        ReminderScheduled("i", AT.isoformat(), {"a": 1}, name="tea", timestamp=1.25),
    ]
    ids = {message_id(one) for one in (event, *others)}
    assert len(ids) == 7
    assert max(map(len, ids)) <= 255


def test_numbers_that_a_store_reads_in_another_way() -> None:
    """Some stores read 1.0 as 1, and some keep no order of keys."""
    given = [{"b": 1.0, "a": [2, 2.5]}], [{"a": [2.0, 2.5], "b": 1}]
    one, two = (ReminderScheduled("i", "2026", entities, "n", timestamp=1.0) for entities in given)
    assert message_id(one) == message_id(two)


@pytest.mark.parametrize(
    "stored", [10**400, float("inf"), "soon", None], ids=lambda one: f"{one!r:.8}"
)
def test_any_moment_that_was_stored(stored: Any) -> None:
    """It stops no turn of the conversation."""
    wire = {"event": "reminder", "intent": "i", "date_time": "2026", "timestamp": stored}
    event = Event.from_dict(wire, stamp=False)
    assert list(pending(Tracker("c", [event]))) == ["reminder::ff5bc4a3fd586836"]


def test_without_a_name_each_is_its_own() -> None:
    """As documented; a cancellation by name leaves it."""
    wires = [{"event": "reminder", "intent": "i", "date_time": "2026", "name": None, "timestamp": t}
             for t in (1.0, 2.0)]  # fmt: skip
    events = [Event.from_dict(wire) for wire in wires]
    assert len(pending(Tracker("c", [*events, ReminderCancelled(name="tea")]))) == 2
    assert not pending(Tracker("c", [*events, ReminderCancelled()]))


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (None, []), ([], []), ("x", []), ({"a": 1}, [{"entity": "a", "value": 1}]),
        ([{"entity": "a", "value": 1}], [{"entity": "a", "value": 1}]),
    ],
)  # fmt: skip
def test_entities(given: Any, wanted: list[Any]) -> None:
    assert entities_of(ReminderScheduled("i", "2026", given)) == wanted
