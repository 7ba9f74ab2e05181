"""The outbox: which committed events wait to be published, and which relay publishes them.

An event is stored once, in its conversation. The outbox only adds the number of the first event
that waits, in the same atomic step that commits the turn. A relay
(`ticketlock.publishing.relay`) leases a conversation, reads a batch of waiting events, publishes
it, and advances that number once the broker has confirmed. If two relays take the same
conversation, because a clock is wrong or a process was frozen, events are published twice but
never lost: only the relay that took it last can advance the number.
"""

from __future__ import annotations

import time
from asyncio import gather
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

#: Milliseconds for which a relay leases a conversation. After that another relay may take it.
LEASE_MS = 30_000

#: Milliseconds. A lease that ends further ahead was made by a wrong clock, and is ignored.
VOID_MS = 2 * LEASE_MS


def now_ms() -> int:
    """Milliseconds since the epoch, by this machine's clock."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Lease:
    """A relay's request to have a conversation until a moment.

    Times are those of the relay's own clock: a wrong clock causes repeats or delays, and never
    loses an event.

    Attributes:
        relay: the relay's name, different in every process.
        now, until: milliseconds since the epoch.
    """

    relay: str
    now: int
    until: int

    @classmethod
    def of(cls, relay: str) -> Lease:
        now = now_ms()
        return cls(relay, now, now + LEASE_MS)

    @property
    def beyond(self) -> int:
        """A lease of another relay that ends after this is void: its clock was wrong."""
        return self.now + VOID_MS

    @property
    def half_over(self) -> bool:
        """Whether half of its time has passed."""
        return 2 * now_ms() > self.now + self.until


@dataclass(frozen=True)
class Batch:
    """Waiting events of one conversation, oldest first, taken by one relay.

    Attributes:
        history: when the conversation was created. After a deletion or an expiry it has a
            greater one, and its events are numbered from 0 again.
        first: number of the first of `events`.
        sequence: number after the conversation's last event, which may not be in this batch.
        places: where each event is stored; only the backend uses it.
    """

    sender_id: str
    history: int
    first: int
    sequence: int
    events: Sequence[Mapping[str, Any]]
    places: Sequence[int] = ()

    @property
    def end(self) -> int:
        """Number after the last of `events`; without any, none waits before `sequence`."""
        return self.first + len(self.events) if self.events else self.sequence


@dataclass(frozen=True)
class Backlog:
    """How much waits to be published.

    Attributes:
        conversations, events: how many wait.
        since: milliseconds since the epoch since when the longest waiting conversation has had
            waiting events all the time; None: no event waits.
    """

    conversations: int = 0
    events: int = 0
    since: int | None = None

    @property
    def age(self) -> float:
        """Seconds that the longest waiting conversation has waited; 0 if no event waits."""
        return 0.0 if self.since is None else max(0.0, (now_ms() - self.since) / 1000)


@dataclass(frozen=True)
class DeadLetter:
    """An event that cannot be delivered, kept separately so that later events can be.

    Attributes:
        reason: the broker's error.
        at: milliseconds since the epoch at which it became a dead letter.
    """

    sender_id: str
    history: int
    sequence: int
    event: Mapping[str, Any]
    reason: str
    at: int = field(default_factory=now_ms)


class Outbox:
    """The part of a tracker store that relays use. Raises the store's errors."""

    #: Conversations that a relay may take or advance at a time without slowing down turns.
    parallel = 8

    async def waiting(self, limit: int, before: int) -> list[str]:
        """At most `limit` waiting conversations that no relay has, the longest waiting first.

        Args:
            before: only those that were free before this time, in milliseconds since the epoch.
        """
        raise NotImplementedError

    async def take(self, sender_id: str, lease: Lease, limit: int) -> Batch | None:
        """Lease the conversation until `lease.until`, and read at most `limit` waiting events.

        None if no event waits, or if another relay's lease is valid.
        """
        raise NotImplementedError

    async def advance(self, batch: Batch, lease: Lease, to: int) -> bool:
        """Note that all events before number `to` are published or dead letters.

        The conversation is released if no event waits, else kept until `lease.until`.

        Returns:
            Whether events wait and this relay still has the conversation. If another relay has
            taken it meanwhile: False, and nothing is changed.
        """
        raise NotImplementedError

    async def take_each(
        self, sender_ids: Sequence[str], lease: Lease, limit: int
    ) -> list[Batch | None]:
        """`take` for at most `parallel` conversations, in one request where possible."""
        return await _all(self.take(name, lease, limit) for name in sender_ids)

    async def advance_each(self, reached: Sequence[tuple[Batch, int]], lease: Lease) -> list[bool]:
        """`advance` for at most `parallel` batches, each to its number."""
        return await _all(self.advance(batch, lease, to) for batch, to in reached)

    async def exchange(
        self,
        reached: Sequence[tuple[Batch, int]],
        sender_ids: Sequence[str],
        lease: Lease,
        limit: int,
    ) -> tuple[list[bool], list[Batch | None]]:
        """`advance_each`, and then `take_each`, in one request where possible."""
        moved = await self.advance_each(reached, lease) if reached else []
        return moved, await self.take_each(sender_ids, lease, limit) if sender_ids else []

    async def release(self, sender_id: str, relay: str) -> None:
        """End the lease of `relay` on the conversation, if it has one."""
        raise NotImplementedError

    async def backlog(self) -> Backlog:
        """Count what waits to be published."""
        raise NotImplementedError

    async def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Store dead letters; an existing one is replaced."""
        raise NotImplementedError

    async def dead_letters(self, limit: int = 1000) -> list[DeadLetter]:
        """At most `limit` dead letters, sorted by conversation and number."""
        raise NotImplementedError

    async def remove_dead_letter(self, letter: DeadLetter) -> bool:
        """Remove a dead letter; return whether it existed."""
        raise NotImplementedError


async def _all(operations: Iterable[Awaitable[T]]) -> list[T]:
    """The results once all have ended; raises the first error, in the order given."""
    results: list[T] = []
    for result in await gather(*operations, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
        results.append(result)
    return results


def letter_order(letter: DeadLetter) -> tuple[str, int, int]:
    """The key of a dead letter, by which they are sorted too."""
    return letter.sender_id, letter.history, letter.sequence
