"""What every store checks before it writes: ids, claims, and events that survive a round trip."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..checks import MAX_FENCE
from ..errors import InvalidEvent, TrackerStoreError
from ..plain_json import MAX_DEPTH, TOO_DEEP, brief
from . import intent_name, starts_session

#: Refuses cycles, and numbers that JSON has not. Made once: a turn encodes every event.
_plain = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode

#: Bytes of one event's JSON that every store takes unless it says less.
MAX_EVENT_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class EncodedEvent:
    """An event that has passed the checks, as the stores take it.

    Attributes:
        wire: the dictionary.
        text: the same as JSON, in ASCII: no character set of a database can spoil it, and
            a NUL character is its escape, which PostgreSQL can store.
        type_name, intent_name, action_name: what the documented columns hold, uncut.
        timestamp: epoch seconds; None if the event has none.
        starts_session: it is an `action_session_start`.
    """

    wire: Mapping[str, Any]
    text: str
    type_name: str
    timestamp: float | None
    intent_name: str | None
    action_name: str | None
    starts_session: bool


def encode_events(
    events: Iterable[Mapping[str, Any]], max_bytes: int = MAX_EVENT_BYTES
) -> list[EncodedEvent]:
    """Check and encode events, all of them before any is written.

    Raises InvalidEvent naming the event's place in the list.
    """
    return list(encoding(events, max_bytes))


def encoding(
    events: Iterable[Mapping[str, Any]], max_bytes: int = MAX_EVENT_BYTES
) -> Iterator[EncodedEvent]:
    """As `encode_events`, one after the other."""
    return (_encode(wire, place, max_bytes) for place, wire in enumerate(events))


def _encode(event: Mapping[str, Any], place: int, max_bytes: int) -> EncodedEvent:
    kind = event.get("event") if isinstance(event, Mapping) else None
    if not isinstance(kind, str):
        raise InvalidEvent(f"event {place}: not a mapping with a text 'event': {brief(event)}")
    wire = dict(event)
    where = f"event {place} ({kind!r:.80})"
    try:
        text = _plain(wire)
        _check_inside(wire)
        if not text.isascii():
            text.encode()
            text = json.dumps(wire)
        json.loads(text)
    except UnicodeEncodeError as error:
        raise InvalidEvent(f"{where}: not valid Unicode: {error}; replace it first") from None
    except (TypeError, ValueError, RecursionError) as error:
        why = TOO_DEEP if isinstance(error, RecursionError) else error
        raise InvalidEvent(
            f"{where}: not plain JSON: {why}; "
            "use text, finite numbers, lists and mappings with text keys"
        ) from None
    if len(text) > max_bytes:
        raise InvalidEvent(
            f"{where}: {len(text)} bytes as JSON, and this store takes {max_bytes}; "
            "keep the large part elsewhere and put a reference to it in the event"
        )
    name = wire.get("name")
    return EncodedEvent(
        wire,
        text,
        kind,
        finite(wire.get("timestamp")),
        intent_name(wire.get("parse_data")),
        name if isinstance(name, str) else None,
        starts_session(wire),
    )


def _check_inside(wire: object) -> None:
    """Raise TypeError for a key that JSON would silently turn into text, ValueError for too deep.

    Level by level, so that no depth is too much to look at; `wire` is JSON's.
    """
    level: list[Any] = [wire]
    for _ in range(MAX_DEPTH):
        inside: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                for key in value:
                    if not isinstance(key, str):
                        raise TypeError(f"the key {brief(key)} is not text")
                inside += [x for x in value.values() if isinstance(x, (dict, list, tuple))]
            else:
                inside += [x for x in value if isinstance(x, (dict, list, tuple))]
        if not inside:
            return
        level = inside
    raise ValueError(TOO_DEEP)


def finite(value: object) -> float | None:
    """A number that every store can keep as one; None of anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def check_claim(fence: object, owner: object) -> None:
    """Raise TrackerStoreError unless these can be compared and stored by every store."""
    if isinstance(fence, bool) or not isinstance(fence, int) or not 0 < fence <= MAX_FENCE:
        raise TrackerStoreError(f"a fence must be a whole number from 1 to 2**52, not {fence!r}")
    if not isinstance(owner, str) or not 0 < len(owner) <= 255 or "\0" in owner:
        raise TrackerStoreError(f"an owner must be text of 1 to 255 characters, not {owner!r:.300}")
    try:
        owner.encode()
    except UnicodeEncodeError:
        raise TrackerStoreError(f"the owner {owner!r} is not valid Unicode") from None
