"""When a session starts, and with which events, as documented; long sessions end by themselves.

A turn reads the latest session. Without an end, each turn would cost more than the one before, so
the server starts a new session when one is long, and carries its state over.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from ..domain.domain import Domain, SessionConfig
from ..events import (
    LISTEN,
    SESSION_START,
    ActionExecuted,
    ActionReverted,
    ActiveLoop,
    ConversationPaused,
    Restarted,
    SessionStarted,
    SlotSet,
    UserUtteranceReverted,
    UserUttered,
)
from ..events.codec import finite
from ..events.event import Event
from ..plain_json import plain, weight
from ..tracker.reminders import pending
from ..tracker.tracker import Tracker
from ..turn import Turn
from .bot import Message
from .errors import Conflict
from .settings import Settings

#: The text, and the intent, of a message that starts a session.
_ASKED, _INTENT = "/session_start", "session_start"
#: The documented slot for the metadata of the first message of a session.
METADATA_SLOT = "session_started_metadata"
#: The metadata, of the event that starts a session, with message ids of earlier sessions.
_HANDLED = "ticketlock_handled"
#: Most ids there.
_MAX_HANDLED = 1000

_TAKES_BACK = (Restarted, SessionStarted, ActionReverted, UserUtteranceReverted)

#: Why a session starts: the history is empty, it was asked for, the user was away, it is long.
Why = Literal["empty", "asked", "expired", "long"]


class Sessions:
    """Starts the sessions of conversations.

    Args:
        domain: says when a session ends, where the settings do not.

    Attributes:
        minutes: since the user's last message after which a session ends; 0: it does not.
    """

    def __init__(self, settings: Settings, domain: Domain | None = None) -> None:
        self._settings = settings
        config = SessionConfig() if domain is None else domain.session_config
        # A key of the section server comes before the domain.
        minutes, carry = settings.session_expiration_time, settings.carry_over_slots
        self.minutes = config.session_expiration_time if minutes is None else minutes
        self._carry = config.carry_over_slots_to_new_session if carry is None else carry

    def add(self, turn: Turn, messages: Sequence[Message]) -> list[Message]:
        """Add messages of the user, with the start of a session before or after them.

        Returns the messages for the bot, without those that only ask for a session.
        """
        asking = [message for message in messages if _asks(message)]
        if messages[0] not in asking and (why := self._due(turn)) is not None:
            self._start(turn, why, messages[0].metadata)
        for message in messages:
            turn.add(message.event())
            if message in asking:
                self._start(turn, "asked", message.metadata)
        return [message for message in messages if message not in asking] if asking else [*messages]

    def before_events(self, turn: Turn) -> None:
        """Add the start of a session before other events, if the history is empty or long.

        Raises Conflict if the slots to carry over exceed the limits of a session.
        """
        if not turn.tracker.events:
            self._start(turn, "empty")
        elif self._long(turn):
            self._start(turn, "long")
            slots = [event for event in turn.tracker.events if isinstance(event, SlotSet)]
            much = _weight(slots) > self._settings.max_session_bytes
            if much or len(slots) > self._settings.max_session_events:
                raise Conflict(
                    "the slots of the conversation are more than max_session_events or "
                    "max_session_bytes: begin a session without them (action_session_start), or "
                    "replace the history"
                )

    def _due(self, turn: Turn) -> Why | None:
        if _is_empty(turn.tracker):
            return "empty"
        if self.expired(turn, time.time()):
            return "expired"
        return "long" if self._long(turn) else None

    def expired(self, turn: Turn, at: float) -> bool:
        """Whether the user has been away for so long by then (epoch s) that the session has ended."""
        minutes, last = self.minutes, turn.tracker.last_message_at
        # An invalid time, as in old data, counts as long ago.
        return minutes > 0 and last is not None and at - (finite(last) or 0.0) > 60 * minutes

    def _long(self, turn: Turn) -> bool:
        """Whether the session has grown beyond the limits since its start.

        If its start is larger than a limit, it may grow by that size, so that carrying the state
        over does not write more than the turns do.
        """
        count, settings = turn.tracker.count, self._settings
        if count < settings.max_session_events and turn.size < settings.max_session_bytes:
            return False
        events = turn.tracker.events
        began = _beginning(events)
        grown = len(events) - began
        if grown >= max(settings.max_session_events, began):
            return True
        carried = _weight(events[:began])
        return grown > 0 and turn.size - carried >= max(settings.max_session_bytes, carried)

    def _start(self, turn: Turn, why: Why, metadata: Mapping[str, Any] | None = None) -> None:
        tracker = turn.tracker
        handled = self._handled(tracker)
        about = {_HANDLED: handled} if handled else {}
        made: list[Event] = [ActionExecuted(SESSION_START, metadata=about), SessionStarted()]
        if why == "long" or self._carry:
            made += _slots(tracker)
        if metadata and not metadata.get("is_external"):  # only metadata of a channel
            made.append(SlotSet(METADATA_SLOT, dict(metadata)))
        if why == "long":  # the user was not away: the dialogue goes on
            made += _ongoing(tracker)
        turn.add(*made, ActionExecuted(LISTEN))
        tracker.forget_earlier_sessions()

    def _handled(self, tracker: Tracker) -> dict[str, float]:
        """The messages that may be sent again: id -> time."""
        since = time.time() - self._settings.message_window
        found = dict(handled_before(tracker))
        for event in tracker.events:
            if isinstance(event, UserUttered) and isinstance(event.message_id, str):
                found[event.message_id] = finite(event.timestamp) or 0.0
        known = [(name, moment) for name, moment in found.items() if moment >= since]
        return dict(known[-_MAX_HANDLED:])


def handled_before(tracker: Tracker) -> Mapping[str, float]:
    """The messages of earlier sessions that may be sent again: id -> time."""
    start = tracker.first_with_metadata
    found = start.metadata.get(_HANDLED) if isinstance(start, ActionExecuted) else None
    if not isinstance(found, dict):  # clients may write metadata too
        return {}
    return {name: finite(moment) or 0.0 for name, moment in found.items()}


def _is_empty(tracker: Tracker) -> bool:
    """Whether no event has an effect; the last one has, unless it takes others back."""
    kinds = tracker.kinds
    if kinds and not issubclass(kinds[-1], _TAKES_BACK):
        return False
    return not tracker.applied_events()


def _weight(events: Sequence[Event]) -> int:
    return weight(json.dumps(event.as_dict()) for event in events)


def _asks(message: Message) -> bool:
    text, intent = message.text.strip(), message.parse_data.get("intent")
    named = intent.get("name") if isinstance(intent, Mapping) else None
    return text == _ASKED or text.startswith(_ASKED + "{") or named == _INTENT


def _beginning(events: list[Event]) -> int:
    """The number of events of the session's start, with the state carried over."""
    if not events or getattr(events[0], "name", None) != SESSION_START:
        return 0
    for place, event in enumerate(events):
        if isinstance(event, ActionExecuted) and event.name == LISTEN:
            return place + 1
        if isinstance(event, UserUttered):
            return place
    return len(events)


def _slots(tracker: Tracker) -> Iterator[Event]:
    """The slots whose value is not the initial one."""
    initial = tracker.initial_slots
    for name, value in tracker.slots.items():
        if name != METADATA_SLOT and value != initial.get(name):
            yield SlotSet(name, plain(value))


def _ongoing(tracker: Tracker) -> Iterator[Event]:
    if tracker.active_loop:
        yield ActiveLoop(plain(tracker.active_loop["name"]))
    if tracker.is_paused():
        yield ConversationPaused()
    yield from pending(tracker).values()
