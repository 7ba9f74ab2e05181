"""What the service's database is: it stores batches, and knows what is missing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple, TypeVar

from ..errors import TicketLockError
from .records import Limits, Received, Reject

D = TypeVar("D", bound="EventDatabase")


class History(NamedTuple):
    """One life of a conversation."""

    sender_id: str
    history: int


class Gap(NamedTuple):
    """Events that are missing though later ones of their history are stored."""

    sender_id: str
    history: int
    first: int
    last: int


@dataclass
class Stored:
    """What became of a batch.

    Attributes:
        stored: events that are new.
        duplicates: events, and rejects, that were there already.
        rejected: messages that are kept among the rejects.
        gaps: of each history in the batch what is missing now; empty where nothing is.
    """

    stored: int = 0
    duplicates: int = 0
    rejected: int = 0
    gaps: dict[History, list[Gap]] = field(default_factory=dict)

    def add(self, other: Stored) -> None:
        """Count another batch too."""
        self.stored += other.stored
        self.duplicates += other.duplicates
        self.rejected += other.rejected
        self.gaps |= other.gaps


class EventDatabaseError(TicketLockError):
    """The service's database cannot be used; the text says which, why, and what to change.

    Nothing of the batch was stored.

    Attributes:
        again: whether trying again may help; False for a wrong password.
    """

    def __init__(self, text: str, again: bool = True) -> None:
        self.again = again
        super().__init__(text)


class EventDatabase:
    """Where the events are stored, each of them once."""

    #: For error texts: what and where it is. Never with a secret.
    address = "the database"
    #: What it holds; known once it is open.
    limits = Limits()

    async def open(self) -> None:
        """Connect, and make the tables that are not there.

        Raises EventDatabaseError, and ConfigurationError where a driver is missing.
        """

    async def store(self, events: Sequence[Received], rejects: Sequence[Reject]) -> Stored:
        """Store a batch in one transaction, in which repeats are dropped.

        Raises EventDatabaseError: nothing of the batch is stored then.
        """
        raise NotImplementedError

    async def gaps(self, histories: Collection[History] | None = None) -> list[Gap]:
        """What is missing: of all conversations, or of some; in order.

        Raises EventDatabaseError.
        """
        raise NotImplementedError

    async def close(self) -> None:
        """Give back the connections."""

    async def __aenter__(self: D) -> D:
        await self.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
