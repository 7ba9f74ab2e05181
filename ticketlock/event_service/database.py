"""The interface of the service's database: it stores batches and finds missing events."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from ..errors import TicketLockError
from .records import Limits, Received, Reject

D = TypeVar("D", bound="EventDatabase")


class HistoryKey(NamedTuple):
    """The events of one conversation, from its creation to its deletion.

    Attributes:
        history: the published number that differs when the conversation was created again.
    """

    sender_id: str
    history: int


class Gap(NamedTuple):
    """Missing events, `first` to `last`, of a history whose later events are stored."""

    sender_id: str
    history: int
    first: int
    last: int


@dataclass
class StoreResult:
    """The outcome of storing a batch.

    Attributes:
        stored: new events.
        duplicates: events and rejects that were stored before.
        rejected: messages that were stored as rejects.
        gaps: the missing events of each history in the batch; an empty list if it is complete.
    """

    stored: int = 0
    duplicates: int = 0
    rejected: int = 0
    gaps: dict[HistoryKey, list[Gap]] = field(default_factory=dict)

    def add(self, other: StoreResult) -> None:
        """Add the counts of another batch."""
        self.stored += other.stored
        self.duplicates += other.duplicates
        self.rejected += other.rejected
        self.gaps |= other.gaps


class EventDatabaseError(TicketLockError):
    """The service's database cannot be used; the text says which, why, and what to change.

    No part of the batch was stored.

    Attributes:
        again: whether another attempt may succeed; False for a wrong password.
    """

    def __init__(self, text: str, again: bool = True) -> None:
        self.again = again
        super().__init__(text)


class EventDatabase:
    """Stores events, each of them once."""

    #: Kind and place of the database, for error texts. Never with a secret.
    address = "the database"
    #: Limits of its columns; known once it is open.
    limits = Limits()

    async def open(self) -> None:
        """Connect, and create missing tables.

        Raises EventDatabaseError, and ConfigurationError if a driver is missing.
        """

    async def store(self, events: Sequence[Received], rejects: Sequence[Reject]) -> StoreResult:
        """Store a batch in one transaction; duplicates are dropped.

        Raises EventDatabaseError; then no part of the batch is stored.
        """
        raise NotImplementedError

    async def gaps(self, histories: Collection[HistoryKey] | None = None) -> list[Gap]:
        """The missing events of some histories, or of all; sorted. Raises EventDatabaseError."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close the connections."""

    async def __aenter__(self: D) -> D:
        await self.open()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()
