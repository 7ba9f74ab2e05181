"""The state of a conversation's lock, as `inspect` returns it: its holder, and the waiting tickets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Holder:
    """The turn that is being served.

    Attributes:
        held_for: seconds since the grant.
        lease: seconds until the lease runs out unless it is renewed; 0 when it has.
        host, process: machine and process id of the replica; None where unknown.
        label: the text given to `lock(..., label=...)`.
    """

    number: int
    fence: int
    held_for: float
    lease: float
    host: str | None = None
    process: int | None = None
    label: str | None = None

    def __str__(self) -> str:
        name = f"{self.host}:{self.process}" if self.host else f"ticket {self.number}"
        return f"{name} ({self.label})" if self.label else name


@dataclass(frozen=True)
class Waiting:
    """A ticket in the queue.

    Attributes:
        waiting_for: seconds since the ticket was issued.
        alive: False when its process sends no heartbeat; the ticket will be skipped.
    """

    number: int
    waiting_for: float
    alive: bool = True
    host: str | None = None
    process: int | None = None
    label: str | None = None


@dataclass(frozen=True)
class Inspection:
    """One conversation's lock.

    Attributes:
        holder: the turn that holds the lock; None when it is free.
        waiting: the first tickets of the queue, in order.
        waiting_count: how many wait in all; `waiting` may have fewer.
        last_issued: the last ticket number, 0 when none is known.
    """

    conversation_id: str
    holder: Holder | None
    waiting: tuple[Waiting, ...]
    waiting_count: int
    last_issued: int
