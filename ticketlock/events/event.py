"""The base class of events: type, timestamp, metadata, and conversion to a dictionary and back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
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
    """Something that happened in a conversation. Applying it never does I/O.

    The fields of a subclass are the keys of its dictionary. An event read from a dictionary
    returns exactly that dictionary, with fields that its class does not know.

    Attributes:
        timestamp: epoch seconds; None means now, 0 is kept.
        metadata: any data of the bot's author.
    """

    type_name: ClassVar[str] = ""
    #: Other type names that are read as this class (those of older versions).
    aliases: ClassVar[tuple[str, ...]] = ()
    #: Whether the dictionary has the key `metadata` even if it is empty.
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
        """The event of a dictionary; UnknownEvent if its type or fields are not known.

        Args:
            stamp: copy the dictionary, and add what it lacks: the present timestamp, and an empty
                `parse_data` of a user event. False for events that were read from a store.

        Raises InvalidEvent if `wire` is not a mapping with a text under `event`.
        """
        # A dictionary first: an instance of an abstract class takes ten times as long to tell.
        kind = wire.get("event") if isinstance(wire, (dict, Mapping)) else None
        if not isinstance(kind, str):
            raise InvalidEvent(
                f"an event is a mapping such as {{'event': 'user', 'text': 'hi'}}, not {brief(wire)}"
            )
        try:
            kept = copied(dict(wire)) if stamp else dict(wire)
        except ValueError as error:
            raise InvalidEvent(f"event {kind!r:.80}: {error}") from None
        if stamp and kept.get("timestamp") is None:
            kept["timestamp"] = time.time()
        if stamp and kind == "user" and kept.get("parse_data") is None:
            kept["parse_data"] = {}  # Rasa cannot read a history that has one without
        made_as = EVENT_TYPES.get(kind, UnknownEvent)
        values = made_as.arguments_from(kept)
        if values is None:  # a required field is missing: the event is kept, without effect
            made_as, values = UnknownEvent, {"kind": kind}
        # A turn reads many events, and the constructor of a frozen class took most of the time.
        event = object.__new__(made_as)
        made = vars(event)
        for name, make in _factories(made_as):  # type: ignore[arg-type]  # a class is hashable
            if name not in values:
                made[name] = make()
        made.update(values)
        timestamp, metadata = kept.get("timestamp"), kept.get("metadata")
        number = isinstance(timestamp, (int, float)) and not isinstance(timestamp, bool)
        made["timestamp"] = timestamp if number else 0.0
        made["metadata"] = metadata if isinstance(metadata, dict) else {}
        made["_wire"] = kept
        event.__post_init__()
        return event

    @classmethod
    def arguments_from(cls, wire: Mapping[str, Any]) -> dict[str, Any] | None:
        """Arguments of the constructor, from a dictionary; None if a required one is missing."""
        own, required = fields_of(cls)  # type: ignore[arg-type]  # the class itself is hashable
        if not required <= wire.keys():
            return None
        return {name: wire[name] for name in own if name in wire}

    def as_dict(self) -> dict[str, Any]:
        """The dictionary that is stored and published; inner values are not copied."""
        wire: dict[str, Any] | None = getattr(self, "_wire", None)
        if wire is not None:
            return dict(wire)
        made: dict[str, Any] = {"event": self.type_name, "timestamp": self.timestamp}
        if self.metadata or self.always_metadata:
            made["metadata"] = self.metadata
        names = fields_of(type(self))[0]  # type: ignore[arg-type]  # the class itself is hashable
        made |= {name: getattr(self, name) for name in names}
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Event) and self.as_dict() == other.as_dict()

    __hash__ = None  # type: ignore[assignment]  # metadata and slot values need not be hashable


@dataclass(frozen=True, eq=False)
class UnknownEvent(Event):
    """An event whose type or fields this version does not know; it is kept unchanged."""

    kind: str

    @classmethod
    def arguments_from(cls, wire: Mapping[str, Any]) -> dict[str, Any]:
        return {"kind": wire["event"]}

    def as_dict(self) -> dict[str, Any]:
        made = super().as_dict()
        if "kind" in made and not hasattr(self, "_wire"):
            made["event"] = made.pop("kind")
        return made


def fields_to_keep(event: Event) -> dict[str, Any]:
    """What `restored` makes an equal event of: fields, and the dictionary if they do not tell it."""
    values = dict(vars(event))
    wire = values.pop("_wire", None)
    if wire is not None:
        kind = type(event)
        names = _told(kind, bool(values["metadata"]))  # type: ignore[arg-type]  # as above
        if (
            names is None
            or names != (*wire,)
            or wire["event"] != kind.type_name
            # A type may have left one out: then its class has the value.
            or any(values.get(name, wire) is not wire[name] for name in names[1:])
        ):
            values["_wire"] = wire
    return values


@cache
def _told(kind: type[Event], metadata: bool) -> tuple[str, ...] | None:
    """The keys of what `as_dict` makes of the fields; None: it makes something else."""
    if kind.as_dict is not Event.as_dict:
        return None
    more = ("metadata",) if metadata or kind.always_metadata else ()
    return ("event", "timestamp", *more, *fields_of(kind)[0])  # type: ignore[arg-type]  # as above


def restored(kinds: Iterable[type[Event]], each: Iterable[dict[str, Any]]) -> list[Event]:
    """The events of these types whose `vars` are these; they take the dictionaries over."""
    new, set_ = object.__new__, object.__setattr__
    events: list[Event] = []
    for kind, values in zip(kinds, each, strict=True):
        event = new(kind)
        set_(event, "__dict__", values)
        events.append(event)
    return events


@cache  # it is called for each event of a session
def fields_of(kind: type[Event]) -> tuple[list[str], set[str]]:
    """The fields of an event type other than the common ones: all, and the required ones."""
    own = [f for f in fields(kind) if f.init and f.name not in _COMMON]
    required = {f.name for f in own if f.default is MISSING and f.default_factory is MISSING}
    return [f.name for f in own], required


@cache
def _factories(kind: type[Event]) -> tuple[tuple[str, Callable[[], Any]], ...]:
    """The fields of an event type whose default is made anew for each; others are in the class."""
    own = (f for f in fields(kind) if f.name not in _COMMON)
    return tuple((f.name, f.default_factory) for f in own if f.default_factory is not MISSING)
