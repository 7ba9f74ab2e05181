"""The event types of messages, actions, slots and sessions, as documented."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .event import Event

#: Name of the action that begins a session, and so of the events of the latest one.
SESSION_START = "action_session_start"
LISTEN = "action_listen"


@dataclass(frozen=True, eq=False)
class UserUttered(Event):
    """A message of the user, with what was understood of it in `parse_data`."""

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
    """An action declined to run; of a loop's action: the loop is marked rejected."""

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
    """Everything before it no longer counts for the state."""

    type_name = "session_started"


@dataclass(frozen=True, eq=False)
class Restarted(Event):
    """As SessionStarted, and the next action is `action_session_start`."""

    type_name = "restart"


@dataclass(frozen=True, eq=False)
class UserUtteranceReverted(Event):
    """Takes back the last message of the user and all that followed."""

    type_name = "rewind"


@dataclass(frozen=True, eq=False)
class ActionReverted(Event):
    """Takes back the last action and all that followed."""

    type_name = "undo"


@dataclass(frozen=True, eq=False)
class FollowupAction(Event):
    """The next action, decided in advance."""

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


@dataclass(frozen=True, eq=False)
class ReminderCancelled(Event):
    """Cancel the reminders that match all that is given; nothing given: all of them."""

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
    """Somebody asked for an export to `path`. Only a note: applying it writes nothing."""

    type_name = "export"

    path: str | None = None


@dataclass(frozen=True, eq=False)
class ActiveLoop(Event):
    """The loop `name` begins; None: it ends. `form` is its name in older histories."""

    type_name = "active_loop"
    aliases = ("form",)

    name: str | None


@dataclass(frozen=True, eq=False)
class LoopInterrupted(Event):
    """The active loop is interrupted or goes on; older histories say `form_validation`."""

    type_name = "loop_interrupted"
    aliases = ("form_validation",)

    is_interrupted: bool

    @classmethod
    def _values(cls, wire: Mapping[str, Any]) -> dict[str, Any] | None:
        if wire["event"] == "form_validation":
            return {"is_interrupted": not wire["validate"]} if "validate" in wire else None
        return super()._values(wire)


@dataclass(frozen=True, eq=False)
class EntitiesAdded(Event):
    """Entities that were found after the message had been parsed."""

    type_name = "entities"

    entities: list[Any]


@dataclass(frozen=True, eq=False)
class UserUtteranceFeaturized(Event):
    """Whether the text, not the intent, of the message before it is to be used."""

    type_name = "user_featurization"

    use_text_for_featurization: bool


def intent_name(parse_data: object) -> str | None:
    """`intent.name` of the parse data of a message, if there is one."""
    intent = parse_data.get("intent") if isinstance(parse_data, Mapping) else None
    name = intent.get("name") if isinstance(intent, Mapping) else None
    return name if isinstance(name, str) else None


def starts_session(wire: Mapping[str, Any]) -> bool:
    """Whether the event of this dictionary is the first one of a session."""
    return wire.get("event") == ActionExecuted.type_name and wire.get("name") == SESSION_START
