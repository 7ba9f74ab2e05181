"""The outbox: which committed events have not been published yet, and who publishes them now.

An event is stored once, in its conversation. Beside the conversation stands only the number of
its first event that waits to be published, written in the very step that commits the turn. A
relay (`ticketlock.publishing.relay`) takes a conversation for a while, reads what waits, and moves that
number on when the broker has confirmed. Two relays that take one conversation, because a clock
is off or one was frozen, publish events twice; none is left out, and none is passed over:
the number moves only for the one that has taken it last.
"""

from __future__ import annotations

import time
from asyncio import gather
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

#: Milliseconds for which a relay takes a conversation; a dead one is taken over after that.
LEASE_MS = 30_000

#: Milliseconds ahead of us from which on the end of a lease is the work of a clock that is off.
VOID_MS = 2 * LEASE_MS


def now_ms() -> int:
    """Milliseconds since the epoch, by this machine's clock."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Lease:
    """A relay's wish to have a conversation for a while.

    Times are those of the relay's own clock: a clock that is off costs repeats or seconds,
    never an event.

    Attributes:
        relay: who; different in every process.
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
        """An end of another's lease after this is the work of a clock that is off: it is void."""
        return self.now + VOID_MS


@dataclass(frozen=True)
class Parcel:
    """Events of one conversation that wait, oldest first, taken by one relay.

    Attributes:
        history: tells the lives of a conversation apart: that which comes after a deletion, or
            an expiry, has a greater one, and counts its events from 0 again.
        first: number of the first of `events`.
        sequence: number after the last event that there is, which may not be among these.
        places: where the backend found each event; its own business.
    """

    sender_id: str
    history: int
    first: int
    sequence: int
    events: Sequence[Mapping[str, Any]]
    places: Sequence[int] = ()


@dataclass(frozen=True)
class Backlog:
    """What waits to be published.

    Attributes:
        conversations, events: how many.
        since: milliseconds since the epoch from when on a conversation has been waiting
            without having been up to date in between, the longest such; None: nothing waits.
    """

    conversations: int = 0
    events: int = 0
    since: int | None = None

    @property
    def age(self) -> float:
        """Seconds for which the longest has been waiting; 0 if nothing waits."""
        return 0.0 if self.since is None else max(0.0, (now_ms() - self.since) / 1000)


@dataclass(frozen=True)
class DeadLetter:
    """An event that no attempt will deliver, kept apart so that the others can pass.

    Attributes:
        reason: what the broker said.
        at: milliseconds since the epoch at which it was set apart.
    """

    sender_id: str
    history: int
    sequence: int
    event: Mapping[str, Any]
    reason: str
    at: int = field(default_factory=now_ms)


class Outbox:
    """What each tracker store keeps for the relays. Raises the store's errors."""

    #: Conversations that a relay may have taken or moved on at once without being in the turns' way.
    parallel = 8

    async def waiting(self, limit: int, before: int) -> list[str]:
        """Conversations that wait and that no relay has, the longest waiting first.

        Args:
            before: only those free since before this moment, in milliseconds since the epoch.
        """
        raise NotImplementedError

    async def take(self, sender_id: str, lease: Lease, limit: int) -> Parcel | None:
        """Have the conversation until `lease.until`, and read at most `limit` waiting events.

        None if nothing waits, or if another relay has it by a lease that is not over.
        """
        raise NotImplementedError

    async def advance(self, parcel: Parcel, lease: Lease, to: int) -> bool:
        """Note that everything before number `to` is published or set apart.

        The conversation is let go if nothing is left, and kept until `lease.until` otherwise.

        Returns:
            Whether events wait and the conversation is still ours. False, and nothing is
            changed, if another relay has taken it meanwhile.
        """
        raise NotImplementedError

    async def take_each(
        self, sender_ids: Sequence[str], lease: Lease, limit: int
    ) -> list[Parcel | None]:
        """`take` of at most `parallel` conversations, at once where that is cheaper."""
        return await _all(self.take(name, lease, limit) for name in sender_ids)

    async def advance_each(self, reached: Sequence[tuple[Parcel, int]], lease: Lease) -> list[bool]:
        """`advance` of at most `parallel` parcels, each to its number."""
        return await _all(self.advance(parcel, lease, to) for parcel, to in reached)

    async def release(self, sender_id: str, relay: str) -> None:
        """Let another relay have the conversation now, if `relay` has it."""
        raise NotImplementedError

    async def backlog(self) -> Backlog:
        """What waits."""
        raise NotImplementedError

    async def bury(self, letters: Sequence[DeadLetter]) -> None:
        """Keep dead letters; one that is there already is replaced."""
        raise NotImplementedError

    async def dead_letters(self, limit: int = 1000) -> list[DeadLetter]:
        """At most `limit` dead letters, by conversation and number."""
        raise NotImplementedError

    async def unbury(self, letter: DeadLetter) -> bool:
        """Remove a dead letter; whether it was there."""
        raise NotImplementedError


async def _all(operations: Iterable[Awaitable[T]]) -> list[T]:
    """Their results, once every one has ended; raises what the first of them raised."""
    results: list[T] = []
    for result in await gather(*operations, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
        results.append(result)
    return results


def letter_order(letter: DeadLetter) -> tuple[str, int, int]:
    """What dead letters are sorted by, and known by."""
    return letter.sender_id, letter.history, letter.sequence
