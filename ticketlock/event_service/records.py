"""The records that the service stores, events and rejects, and the limits of a database."""

from __future__ import annotations

from typing import NamedTuple


class Received(NamedTuple):
    """A received event, to be stored.

    Attributes:
        sequence: its number within (conversation, history); None if the publisher gave none.
        data: the published object as JSON text, unchanged.
        digest, origin: see RawMessage; empty if the event has a sequence, which identifies it.
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
        reason: why it is not valid.
    """

    reason: str
    body: bytes
    digest: str
    origin: str


class Limits(NamedTuple):
    """The limits of a database.

    Attributes:
        id_length: characters of a conversation id; None: no limit.
        nul: whether a text may contain the character NUL.
        size: bytes of a message; None: no limit.
    """

    id_length: int | None = None
    nul: bool = True
    size: int | None = None
