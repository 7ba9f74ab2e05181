"""Checks of arguments: each error names the argument, its value, and what is allowed."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

from .errors import InvalidConversationId, LockError

#: Limit for fences. Those of today's clock are a third of it; the doubles of Lua are exact up to
#: twice as much, so that a higher one always exists.
MAX_FENCE = 2**52

#: Limit for seconds and counts (30 years): a larger number is a mistake.
_LIMIT = 1e9


def check_conversation_id(conversation_id: object) -> str:
    """Return the id as a plain text. Raises InvalidConversationId unless it is non-empty, valid Unicode.

    A subclass of `str`, such as an enum, may print or compare as another text than it has.
    """
    if not isinstance(conversation_id, str) or not str.__len__(conversation_id):
        raise InvalidConversationId(
            f"a conversation id must be non-empty text, not {conversation_id!r}"
        )
    if type(conversation_id) is not str:
        conversation_id = str.__str__(conversation_id)
    try:
        conversation_id.isascii() or conversation_id.encode()
    except UnicodeEncodeError as error:
        raise InvalidConversationId(f"{conversation_id!r} is not valid Unicode: {error}") from None
    return conversation_id


def check_sender_id(sender_id: object, max_length: int | None = None) -> str:
    """Return the id. Raises InvalidConversationId unless every tracker store can store it.

    Args:
        max_length: characters of the store's column; None: no limit.
    """
    checked = check_conversation_id(sender_id)
    if "\0" in checked:
        raise InvalidConversationId(f"{checked!r} contains a NUL character")
    if max_length is not None and len(checked) > max_length:
        raise InvalidConversationId(
            f"the conversation id {checked[:40]!r}... has {len(checked)} characters, and this "
            f"store keeps {max_length}; use a shorter id, for instance a hash of it"
        )
    return checked


def check_label(label: object) -> None:
    """Raise ValueError unless a label is valid Unicode text."""
    if not isinstance(label, str):
        raise ValueError(f"a label must be text, not {label!r}")  # noqa: TRY004  # as all others
    try:
        label.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"the label {label!r} is not valid Unicode: {error}") from None


def check_seconds(name: str, value: Any, *, above: bool = False) -> float:
    """Return the number. Raises ValueError unless it is a finite number of seconds, at least 0.

    Args:
        above: reject 0 too.
    """
    number = type(value) in (int, float) or _is(Real, value)
    if not number or not (0 < value < _LIMIT or (value == 0 and not above)):
        bound = "above 0" if above else "of at least 0"
        raise ValueError(f"{name} is a number of seconds {bound}, not {value!r:.80}")
    return value if type(value) is int else float(value)


def check_count(name: str, value: Any, least: int = 0) -> int:
    """Return the number. Raises ValueError unless it is a whole number, at least `least`."""
    if not _is(Integral, value) or not least <= value < _LIMIT:
        raise ValueError(f"{name} is a whole number of at least {least}, not {value!r:.80}")
    return int(value)


def check_number(name: str, value: Any) -> int:
    """Return a ticket number (-1: none was issued) or a fence. Raises ValueError otherwise."""
    if not _is(Integral, value) or not -1 <= value < 2**63:
        raise ValueError(f"{name} must be a whole number from -1 to 2**63 - 1, not {value!r:.80}")
    return int(value)


def check_floor(conversation_id: str, floor: Any) -> int:
    """Return the fence of a tracker store. Raises LockError if it is out of range."""
    if not _is(Integral, floor) or not 0 <= floor < MAX_FENCE:
        raise LockError(
            f"conversation {conversation_id!r}: the fence {floor!r:.80} in its tracker store is "
            f"out of range (at most {MAX_FENCE - 1}); no lock store issued it: correct or remove it "
            "there"
        )
    return int(floor)


def _is(kind: type, value: object) -> bool:
    """Whether it is such a number; True and False are not."""
    return isinstance(value, kind) and not isinstance(value, bool)
