"""Checks the fields of events that come from outside, by the documented types.

Stores keep events as they are, and a tracker ignores fields that it cannot apply. But a client, or
an action server, that sends a field of the wrong type has made a mistake, so the event is rejected
with the field's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidEvent
from ..plain_json import brief
from .event import EVENT_TYPES, Event, fields_of

_TEXT, _OBJECT, _FLAG = (str,), (dict,), (bool,)
_NULL = type(None)
_NAMES = {
    str: "a text",
    dict: "an object",
    bool: "true or false",
    float: "a number",
    list: "a list",
}

_OPTIONAL_TEXT = (str, _NULL)
_ANY_EVENT = {"timestamp": (float, _NULL), "metadata": (dict, _NULL)}
_FLOW = {"flow_id": _TEXT, "step_id": _OPTIONAL_TEXT}
_AGENT = {"agent_id": _TEXT, "flow_id": _OPTIONAL_TEXT}

_FIELDS: dict[str, dict[str, tuple[type, ...]]] = {
    "user": {
        "text": _OPTIONAL_TEXT, "parse_data": (dict, _NULL), "input_channel": _OPTIONAL_TEXT,
        "message_id": _OPTIONAL_TEXT,
    },
    "bot": {"text": _OPTIONAL_TEXT, "data": (dict, _NULL)},
    "agent": {"text": _OPTIONAL_TEXT, "data": (dict, _NULL)},
    "action": {
        "name": _OPTIONAL_TEXT, "policy": _OPTIONAL_TEXT, "confidence": (float, _NULL),
        "action_text": _OPTIONAL_TEXT, "hide_rule_turn": _FLAG,
    },
    "action_execution_rejected": {
        "name": _TEXT, "policy": _OPTIONAL_TEXT, "confidence": (float, _NULL),
    },
    "slot": {"name": _TEXT},
    "entities": {"entities": (list,)},
    "followup": {"name": _OPTIONAL_TEXT},
    "reminder": {
        "intent": _TEXT, "date_time": _TEXT, "name": _OPTIONAL_TEXT, "kill_on_user_msg": _FLAG,
    },
    "cancel_reminder": {"name": _OPTIONAL_TEXT, "intent": _OPTIONAL_TEXT},
    "export": {"path": _OPTIONAL_TEXT},
    "active_loop": {"name": _OPTIONAL_TEXT},
    "form": {"name": _OPTIONAL_TEXT},
    "loop_interrupted": {"is_interrupted": _FLAG},
    "form_validation": {"validate": _FLAG},
    "user_featurization": {"use_text_for_featurization": _FLAG},
    "stack": {"update": _TEXT},
    "flow_started": {"flow_id": _TEXT},
    **dict.fromkeys(("flow_interrupted", "flow_resumed", "flow_completed", "flow_cancelled"), _FLOW),
    **dict.fromkeys(
        ("agent_started", "agent_interrupted", "agent_resumed", "agent_completed",
         "agent_cancelled"), _AGENT,
    ),
}  # fmt: skip


def check_fields(wire: Mapping[str, Any], where: str) -> None:
    """Raise InvalidEvent, which names the field, if one is missing or has the wrong type.

    Args:
        where: names the event in the error.
    """
    kind = wire["event"]
    where = f"{where} ({kind!r:.80})"
    needed = fields_of(EVENT_TYPES.get(kind, Event))[1]  # type: ignore[arg-type]  # a class is hashable
    if kind == "form_validation":
        needed = {"validate"}
    for name in sorted(needed - wire.keys()):
        raise InvalidEvent(f"{where}: {name} is missing")
    for name, kinds in {**_ANY_EVENT, **_FIELDS.get(kind, {})}.items():
        if name in wire:
            _check(wire[name], kinds, f"{where}: {name}")
    if kind == "user" and isinstance(wire.get("parse_data"), dict):
        check_parse_data(wire["parse_data"], f"{where}: parse_data")
    if kind == "entities":
        _check_objects(wire["entities"], f"{where}: entities")


def check_parse_data(parsed: Mapping[str, Any], where: str = "parse_data") -> None:
    """Raise InvalidEvent if the parse_data of a message is invalid."""
    if "intent" in parsed:
        _check(parsed["intent"], (dict, _NULL), f"{where}.intent")
    if parsed.get("entities") is not None:
        _check(parsed["entities"], (list,), f"{where}.entities")
        _check_objects(parsed["entities"], f"{where}.entities")
    if "text" in parsed:
        _check(parsed["text"], _OPTIONAL_TEXT, f"{where}.text")


def _check(value: Any, kinds: tuple[type, ...], where: str) -> None:
    number = float in kinds and isinstance(value, int) and not isinstance(value, bool)
    if not (isinstance(value, kinds) or number):
        names = " or ".join(_NAMES.get(kind, "null") for kind in kinds)
        raise InvalidEvent(f"{where} is {brief(value)}, not {names}")


def _check_objects(values: list[Any], where: str) -> None:
    for place, value in enumerate(values):
        if not isinstance(value, dict):
            raise InvalidEvent(f"{where}[{place}] is {brief(value)}, not an object")
