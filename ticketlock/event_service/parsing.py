"""Parses a message into an event, or into a reject with the reason."""

from __future__ import annotations

import json
from typing import Any

from ..events.codec import finite
from ..publishing.message import HISTORY_FIELD, SEQUENCE_FIELD
from .records import Limits, Received, Reject
from .source import RawMessage

#: Largest number that the databases' columns can store.
LARGEST = 2**63 - 1

#: Characters of an event's type in its own column; the event itself is not cut.
TYPE_LENGTH = 255


class _Bad(Exception):
    """The message is not a valid event; the text is the reason."""


def parse(message: RawMessage, limits: Limits) -> Received | Reject:
    """The event in a message, or the message as a reject."""
    try:
        return _event(message, limits)
    except _Bad as bad:
        return reject(message, str(bad))


def reject(message: RawMessage, reason: str) -> Reject:
    """The message as a reject, with the reason."""
    return Reject(reason, message.body, message.digest(), message.origin)


def _event(message: RawMessage, limits: Limits) -> Received:
    if limits.size is not None and len(message.body) > limits.size:
        raise _Bad(f"the body has {len(message.body)} bytes, the database takes {limits.size}")
    text, fields = _object(message.body)
    sender_id = _sender_id(fields.get("sender_id"), limits)
    history, sequence = fields.get(HISTORY_FIELD), fields.get(SEQUENCE_FIELD)
    named = sequence is not None
    return Received(
        sender_id,
        0 if history is None else _number(HISTORY_FIELD, history),
        _number(SEQUENCE_FIELD, sequence) if named else None,
        _type_name(fields.get("event")),
        finite(fields.get("timestamp")),
        text,
        "" if named else message.digest(),
        "" if named else message.origin,
    )


def _object(body: bytes) -> tuple[str, dict[str, Any]]:
    try:
        text = body.decode()
        fields = _decode(text)
    except (ValueError, RecursionError) as error:
        raise _Bad(f"it is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise _Bad(f"it is JSON, but not an object: {type(fields).__name__}")
    return text, fields


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not valid JSON")


_decode = json.JSONDecoder(parse_constant=_no_constant).decode


def _sender_id(value: Any, limits: Limits) -> str:
    if not isinstance(value, str) or not value:
        raise _Bad("sender_id is missing, or is not text")
    if limits.id_length is not None and len(value) > limits.id_length:
        raise _Bad(f"sender_id has {len(value)} characters, the database takes {limits.id_length}")
    if not limits.nul and "\0" in value:
        raise _Bad("sender_id contains the character NUL, which the database does not take")
    if not _encodable(value):
        raise _Bad("sender_id contains a lone surrogate, which UTF-8 cannot encode")
    return value


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _number(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < LARGEST:
        raise _Bad(f"{name} is not a whole number from 0 to {LARGEST - 1}")
    return value


def _type_name(value: Any) -> str | None:
    """The type for its own column, for queries; None if the database might refuse it."""
    if not isinstance(value, str) or "\0" in value or not _encodable(value):
        return None
    return value[:TYPE_LENGTH]
