"""What a message from a broker becomes: an event or a reject; and what a database holds."""

from __future__ import annotations

from typing import NamedTuple


class Received(NamedTuple):
    """An event as it was received, to be stored.

    Attributes:
        sequence: its number within (conversation, history); None if the publisher gave none.
        data: the published object, the JSON text as it came.
        digest, origin: see Delivery; empty where the sequence names the event.
    """

    sender_id: str
    history: int
    sequence: int | None
    type_name: str | None
    timestamp: float | None
    data: str
    digest: str
    origin: str


class Reject(NamedTuple):
    """A message without a valid event.

    Attributes:
        reason: why, for people.
    """

    reason: str
    body: bytes
    digest: str
    origin: str


class Limits(NamedTuple):
    """What a database holds.

    Attributes:
        id_length: characters of a conversation's id; None for any.
        nul: whether a text may contain the character NUL.
        size: bytes of a message; None for any.
    """

    id_length: int | None = None
    nul: bool = True
    size: int | None = None
