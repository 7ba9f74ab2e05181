"""Which reminders of a history may still fire, and when: the events decide, nothing else.

As documented: the last of a name counts; a cancellation takes all that match its fields; a later
message of the user takes those with `kill_on_user_msg`; a restart, or a new session, takes all.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Any

from ..errors import InvalidEvent
from ..events import ReminderCancelled, ReminderScheduled, UserUttered
from ..events.codec import finite
from .tracker import Tracker

#: Begins the id of the message by which a reminder fires.
PREFIX = "reminder:"
#: Characters of a reminder's name in that id.
_NAME = 100


def message_id(reminder: ReminderScheduled) -> str:
    """The id of the message by which a reminder fires: the same whenever the event is read."""
    name = reminder.name if isinstance(reminder.name, str) else ""
    moment = f"{finite(reminder.timestamp) or 0.0:.3f}"
    told = [reminder.name, reminder.intent, reminder.date_time, moment, _same(reminder.entities)]
    text = json.dumps(told, default=str, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{PREFIX}{name[:_NAME]}:{digest}"


def _same(value: Any) -> Any:
    """A JSON value that is the same from each store: some read 1.0 as 1."""
    if isinstance(value, dict):
        return {str(name): _same(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_same(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def pending(tracker: Tracker) -> dict[str, ReminderScheduled]:
    """The reminders that may still fire: message id -> event.

    What has left this set never comes back, whatever is added to the history.
    """
    # Each turn asks, and most sessions have none: the types are found fast.
    if not any(issubclass(kind, ReminderScheduled) for kind in {*tracker.kinds}):
        return {}
    found: dict[str, tuple[str, ReminderScheduled]] = {}  # by name
    for event in tracker.events:
        if isinstance(event, ReminderScheduled):
            name = message_id(event)
            named = isinstance(event.name, str) and event.name
            found[named or name] = name, event
        elif isinstance(event, ReminderCancelled):
            found = {key: one for key, one in found.items() if not _cancels(event, one[1])}
        elif isinstance(event, UserUttered) and event.text and found:
            # Also the message of another reminder is one of the user.
            found = {
                key: one
                for key, one in found.items()
                if not one[1].kill_on_user_msg and one[0] != event.message_id
            }
    if not found:
        return {}
    applied = {id(event) for event in tracker.applied_events()}
    return {name: event for name, event in found.values() if id(event) in applied}


def _cancels(event: ReminderCancelled, reminder: ReminderScheduled) -> bool:
    """Whether a cancellation takes a reminder: by each field that it has; without any, all."""
    pairs = (
        (event.name, reminder.name),
        (event.intent, reminder.intent),
        (event.entities, reminder.entities),
    )
    return all(not wanted or wanted == there for wanted, there in pairs)


def due_at(reminder: ReminderScheduled) -> float:
    """When a reminder is due, in seconds since the epoch; a time without zone is local time.

    Raises InvalidEvent.
    """
    text: Any = reminder.date_time
    try:
        zulu = text.endswith(("Z", "z"))  # Python 3.10 does not read it
        made = datetime.fromisoformat(text[:-1] + "+00:00" if zulu else text)
        return max(0.0, made.timestamp())
    except (AttributeError, ValueError, OverflowError, OSError):
        raise InvalidEvent(
            f"reminder {reminder.name!r:.80}: date_time is {text!r:.80}, which is not a date and "
            "time of ISO 8601 as 2026-11-26T20:00:00+01:00"
        ) from None


def entities_of(reminder: ReminderScheduled) -> list[Any]:
    """Its entities as a list, from a list of objects, or from one object of names and values."""
    given = reminder.entities
    if isinstance(given, dict):
        return [{"entity": name, "value": value} for name, value in given.items()]
    return list(given) if isinstance(given, list) else []
