"""What actions and reminders have left in a history, and the judgement of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from ticketlock.demo.judge.turns import Violation
from ticketlock.events import (
    LISTEN,
    SESSION_START,
    ActionExecuted,
    BotUttered,
    ReminderScheduled,
    SlotSet,
    UserUttered,
)
from ticketlock.events.event import Event

ACTION = "action_stamp"
#: Every kind of violation, in the order of the report.
ACTING_KINDS = {
    "actions_missing": "a message called an action, and nothing or not all of it is stored",
    "actions_twice": "the events of an action are stored twice for one message",
    "reminders_missing": "a reminder did not fire, and no message of the user took it",
    "reminders_twice": "a reminder fired twice",
    "reminders_unasked": "a reminder fired that was not scheduled, was taken by a message, or early",
    "reminders_unsent": "the reply of a reminder was not called back, or twice",
    "unread": "a turn began without all events before it",
}
#: Seconds by which clocks of one machine differ at most, as they are stored.
_CLOCK = 0.01


def apart(events: Sequence[Event]) -> tuple[list[Event], list[Event]]:
    """What a run without actions would have stored, and the rest."""
    plain: list[Event] = []
    rest: list[Event] = []
    for event in events:
        (rest if _acts(event) else plain).append(event)
    return plain, rest


def acting_violations(
    name: str, events: Sequence[Event], sent: Iterable[str]
) -> Iterator[Violation]:
    """What is wrong with one conversation.

    Args:
        events: all of its history.
        sent: the ids of its messages.
    """
    about, starts = "", False
    stamps: dict[str, list[Event]] = defaultdict(list)
    for place, event in enumerate(events):
        if isinstance(event, UserUttered):
            about = event.message_id or ""
        if isinstance(event, ActionExecuted) and event.name in (SESSION_START, LISTEN):
            starts = event.name == SESSION_START
        if (seen := _seen(event)) is not None and seen < place - 1 - _session(events, place - 2):
            yield Violation("unread", name, None, f"event {place}: it had read {seen} events")
        if _is_stamp(event) and not starts:  # else a new session has taken the slot over
            stamps[about].append(event)
    for one in sent:
        wanted, found = 3 * (int(one) % 4 == 0), len(stamps.pop(one, ()))
        if found != wanted:
            kind = "actions_missing" if found < wanted else "actions_twice"
            yield Violation(kind, name, int(one), f"{found} of {wanted} events of its action")
    for one, strange in stamps.items():
        yield Violation("actions_twice", name, None, f"{strange} in the turn of {one!r}")
    yield from _reminders(name, events, sent)


def _reminders(name: str, events: Sequence[Event], sent: Iterable[str]) -> Iterator[Violation]:
    made: dict[int, tuple[int, ReminderScheduled]] = {}
    for place, event in enumerate(events):
        if isinstance(event, ReminderScheduled):
            made[_id(event.entities)] = place, event
        elif _is_external(event):
            assert isinstance(event, UserUttered)
            id = _id((event.parse_data or {}).get("entities"))
            since, reminder = made.get(id, (place, None))
            if reminder is None:
                again = any(f"reminder {id}" == _image(one) for one in events[:place])
                kind = "reminders_twice" if again else "reminders_unasked"
                yield Violation(kind, name, id, f"event {place}: it fires")
                continue
            del made[id]
            if _image(next(iter(events[place + 1 : place + 2]), None)) != f"reminder {id}":
                yield Violation("reminders_missing", name, id, f"event {place}: without a reply")
            between = [one for one in events[since + 1 : place] if isinstance(one, UserUttered)]
            if reminder.kill_on_user_msg and between:
                yield Violation("reminders_unasked", name, id, f"event {place}: after a message")
            early = datetime.fromisoformat(reminder.date_time).timestamp() - event.timestamp
            if early > _CLOCK:
                yield Violation("reminders_unasked", name, id, f"event {place}: {early} s early")
    for id, (place, reminder) in made.items():
        after = any(isinstance(one, UserUttered) for one in events[place + 1 :])
        if not (reminder.kill_on_user_msg and after):
            yield Violation("reminders_missing", name, id, f"event {place}: it did not fire")
    scheduled = {_id(one.entities) for one in events if isinstance(one, ReminderScheduled)}
    for one in sent:
        if int(one) % 5 < 2 and int(one) not in scheduled:
            yield Violation("reminders_missing", name, int(one), "it was not scheduled")


def deeds(events: Sequence[Event]) -> Counter[str]:
    """How many actions were run, and how many reminders were scheduled and fired."""
    return Counter(
        actions=sum(isinstance(one, ActionExecuted) and one.name == ACTION for one in events),
        reminders=sum(isinstance(one, ReminderScheduled) for one in events),
        reminders_fired=sum(map(_is_external, events)),
    )


def unsent(name: str, events: Sequence[Event], called_back: Sequence[str]) -> Iterator[Violation]:
    """Replies of reminders that were not called back once.

    Args:
        called_back: images of its callbacks, each webhook-id once.
    """
    for event in events:
        if (_image(event) or "").startswith("reminder "):
            count = called_back.count(_image(event) or "")
            if count != 1:
                yield Violation("reminders_unsent", name, None, f"{_image(event)}: {count} times")


def _acts(event: Event) -> bool:
    return (
        _is_stamp(event)
        or _is_external(event)
        or isinstance(event, ReminderScheduled)
        or (_image(event) or "").startswith("reminder ")
    )


def _is_stamp(event: Event) -> bool:
    return (
        (isinstance(event, ActionExecuted) and event.name == ACTION)
        or (isinstance(event, SlotSet) and event.name == "stamp")
        or (_image(event) or "").startswith("action ")
    )


def _is_external(event: Event) -> bool:
    return isinstance(event, UserUttered) and (event.text or "").startswith("EXTERNAL: ")


def _image(event: Event | None) -> str | None:
    return event.data.get("image") if isinstance(event, BotUttered) else None


def _id(entities: object) -> int:
    """The message that scheduled a reminder."""
    assert isinstance(entities, Sequence), entities
    return int(entities[0]["value"])


def _seen(event: Event) -> int | None:
    seen = event.metadata.get("seen") if isinstance(event, BotUttered) else None
    return seen if isinstance(seen, int) else None


def _session(events: Sequence[Event], place: int) -> int:
    """How many events up to a place start a session, in the turn of the message behind them."""
    if place < 0 or not _is_action(events[place], LISTEN):
        return 0
    first = place
    while first >= 0 and not _is_action(events[first], SESSION_START):
        if isinstance(events[first], (UserUttered, BotUttered)):
            return 0
        first -= 1
    return place - first + 1 if first >= 0 else 0


def _is_action(event: Event, name: str) -> bool:
    return isinstance(event, ActionExecuted) and event.name == name
