"""The event types of messages, actions, slots and sessions, as documented."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .event import EVENT_TYPES, Event

#: Name of the action that begins a session, and so of the events of the latest one.
SESSION_START = "action_session_start"
LISTEN = "action_listen"


@dataclass(frozen=True, eq=False)
class UserUttered(Event):
    """A message of the user; `parse_data` holds its intent, entities and so on."""

    type_name = "user"
    always_metadata = True

    text: str | None = None
    parse_data: dict[str, Any] = field(default_factory=dict)
    input_channel: str | None = None
    message_id: str | None = None

    @property
    def intent_name(self) -> str | None:
        return intent_name(self.parse_data)


@dataclass(frozen=True, eq=False)
class BotUttered(Event):
    """A message of the bot; `data` holds buttons, attachments and so on."""

    type_name = "bot"
    always_metadata = True

    text: str | None = None
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class AgentUttered(Event):
    """A message of a human agent who took over."""

    type_name = "agent"

    text: str | None = None
    data: dict[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class ActionExecuted(Event):
    """An action ran; `action_session_start` begins a session."""

    type_name = "action"

    name: str | None
    policy: str | None = None
    confidence: float | None = None
    action_text: str | None = None
    hide_rule_turn: bool = False


@dataclass(frozen=True, eq=False)
class ActionExecutionRejected(Event):
    """An action declined to run. If it is a loop's action, the loop is marked as rejected."""

    type_name = "action_execution_rejected"

    name: str
    policy: str | None = None
    confidence: float | None = None


@dataclass(frozen=True, eq=False)
class SlotSet(Event):
    type_name = "slot"

    name: str
    value: Any = None


@dataclass(frozen=True, eq=False)
class AllSlotsReset(Event):
    type_name = "reset_slots"


@dataclass(frozen=True, eq=False)
class SessionStarted(Event):
    """A session began: earlier events no longer affect the state."""

    type_name = "session_started"


@dataclass(frozen=True, eq=False)
class Restarted(Event):
    """Like SessionStarted, and the next action is `action_session_start`."""

    type_name = "restart"


@dataclass(frozen=True, eq=False)
class UserUtteranceReverted(Event):
    """Reverts the last message of the user and all events after it."""

    type_name = "rewind"


@dataclass(frozen=True, eq=False)
class ActionReverted(Event):
    """Reverts the last action and all events after it."""

    type_name = "undo"


@dataclass(frozen=True, eq=False)
class FollowupAction(Event):
    """The next action to run, decided in advance."""

    type_name = "followup"

    name: str | None


@dataclass(frozen=True, eq=False)
class ReminderScheduled(Event):
    """Trigger `intent` at `date_time` (ISO 8601)."""

    type_name = "reminder"

    intent: str
    date_time: str
    entities: Any = None
    name: str = field(default_factory=lambda: str(uuid.uuid1()))
    kill_on_user_msg: bool = True

    @classmethod
    def arguments_from(cls, wire: Mapping[str, Any]) -> dict[str, Any] | None:
        found = super().arguments_from(wire)
        # One that was stored without a name has none: a new one would differ at each reading.
        return found and {"name": None, **found}


@dataclass(frozen=True, eq=False)
class ReminderCancelled(Event):
    """Cancel the reminders that match all given fields; without fields, all reminders."""

    type_name = "cancel_reminder"

    name: str | None = None
    intent: str | None = None
    entities: Any = None


@dataclass(frozen=True, eq=False)
class ConversationPaused(Event):
    type_name = "pause"


@dataclass(frozen=True, eq=False)
class ConversationResumed(Event):
    type_name = "resume"


@dataclass(frozen=True, eq=False)
class StoryExported(Event):
    """An export to `path` was requested. Applying the event writes no file."""

    type_name = "export"

    path: str | None = None


@dataclass(frozen=True, eq=False)
class ActiveLoop(Event):
    """The loop `name` begins; None: the loop ends. Older events have the type `form`."""

    type_name = "active_loop"
    aliases = ("form",)

    name: str | None


@dataclass(frozen=True, eq=False)
class LoopInterrupted(Event):
    """The active loop is interrupted or goes on. Older events have the type `form_validation`."""

    type_name = "loop_interrupted"
    aliases = ("form_validation",)

    is_interrupted: bool

    @classmethod
    def arguments_from(cls, wire: Mapping[str, Any]) -> dict[str, Any] | None:
        if wire["event"] == "form_validation":
            return {"is_interrupted": not wire["validate"]} if "validate" in wire else None
        return super().arguments_from(wire)


@dataclass(frozen=True, eq=False)
class EntitiesAdded(Event):
    """Entities that were found after the message was parsed."""

    type_name = "entities"

    entities: list[Any]


@dataclass(frozen=True, eq=False)
class UserUtteranceFeaturized(Event):
    """Whether to use the text of the message before it, rather than its intent."""

    type_name = "user_featurization"

    use_text_for_featurization: bool


def intent_name(parse_data: object) -> str | None:
    """The `intent.name` in the parse data of a message, if any."""
    intent = parse_data.get("intent") if isinstance(parse_data, (dict, Mapping)) else None
    name = intent.get("name") if isinstance(intent, (dict, Mapping)) else None
    return name if isinstance(name, str) else None


def starts_session(wire: Mapping[str, Any]) -> bool:
    """Whether this event, as a dictionary, begins a session."""
    return wire.get("event") == ActionExecuted.type_name and wire.get("name") == SESSION_START


#: The types that Rasa Open Source 3.6 knows: all of this file. It cannot read a history with others.
RASA_TYPES = frozenset(name for name, kind in EVENT_TYPES.items() if kind.__module__ == __name__)
