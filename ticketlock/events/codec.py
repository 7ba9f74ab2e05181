"""Checks of every store before it writes: claims, and that events survive a round trip."""

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

#: Refuses cycles, NaN and infinity. Created once, because every event is encoded by it.
_plain = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode

#: Limit of one event's JSON in bytes, unless a store has a lower one.
MAX_EVENT_BYTES = 16 * 1024 * 1024


#: The type of keys, and the types of values that have nothing inside.
_TEXT, _PLAIN = frozenset((str,)), frozenset((str, int, float, bool, type(None)))

#: Limit of a mark in bytes of UTF-8.
MAX_MARK_BYTES = 64 * 1024


#: Characters of texts that need no check: far fewer than any store takes.
_SHORT = 32 * 1024


def certainly_stored(*texts: str) -> bool:
    """Whether an event can be stored that has these texts and nothing else of a caller: then it need
    not be encoded to find out. False where it may not be.
    """
    text = "".join(texts)
    return text.isascii() and len(text) <= _SHORT


@dataclass(slots=True)
class EncodedEvent:
    """An event that has passed the checks, in the forms that stores write.

    Attributes:
        wire: the dictionary.
        text: the same as JSON in ASCII: safe in any character set of a database, and NUL
            characters are escaped, which PostgreSQL requires.
        type_name, intent_name, action_name: the values of the documented columns, not cut.
        timestamp: epoch seconds; None if the event has none.
        starts_session: whether it is an `action_session_start`.
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
    """Check and encode events. Raises InvalidEvent with the event's place in the list."""
    return list(encoding(events, max_bytes))


def encoding(
    events: Iterable[Mapping[str, Any]], max_bytes: int = MAX_EVENT_BYTES
) -> Iterator[EncodedEvent]:
    """As `encode_events`, as an iterator."""
    return (_encode(wire, place, max_bytes) for place, wire in enumerate(events))


def _encode(event: Mapping[str, Any], place: int, max_bytes: int) -> EncodedEvent:
    kind = event.get("event") if isinstance(event, (dict, Mapping)) else None
    if not isinstance(kind, str):
        raise InvalidEvent(f"event {place}: not a mapping with a text 'event': {brief(event)}")
    wire = dict(event)
    try:
        text = _plain(wire)
        _check_inside(wire, text)
        if not text.isascii():
            text.encode()
            text = json.dumps(wire)
    except UnicodeEncodeError as error:
        why: object = f"not valid Unicode: {error}; replace it first"
        raise _refused(place, kind, why) from None
    except (TypeError, ValueError, RecursionError) as error:
        why = TOO_DEEP if isinstance(error, RecursionError) else error
        advice = "use text, finite numbers, lists and mappings with text keys"
        raise _refused(place, kind, f"not plain JSON: {why}; {advice}") from None
    if len(text) > max_bytes:
        why = (
            f"{len(text)} bytes as JSON, and this store takes {max_bytes}; "
            "keep the large part elsewhere and put a reference to it in the event"
        )
        raise _refused(place, kind, why)
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


def _refused(place: int, kind: str, why: object) -> InvalidEvent:
    return InvalidEvent(f"event {place} ({kind!r:.80}): {why}")


def _check_inside(wire: object, text: str) -> None:
    """Raise TypeError for a key that JSON would convert to text, ValueError for too deep nesting.

    It works level by level instead of recursively, so that depth cannot exhaust the stack.

    Args:
        text: its JSON.
    """
    # What is empty counts as a level only where there are so many.
    deep = text.count("{") + text.count("[") > MAX_DEPTH
    level: list[Any] = [wire]
    for _ in range(MAX_DEPTH):
        inside: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                if not _TEXT.issuperset(map(type, value)):  # one of a subclass is text too
                    for key in value:
                        if not isinstance(key, str):
                            raise TypeError(f"the key {brief(key)} is not text")
                value = value.values()
            inside += [
                x for x in value
                if type(x) not in _PLAIN and isinstance(x, (dict, list, tuple)) and (x or deep)
            ]  # fmt: skip
        if not inside:
            return
        level = inside
    raise ValueError(TOO_DEEP)


def finite(value: object) -> float | None:
    """The value as a float if it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def check_mark(mark: object) -> None:
    """Raise ValueError unless every store can store this mark; None is none."""
    if mark is None:
        return
    if not isinstance(mark, str) or "\0" in mark:
        raise ValueError(f"a mark must be text without NUL characters, not {mark!r:.300}")
    try:
        size = len(mark.encode())
    except UnicodeEncodeError as error:
        raise ValueError(f"a mark must be valid Unicode: {error}") from None
    if size > MAX_MARK_BYTES:
        raise ValueError(f"a mark may have {MAX_MARK_BYTES} bytes of UTF-8, this one has {size}")


def check_claim(fence: object, owner: object) -> None:
    """Raise TrackerStoreError unless every store can store and compare these."""
    if isinstance(fence, bool) or not isinstance(fence, int) or not 0 < fence <= MAX_FENCE:
        raise TrackerStoreError(f"a fence must be a whole number from 1 to 2**52, not {fence!r}")
    if not isinstance(owner, str) or not 0 < len(owner) <= 255 or "\0" in owner:
        raise TrackerStoreError(f"an owner must be text of 1 to 255 characters, not {owner!r:.300}")
    try:
        owner.encode()
    except UnicodeEncodeError:
        raise TrackerStoreError(f"the owner {owner!r} is not valid Unicode") from None
