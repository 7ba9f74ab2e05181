"""Events for the tests, as dictionaries."""

from __future__ import annotations

from typing import Any


def user(text: str, timestamp: float) -> dict[str, Any]:
    return {
        "event": "user", "timestamp": timestamp, "metadata": {}, "text": text,
        "parse_data": {"intent": {"name": "greet", "confidence": 0.9}, "entities": []},
        "input_channel": "rest", "message_id": None,
    }  # fmt: skip


def action(name: str, timestamp: float) -> dict[str, Any]:
    return {
        "event": "action", "timestamp": timestamp, "name": name, "policy": None,
        "confidence": 1.0, "action_text": None, "hide_rule_turn": False,
    }  # fmt: skip


def slot(name: str, value: Any, timestamp: float = 1.0) -> dict[str, Any]:
    return {"event": "slot", "timestamp": timestamp, "name": name, "value": value}


def session(timestamp: float) -> list[dict[str, Any]]:
    return [
        action("action_session_start", timestamp),
        {"event": "session_started", "timestamp": timestamp},
        action("action_listen", timestamp),
    ]


#: Every type there is, and shapes that a store may stumble over.
LEGACY_TYPES: list[dict[str, Any]] = [
    *({"event": name, "timestamp": 0} for name in (
        "restart", "rewind", "undo", "reset_slots", "pause", "resume", "session_started", "topic",
        "routing_session_ended", "session_ended",
    )),
    {"event": "cancel_reminder", "timestamp": 0, "name": "r", "intent": "i", "entities": None},
    {"event": "export", "timestamp": 1.5, "path": "/nowhere/stories.yml"},
    {"event": "reminder", "timestamp": 1, "intent": "i", "date_time": "2026-01-01T00:00:00",
     "entities": [], "name": "r", "kill_on_user_msg": False},
    {"event": "form", "timestamp": 2.0, "name": "a_form"},
    {"event": "form_validation", "timestamp": 2.0, "validate": False},
    {"event": "active_loop", "timestamp": 13423.23434623, "name": None},
    {"event": "loop_interrupted", "timestamp": 3, "is_interrupted": True},
    {"event": "action_execution_rejected", "timestamp": 3, "name": "x", "policy": None},
    {"event": "entities", "timestamp": 3, "entities": [{"entity": "e", "value": 1}]},
    {"event": "user_featurization", "timestamp": 3, "use_text_for_featurization": None},
    {"event": "agent", "timestamp": 3, "text": "a human", "data": {}},
    {"event": "followup", "timestamp": 3, "name": "action_x"},
    {"event": "stack", "timestamp": 3, "update": "[]"},
    {"event": "flow_started", "timestamp": 3, "metadata": {"a": [1]}, "flow_id": "f"},
    {"event": "agent_cancelled", "timestamp": 3, "agent_id": "a", "flow_id": "f", "reason": "r"},
    {"event": "error", "timestamp": 3, "error_code": 7, "anonymized_at": 5},
    {"event": "brand new", "zebra": 1, "apple": {"nested": [None, True, 1.0, {}]}, "timestamp": 4},
    {"event": "user", "text": None, "timestamp": None},
    {"event": "slot"},
    {"event": "slot", "name": "n" * 300, "value": "\0 and 🙂 and ü", "timestamp": 1e300},
    {"event": "slot", "name": "\0", "value": [2**70, -(2**63), 0.1, 1e-300, 5.0, ""]},
    {"event": "slot", "name": "$set", "value": {"$a.b": 1, "": 2, "_id": 3}, "timestamp": "soon"},
    {"event": "action", "name": 5, "timestamp": 2**70},
    {"event": "x" * 300, "metadata": None, "timestamp": True},
]  # fmt: skip
