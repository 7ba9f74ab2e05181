"""What batches ask and find of a conversation, and how far its events are counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ticketlock.tracker.fenced import EventLog, Write

from .rows import StoredRows


@dataclass(frozen=True)
class Place:
    """How far a conversation is counted: the columns of its row, and events that were read."""

    sequence: int
    last_id: int
    session_id: int
    log: EventLog = field(default_factory=lambda: EventLog((), 0))


class Claim(NamedTuple):
    """A claim of a conversation."""

    sender_id: str
    fence: int
    owner: str


class Append(NamedTuple):
    """A write that only appends events, and their rows."""

    sender_id: str
    write: Write
    rows: Sequence[Mapping[str, Any]]


class Found(NamedTuple):
    """The row of a conversation that was claimed in a batch, and its events from the latest
    session on."""

    sequence: int
    last_id: int
    session_id: int
    born: int
    mark: str | None
    rows: list[tuple[int, str]]

    def counted(self) -> bool:
        """Put the events into order; whether the row counts all of them."""
        self.rows.sort()
        return not self.rows or self.rows[-1][0] <= self.last_id

    def log(self, mark: str) -> EventLog:
        return EventLog(StoredRows(self.rows), self.sequence, self.born, mark=mark)


def history(row: Any) -> int:
    """When a conversation's row was created; 0 if there is no row."""
    return int(row.born) if row else 0
