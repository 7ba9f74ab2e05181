"""Stored events as texts, and what was made of them before.

A claim reads all texts of a session, and most of them were read before by the same process. What was
made of a text is kept beside it and compared with it, so it is never older than what is stored: a
history that another program changed, replaced or deleted has other texts. Most turns ask a session only
whether it has a message, and which types of events: that is known without making its events.
"""

from __future__ import annotations

import marshal
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, overload

from .. import process
from ..events import UserUttered
from ..events.event import Event, fields_to_keep, restored
from ..plain_json import load_events, weight
from ..process import clock

#: Bytes that all kept conversations take together, about.
MAX_KEPT = 32 * 1024 * 1024
#: Seconds after which a conversation is kept no more if no turn has read it.
KEPT_FOR = 600.0
#: Parts of a kept conversation, one for each claim that found new events, before they are joined.
_PARTS = 16
#: What the modules of event types begin with whose fields are all of JSON's types.
_OURS = Event.__module__.rpartition(".")[0] + "."
#: Bytes that a kept event takes beside its text, and a conversation beside its events.
_BESIDE, _EMPTY = 100, 500


#: Held while a list of parts or events is replaced: a bot may ask for events in a thread of its own.
changing = process.shared_lock()


class StoredEvents(Sequence[Mapping[str, Any]]):
    """The events of a session as a store has them, parsed when they are first used.

    Args:
        texts: the JSON of each.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self._parsed: Sequence[Mapping[str, Any]] | None = None

    def parse(self, start: int) -> Sequence[Mapping[str, Any]]:
        """The events from an index on. Raises ValueError if one is not JSON."""
        return load_events(self.texts[start:])

    def __len__(self) -> int:
        return len(self.texts)

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if self._parsed is None:
            self._parsed = self.parse(0)
        return self._parsed[index]


@dataclass
class _Kept:
    """What was made of the texts of a conversation: types, and fields as `marshal` writes them.

    No object in it is handed out, so that a bot which changes its event changes only that.
    """

    texts: list[str] = field(default_factory=list)
    kinds: list[type[Event]] = field(default_factory=list)
    parts: list[bytes] = field(default_factory=list)
    #: Message id -> place and time of the last event of the user that has it.
    messages: dict[str, tuple[int, float]] = field(default_factory=dict)
    #: Place and time of the last event of the user.
    last: tuple[int, float] = (-1, 0.0)
    #: Whether the first event has metadata.
    headed: bool = False
    weight: int = 0
    #: What it counts for in `RecentEvents`; only `add` changes it.
    bytes: int = _EMPTY
    used: float = 0.0

    def events(self, count: int) -> list[Event]:
        """The first ones; there may be more by now."""
        parts = self.parts
        fields = [one for part in parts for one in marshal.loads(part)]
        if len(parts) > _PARTS:
            joined = [marshal.dumps(fields)]  # which is smaller; `bytes` stays
            with changing:
                if self.parts is parts:
                    self.parts = joined
        return restored(self.kinds[:count], fields[:count])

    def add(self, texts: Sequence[str], events: Sequence[Event]) -> None:
        """Raises ValueError if a type of event has fields that are not of JSON's types."""
        part, kinds = marshal.dumps([*map(fields_to_keep, events)]), [*map(type, events)]
        # `marshal` takes an array for its bytes.
        if not all(map(_is_ours, kinds)) and _bytes_in(marshal.loads(part)):
            raise ValueError("a field is an array, or bytes")
        for place, event in enumerate(events, len(self.texts)):
            if place == 0:
                self.headed = bool(event.metadata)
            if isinstance(event, UserUttered):
                self.last = (place, event.timestamp)
                if isinstance(event.message_id, str):
                    self.messages[event.message_id] = self.last
        with changing:
            self.parts = [*self.parts, part]
        self.texts += texts
        self.kinds += kinds
        added = weight(texts)
        self.weight += added
        self.bytes += added + _BESIDE * len(texts) + len(part)


@cache
def _is_ours(kind: type[Event]) -> bool:
    return kind.__module__.startswith(_OURS)


class Unmade:
    """The events of a stored session, which are made when they are asked for: new objects each time.

    Attributes:
        count: how many there are.
    """

    __slots__ = ("_kept", "count")

    def __init__(self, kept: _Kept) -> None:
        self._kept = kept
        self.count = len(kept.texts)

    @property
    def outdated(self) -> bool:
        """Whether a later claim has found more events: `find` and `last_message_at` are of those too."""
        return len(self._kept.texts) > self.count

    def make(self) -> list[Event]:
        return self._kept.events(self.count)

    @property
    def kinds(self) -> list[type[Event]]:
        """Their types."""
        return self._kept.kinds[: self.count]

    @property
    def headed(self) -> bool:
        """Whether the first of them has metadata."""
        return self._kept.headed

    def find(self, message_id: str) -> tuple[int, float] | None:
        """Place and time of the last event of the user that has a message id."""
        return self._kept.messages.get(message_id)

    @property
    def last_message_at(self) -> float | None:
        """The time of the last event of the user."""
        place, moment = self._kept.last
        return moment if place >= 0 else None


def _bytes_in(value: Any) -> bool:
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return any(map(_bytes_in, value))
    return isinstance(value, bytes)


class RecentEvents:
    """Makes events of stored texts, and keeps those of the conversations that were read last."""

    def __init__(self) -> None:
        #: The one that was used last is the last. A plain dictionary steps over each place that was freed
        #: in its front, thousands of them.
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = 0

    def made(self, name: str, stored: StoredEvents) -> tuple[Unmade | list[Event], int]:
        """The events, and the `weight` of their texts. Raises ValueError, InvalidEvent."""
        kept = self._kept.pop(name, None)
        if kept is not None:
            self._bytes -= kept.bytes
        if kept is None or stored.texts[: len(kept.texts)] != kept.texts:
            kept = _Kept()
        known = len(kept.texts)
        if known < len(stored):
            new = [Event.from_dict(wire, stamp=False) for wire in stored.parse(known)]
            try:
                kept.add(stored.texts[known:], new)
            except ValueError:
                return kept.events(known) + new, weight(stored.texts)
        self._keep(name, kept)
        return Unmade(kept), kept.weight

    def forget(self, name: str) -> None:
        """Keep a conversation no more."""
        kept = self._kept.pop(name, None)
        if kept is not None:
            self._bytes -= kept.bytes

    def _keep(self, name: str, kept: _Kept) -> None:
        kept.used = clock()
        self._kept[name] = kept
        self._bytes += kept.bytes
        while self._kept:
            oldest = next(iter(self._kept))
            if self._bytes <= MAX_KEPT and self._kept[oldest].used > kept.used - KEPT_FOR:
                break
            self.forget(oldest)
