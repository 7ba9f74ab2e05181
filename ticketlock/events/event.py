"""What all events have in common: a type, a timestamp, metadata, and a lossless dictionary."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from typing import Any, ClassVar

from ..errors import InvalidEvent
from ..plain_json import brief, copied

#: Wire name -> class; filled by the classes themselves.
EVENT_TYPES: dict[str, type[Event]] = {}

_COMMON = {"timestamp", "metadata"}


@dataclass(frozen=True, eq=False)
class Event:
    """One thing that happened in a conversation. Applying it never does I/O.

    The fields of a subclass are the keys of its dictionary. An event that was read from a
    dictionary gives exactly that dictionary back, fields unknown to its class included.

    Attributes:
        timestamp: epoch seconds; what is given is kept (0 too), None means now.
        metadata: free data of the bot's author.
    """

    type_name: ClassVar[str] = ""
    #: Other wire names that are read as this class (types of older versions).
    aliases: ClassVar[tuple[str, ...]] = ()
    #: Whether the dictionary has `metadata` even when there is none.
    always_metadata: ClassVar[bool] = False

    timestamp: float = field(default=None, kw_only=True)  # type: ignore[assignment]  # see below
    metadata: dict[str, Any] = field(default_factory=dict, kw_only=True)

    def __init_subclass__(cls) -> None:
        for name in (cls.type_name, *cls.aliases):
            if name:
                EVENT_TYPES[name] = cls

    def __post_init__(self) -> None:
        if self.timestamp is None:
            object.__setattr__(self, "timestamp", time.time())
        if self.metadata is None:
            object.__setattr__(self, "metadata", {})

    @staticmethod
    def from_dict(wire: Mapping[str, Any], *, stamp: bool = True) -> Event:
        """The event of a dictionary; UnknownEvent for a type or a shape we do not know.

        Args:
            stamp: give an event that has no timestamp the present one, in its dictionary
                too, and copy the dictionary. False for what comes out of a store.

        Raises InvalidEvent if `wire` is no mapping with a text under `event`.
        """
        kind = wire.get("event") if isinstance(wire, Mapping) else None
        if not isinstance(kind, str):
            raise InvalidEvent(f"an event is a mapping with a text 'event', not {brief(wire)}")
        try:
            kept = copied(dict(wire)) if stamp else dict(wire)
        except ValueError as error:
            raise InvalidEvent(f"event {kind!r:.80}: {error}") from None
        if stamp and kept.get("timestamp") is None:
            kept["timestamp"] = time.time()
        made_as = EVENT_TYPES.get(kind, UnknownEvent)
        values = made_as._values(kept)
        if values is None:  # it lacks what its type needs: kept, without effect
            event: Event = UnknownEvent(kind, **_common(kept))
        else:
            event = made_as(**values, **_common(kept))
        object.__setattr__(event, "_wire", kept)
        return event

    @classmethod
    def _values(cls, wire: Mapping[str, Any]) -> dict[str, Any] | None:
        """Constructor arguments from a dictionary; None if a required one is missing."""
        own, required = fields_of(cls)  # type: ignore[arg-type]  # the class itself is hashable
        if not required <= wire.keys():
            return None
        return {name: wire[name] for name in own if name in wire}

    def as_dict(self) -> dict[str, Any]:
        """The dictionary that is stored and published; its inner values are not copies."""
        wire: dict[str, Any] | None = getattr(self, "_wire", None)
        if wire is not None:
            return dict(wire)
        made: dict[str, Any] = {"event": self.type_name, "timestamp": self.timestamp}
        if self.metadata or self.always_metadata:
            made["metadata"] = self.metadata
        made |= {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _COMMON}
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Event) and self.as_dict() == other.as_dict()

    __hash__ = None  # type: ignore[assignment]  # metadata and slot values need not be hashable


@dataclass(frozen=True, eq=False)
class UnknownEvent(Event):
    """An event of a type, or in a shape, that this version does not know; kept as it came."""

    kind: str

    @classmethod
    def _values(cls, wire: Mapping[str, Any]) -> dict[str, Any]:
        return {"kind": wire["event"]}

    def as_dict(self) -> dict[str, Any]:
        made = super().as_dict()
        if "kind" in made and not hasattr(self, "_wire"):
            made["event"] = made.pop("kind")
        return made


@cache  # a turn reads a whole session of events
def fields_of(kind: type[Event]) -> tuple[list[str], set[str]]:
    """The fields of an event type beyond the common ones: all, and those without a default."""
    own = [f for f in fields(kind) if f.init and f.name not in _COMMON]
    required = {f.name for f in own if f.default is MISSING and f.default_factory is MISSING}
    return [f.name for f in own], required


def _common(wire: Mapping[str, Any]) -> dict[str, Any]:
    timestamp, metadata = wire.get("timestamp"), wire.get("metadata")
    if isinstance(timestamp, bool) or not isinstance(timestamp, (int, float)):
        timestamp = 0.0
    return {
        "timestamp": timestamp,
        "metadata": metadata if isinstance(metadata, dict) else {},
    }
