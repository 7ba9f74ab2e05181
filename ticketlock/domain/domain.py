"""`Domain`: what the files of a domain declare, checked and immutable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

from ..errors import ConfigurationError
from ..plain_json import brief, plain
from ..settings.section import hint
from .responses import Variation, check_responses, chosen, filled, suitable
from .slots import DeclaredSlots, Slot, declared_slots

#: The documented format of the files.
_VERSION = "3.1"
#: Section -> its type.
SECTIONS: dict[str, type] = {
    "intents": list, "entities": list, "actions": list, "e2e_actions": list,
    "slots": dict, "forms": dict, "responses": dict, "session_config": dict, "config": dict,
}  # fmt: skip
#: Section that is sent to actions, and not used otherwise -> why.
_UNUSED = {
    "intents": "messages are not parsed",
    "entities": "messages are not parsed",
    "forms": "the bot's function asks for what is missing",
    "e2e_actions": "no model predicts actions",
    "config": "entities fill no slots",
}


@dataclass(frozen=True)
class SessionConfig:
    """When a session ends.

    Attributes:
        session_expiration_time: minutes since the user's last message; 0: never.
        carry_over_slots_to_new_session: a session begins with the slots of the one before.
    """

    session_expiration_time: float = 60
    carry_over_slots_to_new_session: bool = True

    @classmethod
    def of(cls, keys: Mapping[str, Any], where: str) -> SessionConfig:
        """The checked values. Raises ConfigurationError."""
        minutes = keys.get("session_expiration_time")
        minutes = cls.session_expiration_time if minutes is None else minutes
        carry = keys.get("carry_over_slots_to_new_session", True)
        if isinstance(minutes, bool) or not isinstance(minutes, (int, float)) or not minutes >= 0:
            raise ConfigurationError(
                f"{where}: session_config: session_expiration_time: {brief(minutes)} is not a "
                "number of minutes; 0 is never"
            )
        if not isinstance(carry, bool):
            raise ConfigurationError(
                f"{where}: session_config: carry_over_slots_to_new_session: {brief(carry)} is not "
                "true or false"
            )
        return cls(minutes, carry)


@dataclass(frozen=True, eq=False)
class Domain:
    """The domain of a bot; from files by `read_domain`, from a mapping by `from_dict`.

    Attributes:
        where: the file or folder, for errors.
        slots: name -> slot, with the documented default ones.
        responses: name -> its variations.
        session_config: when a session ends.
        unused: what of it ticketlock does not use -> why.
    """

    where: str
    slots: Mapping[str, Slot]
    responses: Mapping[str, tuple[Variation, ...]]
    session_config: SessionConfig
    unused: Mapping[str, str]
    _json: str = field(repr=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "domain") -> Domain:
        """A domain from the keys of a domain file. Raises ConfigurationError."""
        checked = check_sections(plain(data), where)
        complete = _complete(checked)
        return cls(
            where=where,
            slots=MappingProxyType(declared_slots(checked, where)),
            responses=_frozen(checked.get("responses") or {}),
            session_config=SessionConfig.of(complete["session_config"], where),
            unused=MappingProxyType(_unused(checked)),
            _json=json.dumps(complete, ensure_ascii=False),
        )

    @cached_property
    def initial_slots(self) -> DeclaredSlots:
        """Name -> initial value, for a `Tracker`."""
        return DeclaredSlots(self.slots)

    def as_dict(self) -> dict[str, Any]:
        """The documented form of the whole domain, as actions get it; a new copy each time."""
        made: dict[str, Any] = json.loads(self._json)
        return made

    def as_json(self) -> str:
        """`as_dict` as JSON text, which is kept: it costs nothing."""
        return self._json

    def response(
        self,
        name: str,
        channel: str | None = None,
        slots: Mapping[str, Any] | None = None,
        variables: Mapping[str, Any] | None = None,
        draw: str = "",
    ) -> dict[str, Any] | None:
        """A response with its variables replaced by `variables`, or else by `slots`.

        Args:
            channel: prefer the variations of this channel.
            draw: decides between several variations; the same text always chooses the same one.

        Returns the keys of the chosen variation; None if the conditions of all exclude them.
        Raises ConfigurationError for an unknown name.
        """
        if name not in self.responses:
            raise ConfigurationError(
                f"{self.where}: responses: {name!r:.80} is not there; {hint(name, self.responses)}"
            )
        slots = slots or {}
        found = suitable(self.responses[name], channel, slots)
        if not found:
            return None
        return filled(name, chosen(found, draw), {**slots, **(variables or {})})


def check_sections(data: Any, where: str) -> dict[str, Any]:
    """The mapping of a domain file. Raises ConfigurationError."""
    if not isinstance(data, dict):
        raise ConfigurationError(f"{where}: is not a mapping of sections such as slots, responses")
    for section, kind in SECTIONS.items():
        if data.get(section) is not None and not isinstance(data[section], kind):
            wanted = "list" if kind is list else "mapping"
            raise ConfigurationError(f"{where}: {section}: is not a {wanted}")
    declared_slots(data, where)
    check_responses(data.get("responses") or {}, where)
    SessionConfig.of(data.get("session_config") or {}, where)
    for section in ("intents", "entities", "actions"):
        for one in data.get(section) or ():
            if not isinstance(one, str) and not (isinstance(one, dict) and one):
                raise ConfigurationError(
                    f"{where}: {section}: {brief(one)} is not a name, nor a name with settings"
                )
    for name, form in (data.get("forms") or {}).items():
        if form is not None and not isinstance(form, dict):
            raise ConfigurationError(f"{where}: forms: {name}: is not a mapping: required_slots:")
    return data


def name_of(one: Any) -> str:
    """The name of an intent, an entity or an action, with settings or without."""
    return str(min(one)) if isinstance(one, dict) else str(one)


def _complete(data: Mapping[str, Any]) -> dict[str, Any]:
    """The documented form: without what is empty, with defaults, and its intents sorted."""
    made = {key: value for key, value in data.items() if value not in ({}, [], None)}
    if "forms" in made:
        made["forms"] = {
            name: form if form is None or "required_slots" in form else {"required_slots": form}
            for name, form in made["forms"].items()
        }
    if "intents" in made:
        made["intents"] = sorted(map(_intent, made["intents"]), key=_first)
    made.setdefault("session_config", vars(SessionConfig()))
    made.setdefault("version", _VERSION)
    return made


def _first(one: Any) -> str:
    return str(next(iter(one))) if isinstance(one, dict) else str(one)


def _intent(one: Any) -> Any:
    """An intent, whose settings for no entities have one form."""
    if isinstance(one, str):
        return one
    lists = ("use_entities", "ignore_entities")
    return {
        name: {key: value or [] if key in lists else value for key, value in keys.items()}
        if isinstance(keys, dict) else keys
        for name, keys in one.items()
    }  # fmt: skip


def _unused(data: Mapping[str, Any]) -> dict[str, str]:
    found = {key: why for key, why in _UNUSED.items() if data.get(key)}
    slots = (data.get("slots") or {}).values()
    if any(slot.get("mappings") for slot in slots):
        found["slots.mappings"] = "the bot's function and its actions set slots"
    known = {*SECTIONS, "version"}
    return found | {str(key): "is not a known section" for key in data if key not in known}


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return MappingProxyType({key: _frozen(inner) for key, inner in value.items()})
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
