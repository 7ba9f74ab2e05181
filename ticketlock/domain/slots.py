"""The slots that a domain declares, and what values they take."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigurationError
from ..plain_json import brief, copied

log = logging.getLogger("ticketlock")

#: The documented types. Another one is the path of a class, which is not imported.
TYPES = ("text", "bool", "categorical", "float", "list", "any")
#: Slots of every domain, of one with forms, and of one that asks a knowledge base.
_METADATA, _REQUESTED = "session_started_metadata", "requested_slot"
_KNOWLEDGE_BASE = "action_query_knowledge_base"
_KNOWLEDGE = (
    "knowledge_base_listed_objects", "knowledge_base_last_object", "knowledge_base_last_object_type",
)  # fmt: skip
#: Most names of slots that are not declared, of which each is logged once.
_NAMED = 1000


@dataclass(frozen=True)
class Slot:
    """A declared slot.

    Attributes:
        name: its name.
        type: one of the documented types, or the path of a class.
        initial_value: its value in a new conversation, and after a reset.
    """

    name: str
    type: str
    initial_value: Any = None

    def value(self, given: Any) -> Any:
        """The value that it has once it is set to `given`, as documented.

        Only a list changes what it is given: one value becomes a list of it. The other types keep
        any value; bounds and values of `float` and `categorical` concern a model, which is not here.
        """
        return [given] if self.type == "list" and given and not isinstance(given, list) else given


class DeclaredSlots(Mapping[str, Any]):
    """The initial values of a domain's slots by name; no other slots can be set."""

    def __init__(self, slots: Mapping[str, Slot]) -> None:
        self._slots = slots
        self._initial = {name: one.value(one.initial_value) for name, one in slots.items()}
        self._unknown: set[str] = set()

    def fitted(self, name: str, value: Any) -> Any:
        """The value of a declared slot that is set."""
        return self._slots[name].value(value)

    def report(self, name: str) -> None:
        """Log, once for each name, that a slot is set which is not declared."""
        if name not in self._unknown and len(self._unknown) < _NAMED:
            self._unknown.add(name)
            log.warning(
                "slot %s is not in the domain: it has no value; declare it under slots", brief(name)
            )

    def __getitem__(self, name: str) -> Any:
        value = self._initial[name]
        # A bot may change a list in place.
        return copied(value) if isinstance(value, (list, dict)) else value

    def __iter__(self) -> Iterator[str]:
        return iter(self._initial)

    def __len__(self) -> int:
        return len(self._initial)


def declared_slots(data: Mapping[str, Any], where: str) -> dict[str, Slot]:
    """The slots of a checked domain, in order, with those that every domain has.

    Raises ConfigurationError.
    """
    found = {name: _slot(name, keys, where) for name, keys in (data.get("slots") or {}).items()}
    added = [_REQUESTED] if data.get("forms") else []
    added += _KNOWLEDGE if _KNOWLEDGE_BASE in (data.get("actions") or ()) else ()
    for name in added:
        found.setdefault(name, Slot(name, "text"))
    found.setdefault(_METADATA, Slot(_METADATA, "any"))
    return found


def _slot(name: str, keys: Any, where: str) -> Slot:
    place = f"{where}: slots: {name}"
    if not isinstance(keys, Mapping):
        raise ConfigurationError(f"{place}: is not a mapping with a type: type: text")
    kind = keys.get("type")
    if not isinstance(kind, str) or (kind not in TYPES and "." not in kind):
        known = ", ".join(TYPES)
        raise ConfigurationError(
            f"{place}: type: {brief(kind)} is not known; use one of {known}, or the path of a class"
        )
    if kind == "float":
        low, high = keys.get("min_value", 0.0), keys.get("max_value", 1.0)
        for key, bound in (("min_value", low), ("max_value", high)):
            if isinstance(bound, bool) or not isinstance(bound, (int, float)):
                raise ConfigurationError(f"{place}: {key}: {brief(bound)} is not a number")
        if low >= high:
            raise ConfigurationError(
                f"{place}: min_value {low} is not below max_value {high}; change one of them"
            )
    return Slot(name, kind, keys.get("initial_value"))
