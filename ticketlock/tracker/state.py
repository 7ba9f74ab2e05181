"""The state of a conversation, changed by one event after another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from .. import events as e
from ..domain.slots import DeclaredSlots
from ..events.event import Event


def empty_message() -> dict[str, Any]:
    return {"intent": {}, "entities": [], "text": None, "message_id": None, "metadata": {}}


class TrackerState:
    """Slots, messages, actions and switches as they are after the events applied so far.

    Events may come from older programs, with fields of any type. Fields without a meaning are
    ignored, so that the conversation can go on.
    """

    def __init__(self, initial_slots: Mapping[str, Any]) -> None:
        self._initial_slots = initial_slots
        self.reset()

    def reset(self, followup: str = e.LISTEN) -> None:
        """Set everything as in a new conversation."""
        self.slots: dict[str, Any] = dict(self._initial_slots)
        self.latest_message = empty_message()
        self.latest_bot_message: dict[str, Any] | None = None
        self.followup_action: str | None = followup
        self.paused = False
        self.active_loop: dict[str, Any] = {}
        self.latest_action: dict[str, Any] = {}

    @property
    def latest_action_name(self) -> str | None:
        action = self.latest_action
        name: str | None = action.get("action_name") or action.get("action_text")
        return name

    def apply(self, event: Event) -> bool:
        """Change the state; False if the event reverts others, so all must be applied again."""
        if isinstance(event, (e.UserUtteranceReverted, e.ActionReverted)):
            return False
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(self, event)
        return True

    def _user(self, event: e.UserUttered) -> None:
        parsed = event.parse_data if isinstance(event.parse_data, dict) else {}
        message = {**empty_message(), **parsed}
        if message["text"] is None:
            message["text"] = event.text
        self.latest_message = message
        self.followup_action = None

    def _entities(self, event: e.EntitiesAdded) -> None:
        known = self.latest_message.get("entities")
        found = [x for x in (known, event.entities) if isinstance(x, list)]
        # A new dictionary, because the values of the old one belong to the user event.
        self.latest_message = {**self.latest_message, "entities": [y for x in found for y in x]}

    def _bot(self, event: e.BotUttered) -> None:
        self.latest_bot_message = event.as_dict()

    def _action(self, event: e.ActionExecuted) -> None:
        if event.name:
            self.latest_action = {"action_name": event.name}
        else:
            self.latest_action = {"action_text": event.action_text}
        self.followup_action = None
        if self.active_loop and event.name == self.active_loop["name"]:
            self.active_loop["rejected"] = False

    def _slot(self, event: e.SlotSet) -> None:
        name, value, declared = event.name, event.value, self._initial_slots
        if not isinstance(name, str):
            return
        if isinstance(declared, DeclaredSlots):
            if name not in declared:
                declared.report(name)
                return
            value = declared.fitted(name, value)
        self.slots[name] = value

    def _reset_slots(self, event: e.AllSlotsReset) -> None:
        # Slots that were not declared stay as keys, with the value None.
        self.slots = {**dict.fromkeys(self.slots), **self._initial_slots}

    def _loop(self, event: e.ActiveLoop) -> None:
        self.active_loop = {}
        if event.name is not None:
            self.active_loop = {
                "name": event.name,
                "is_interrupted": False,
                "rejected": False,
                "trigger_message": self.latest_message,
            }

    def _loop_interrupted(self, event: e.LoopInterrupted) -> None:
        if self.active_loop:
            self.active_loop["is_interrupted"] = event.is_interrupted

    def _rejected(self, event: e.ActionExecutionRejected) -> None:
        if self.active_loop and event.name == self.active_loop["name"]:
            self.active_loop["rejected"] = True

    def _followup(self, event: e.FollowupAction) -> None:
        self.followup_action = event.name

    def _pause(self, event: e.ConversationPaused) -> None:
        self.paused = True

    def _resume(self, event: e.ConversationResumed) -> None:
        self.paused = False

    def _session_started(self, event: e.SessionStarted) -> None:
        self.reset()

    def _restarted(self, event: e.Restarted) -> None:
        self.reset(followup=e.SESSION_START)

    _handlers: ClassVar[dict[type[Event], Any]] = {
        e.UserUttered: _user,
        e.EntitiesAdded: _entities,
        e.BotUttered: _bot,
        e.ActionExecuted: _action,
        e.SlotSet: _slot,
        e.AllSlotsReset: _reset_slots,
        e.ActiveLoop: _loop,
        e.LoopInterrupted: _loop_interrupted,
        e.ActionExecutionRejected: _rejected,
        e.FollowupAction: _followup,
        e.ConversationPaused: _pause,
        e.ConversationResumed: _resume,
        e.SessionStarted: _session_started,
        e.Restarted: _restarted,
    }
