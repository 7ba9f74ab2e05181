"""The judge of actions and reminders finds what is wrong, one thing at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone

import pytest
from e2e.acting import ACTION, acting_violations, apart, unsent

from ticketlock.events import (
    LISTEN,
    SESSION_START,
    ActionExecuted,
    BotUttered,
    ReminderScheduled,
    SessionStarted,
    SlotSet,
    UserUttered,
)
from ticketlock.events.event import Event

NOW = time.time()
#: Message 20 calls an action and schedules a reminder that fires whatever the user says, 21 one
#: that a message takes; 23 does neither.
SENT = ("20", "21", "23")


def said(id: str, seen: int) -> list[Event]:
    return [
        UserUttered(f"message {id}", message_id=id),
        BotUttered(f"message {id}", metadata={"seen": seen}),
    ]


def scheduled(id: int, kill: bool) -> Event:
    at = datetime.fromtimestamp(NOW, timezone.utc).isoformat()
    entities = [{"entity": "message", "value": id}]
    return ReminderScheduled("remind", at, entities, name=f"r{id}", kill_on_user_msg=kill)


def fired(id: int, timestamp: float = NOW + 1) -> list[Event]:
    data = {"intent": {"name": "remind"}, "entities": [{"entity": "message", "value": id}]}
    return [
        UserUttered("EXTERNAL: remind", parse_data=data, timestamp=timestamp),
        BotUttered(None, data={"image": f"reminder {id}"}),
    ]


ACTED: list[Event] = [
    ActionExecuted(ACTION), BotUttered(None, data={"image": "action 20"}), SlotSet("stamp", "20"),
]  # fmt: skip


def history() -> list[Event]:
    return [
        *said("20", 0), *ACTED, scheduled(20, False),
        *said("21", 6), scheduled(21, True), *said("23", 9), *fired(20),
    ]  # fmt: skip


def kinds(events: list[Event]) -> set[str]:
    return {one.kind for one in acting_violations("c", events, SENT)}


def test_nothing_is_wrong() -> None:
    events = history()
    assert kinds(events) == set()
    assert list(unsent("c", events, ["reminder 20"])) == []
    plain, rest = apart(events)
    assert (len(plain), len(rest)) == (6, 7)


def test_a_session_that_ends_by_itself_hands_on_its_slot_and_its_reminder() -> None:
    events = history()
    start: list[Event] = [
        ActionExecuted(SESSION_START), SessionStarted(), SlotSet("stamp", "20"),
        scheduled(20, False), ActionExecuted(LISTEN),
    ]  # fmt: skip
    assert kinds(events[:9] + start + events[9:]) == set()
    late = [*said("23", 8), *events[11:]]
    assert kinds(events[:9] + start + late) == {"unread"}


BROKEN: dict[str, tuple[Callable[[list[Event]], list[Event]], str]] = {
    "an action is missing": (lambda e: e[:2] + e[5:], "actions_missing"),
    "a slot of it is missing": (lambda e: e[:4] + e[5:], "actions_missing"),
    "an action is stored twice": (lambda e: e[:5] + ACTED + e[5:], "actions_twice"),
    "an action in another turn": (lambda e: e[:8] + ACTED + e[8:], "actions_twice"),
    "a reminder was not scheduled": (lambda e: e[:5] + e[6:], "reminders_missing"),
    "a reminder did not fire": (lambda e: e[:-2], "reminders_missing"),
    "a reminder has no reply": (lambda e: e[:-1], "reminders_missing"),
    "a reminder fired twice": (lambda e: e + fired(20), "reminders_twice"),
    "a reminder that was taken": (lambda e: e + fired(21), "reminders_unasked"),
    "a reminder of no message": (lambda e: e + fired(25), "reminders_unasked"),
    "a reminder too early": (lambda e: e[:-2] + fired(20, NOW - 1), "reminders_unasked"),
    "a turn did not read all": (lambda e: e[:9] + said("23", 5) + e[11:], "unread"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_each_fault_is_found(what: str) -> None:
    change, kind = BROKEN[what]
    assert kind in kinds(change(history()))


@pytest.mark.parametrize("images", [[], ["reminder 20", "reminder 20"]], ids=["none", "twice"])
def test_replies_of_reminders_are_called_back_once(images: list[str]) -> None:
    (found,) = unsent("c", history(), images)
    assert found.kind == "reminders_unsent"


def test_a_reminder_that_nothing_took_must_fire() -> None:
    events = [*said("21", 0), scheduled(21, True)]
    assert {one.kind for one in acting_violations("c", events, ["21"])} == {"reminders_missing"}
