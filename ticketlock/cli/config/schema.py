"""The keys of `endpoints.yml` by section and type, and its JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...actions.settings import ActionSettings
from ...deliveries.settings import CallbackSettings
from ...endpoints.file import FOREIGN, FOREIGN_KEYS
from ...endpoints.registry import TYPES
from ...event_service.settings import ServiceSettings
from ...server.settings import Settings
from ...settings.broker_keys import FileKeys, KafkaKeys, PikaKeys, SQLEventKeys
from ...settings.channel_keys import CHANNEL_KEYS
from ...settings.keys import Declared, declared
from ...settings.section import FALSE, TRUE
from ...settings.store_keys import (
    ConcurrentRedisKeys,
    DynamoKeys,
    MongoKeys,
    NoKeys,
    RedisLockStoreKeys,
    RedisTrackerKeys,
    SQLStoreKeys,
)

#: section -> type -> key -> its declaration
KEYS: dict[str, dict[str, dict[str, Declared]]] = {
    "lock_store": {
        "in_memory": declared(NoKeys),
        "concurrent_redis": declared(ConcurrentRedisKeys),
        "redis": declared(RedisLockStoreKeys),
    },
    "tracker_store": {
        "in_memory": declared(NoKeys),
        "sql": declared(SQLStoreKeys),
        "redis": declared(RedisTrackerKeys),
        "mongod": declared(MongoKeys),
        "dynamo": declared(DynamoKeys),
    },
    "event_broker": {
        "pika": declared(PikaKeys),
        "kafka": declared(KafkaKeys),
        "sql": declared(SQLEventKeys),
        "file": declared(FileKeys),
    },
    "event_service": {"sql": {**declared(ServiceSettings), **declared(SQLEventKeys)}},
    "server": {"http": declared(Settings)},
    "action_endpoint": {"http": declared(ActionSettings)},
    "callback": {"http": declared(CallbackSettings)},
}

#: The section `channels`: channel -> key -> its declaration. It has no types.
CHANNELS: dict[str, dict[str, Declared]] = {
    name: declared(keys) for name, keys in CHANNEL_KEYS.items()
}

#: Section -> its purpose.
MEANINGS = {
    "lock_store": "who has a conversation's turn, and who waits for it",
    "tracker_store": "the histories of conversations",
    "event_broker": "where committed events are published; without it they are not",
    "event_service": "where `ticketlock events consume` stores what was published",
    "server": "the bot server of `ticketlock run`",
    "action_endpoint": "the action server that runs the custom actions of `turn.run_action`",
    "callback": "where the replies to messages of the channel callback are posted to",
    "channels": "the messaging channels that the bot server serves, each by its name",
}
#: Sections whose `type` may also be the module path of a custom class.
CUSTOM = ("lock_store", "tracker_store", "event_broker")

#: Text with `${NAME}` stands for any value.
_VARIABLE = {"type": "string", "pattern": r"\$\{"}


def belongs(key: str, section: str = "") -> str | None:
    """The type or section that has such a key, as a text for errors.

    Args:
        section: the section with the unknown key; empty: it is outside of all sections.

    Returns None if no other has it, or `section` is unknown.
    """
    if section and section not in KEYS:
        return None
    types = [kind for kind, keys in KEYS.get(section, {}).items() if _has(keys, key)]
    if types:
        return f"it is a setting of type {_either(types)}"
    everything = {**KEYS, "channels": CHANNELS}
    sections = [s for s, kinds in everything.items() if any(_has(k, key) for k in kinds.values())]
    return f"it belongs in the section {_either(sections)}" if sections else None


def _has(keys: Mapping[str, Declared], key: str) -> bool:
    return key in keys and not keys[key].key.python_only


def _either(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def schema() -> dict[str, Any]:
    """The JSON Schema; it allows any keys of custom classes, and sections of other programs."""
    others = {
        name: {"description": f"not used by ticketlock: {why}"} for name, why in FOREIGN.items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "endpoints.yml of ticketlock",
        "type": "object",
        "properties": {
            **{name: _section(name) for name in KEYS},
            "channels": _channels(),
            **others,
        },
        "additionalProperties": False,
    }


def _section(name: str) -> dict[str, Any]:
    """The schema of a section: the keys of its `type`, or any keys of a custom class."""
    default = TYPES[name][1]
    types: list[dict[str, Any]] = [{"enum": [*KEYS[name]]}, _VARIABLE]
    types += [{"pattern": r"[.:]"}] if name in CUSTOM else []
    types += [{"pattern": pattern} for pattern in map(_any_case, KEYS[name])]
    kind = {
        "type": ["string", "null"],
        "description": "what it is" + (", or the path of a class" if name in CUSTOM else ""),
        "default": default,
        "anyOf": [*types, {"type": "null"}],
    }
    return {
        "type": ["object", "null"],
        "description": MEANINGS[name],
        "properties": {"type": kind},
        "allOf": [_case(name, each, each == default) for each in KEYS[name]],
    }


def _channels() -> dict[str, Any]:
    """The schema of the section `channels`: an object for each, with what it cannot be without."""
    made = {}
    for name, keys in CHANNELS.items():
        made[name] = {
            "type": "object",
            "properties": {key: _value(one) for key, one in keys.items()},
            "required": [key for key, one in keys.items() if one.key.shown == "required"],
            "additionalProperties": False,
        }
    return {
        "type": ["object", "null"],
        "description": MEANINGS["channels"],
        "properties": made,
        "additionalProperties": False,
    }


def _case(section: str, kind: str, untyped: bool) -> dict[str, Any]:
    """The schema of one type of a section."""
    types = [{"type": "string", "pattern": _any_case(kind)}]
    keys = {
        name: _value(key) for name, key in KEYS[section][kind].items() if not key.key.python_only
    }
    foreign = {
        name: {"description": f"not used by ticketlock: {why}"}
        for name, why in FOREIGN_KEYS.get(section, {}).items()
    }
    return {
        "if": {
            "type": "object",
            "properties": {"type": {"anyOf": [*types, {"type": "null"}] if untyped else types}},
            "required": [] if untyped else ["type"],
        },
        "then": {"properties": {"type": {}, **keys, **foreign}, "additionalProperties": False},
    }


def _value(declared: Declared) -> dict[str, Any]:
    """The schema of a value; null is the same as a missing key."""
    key = declared.key
    described: dict[str, Any] = {"description": key.meaning}
    if declared.default is not None:
        texts = declared.kind == "texts"
        described["default"] = list(declared.default) if texts else declared.default
    number: dict[str, Any] = {"type": "integer" if declared.kind == "integer" else "number"}
    number |= {} if key.low is None else {"minimum": key.low}
    number |= {} if key.high is None else {"maximum": key.high}
    kinds: dict[str, list[dict[str, Any]]] = {
        "text": [{"type": ["string", "integer"]}],
        "integer": [number, {"type": "string", "pattern": r"^\s*[+-]?\d"}, _VARIABLE],
        "number": [number, {"type": "string", "pattern": r"^\s*[+-]?\.?\d"}, _VARIABLE],
        "flag": [
            {"type": "boolean"}, {"enum": [0, 1]},
            {"type": "string", "pattern": "|".join(map(_any_case, (*TRUE, *FALSE)))}, _VARIABLE,
        ],
        "choice": [
            {"enum": [*declared.options]},
            *({"type": "string", "pattern": _any_case(name)} for name in declared.options),
            _VARIABLE,
        ],
        "texts": [{"type": "array", "items": {"type": "string"}}, {"type": "string"}],
        "mapping": [{"type": "object"}],
    }  # fmt: skip
    return {**described, "anyOf": [*kinds[declared.kind], {"type": "null"}]}


def _any_case(name: str) -> str:
    """A pattern that matches the name in any case."""
    letters = (f"[{c.upper()}{c.lower()}]" if c.isalpha() else c for c in name)
    return "^" + "".join(letters) + "$"
