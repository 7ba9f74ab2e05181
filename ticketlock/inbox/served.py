"""A message in its turn, and the turn as `Lock` and `Turn` use it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..errors import LockStoreConnectionError
from ..locks.grant import Grant
from ..locks.lock import Lock
from ..locks.queue import TurnQueue
from ..locks.store import LockStore
from ..locks.waiter import Waiter
from .saying import Saying


class Ending(Protocol):
    """What a served message asks of its inbox."""

    async def begun(self, served: Served) -> int: ...
    async def awaited(self, served: Served) -> bool: ...
    async def bury(self, served: Served, text: str) -> None: ...
    def saying(self, served: Served, message_id: str) -> Saying: ...
    def finish(self, served: Served) -> Awaitable[None]: ...
    async def carry(self, served: Served, most: int) -> list[tuple[str, str]]: ...


@dataclass(eq=False)
class Served:
    """A message whose turn was granted to this process.

    Attributes:
        grant: the turn.
        window: seconds for which its outcome is kept; 0: not known, because another process took it.
        granted: grants before this one that did not end in order.
        attempts: attempts before this one.
        submitted_for: seconds since it was submitted.
        submitted_at: the server's milliseconds at which it was: with its id, its mark.
        stop: how a later message asked the turn to stop before it began, if one did.
        outcomes: what has become of it and of those it has carried: (message id, kind, text);
            kinds: `d` replied, `e` failed, `x` dead.
        carried: the messages that it has carried -> when they were submitted.
        sizes: bytes of the texts of these.
        uncounted: if it goes back, this attempt does not count.
        delivery: what is to be delivered after the turn.
        awaited: whether a sender waited for its reply when the turn was granted.
        heard: whether another process listens to its replies before they are stored.
        proven: waits until the turn is durable, where that is asked for; raises NotDurable.
        durable: whether it comes back at its number if its turn ends without an outcome.
        error: what those who wait for it here get as its error.
    """

    conversation_id: str
    message_id: str
    text: str
    grant: Grant
    inbox: Ending
    mode: str = "enqueue"
    window: float = 0.0
    granted: int = 0
    attempts: int = 0
    submitted_for: float = 0.0
    submitted_at: int = 0
    stop: str | None = None
    outcomes: list[tuple[str, str, str]] = field(default_factory=list)
    carried: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    uncounted: bool = False
    delivery: str = ""
    awaited: bool = False
    heard: bool = False
    durable: bool = True
    error: Exception | None = None
    ended: bool = False
    proven: Callable[[], Awaitable[None]] | None = None

    def mark(self, message_id: str) -> int:
        """What the conversation's mark has of a message that ends in this turn."""
        return self.carried.get(message_id, self.submitted_at)

    @property
    def settled(self) -> bool:
        """Whether the message itself has an outcome."""
        return any(message_id == self.message_id for message_id, _, _ in self.outcomes)

    def end(self, kind: str, text: str, message_id: str | None = None) -> None:
        """Set an outcome; the last one of a message counts."""
        name = self.message_id if message_id is None else message_id
        self.outcomes = [one for one in self.outcomes if one[0] != name]
        self.outcomes.append((name, kind, text))


class ServedStore:
    """The lock store of one served message: its only lock is the turn that was granted."""

    def __init__(self, store: LockStore, served: Served) -> None:
        self._store = store
        self._served = served
        self._turns = _ServedTurns(store, served)

    def lock(self, conversation_id: str, *_: Any, **__: Any) -> Lock:
        """The lock of the message's turn, which does not wait."""
        served, grant = self._served, self._served.grant
        lifetime = round(grant.expires - grant.granted_at, 6)  # as it was given
        waiter = Waiter(conversation_id, lifetime, label=served.message_id)
        waiter.number, waiter.member, waiter.request = grant.number, grant.member, grant.request
        waiter.started = grant.granted_at - served.submitted_for
        return self._store.make_lock(self._turns, waiter)

    async def collect(self, grant: Grant, most: int = 100) -> list[tuple[str, str]]:
        """Carry the messages that wait right behind the turn; see `LockStore.collect`."""
        grant.ensure_held()
        return await self._served.inbox.carry(self._served, most)

    def answer(self, grant: Grant, replies: Mapping[str, str], window: float) -> None:
        """Set the replies, which `finish` stores for the message's own window."""
        for message_id, reply in replies.items():
            self._served.end("d", reply, message_id)

    async def raise_fence(self, grant: Grant, floor: int) -> None:
        """See `LockStore.raise_fence`."""
        await self._store.raise_fence(grant, floor)


class _ServedTurns(TurnQueue):
    """The queue of one message, whose turn has begun."""

    def __init__(self, store: LockStore, served: Served) -> None:
        queue = store.turn_queue
        self.observers, self.inside = queue.observers, queue.inside
        self._queue, self._served = queue, served

    async def granted(self, waiter: Waiter) -> Grant:
        served = self._served
        if served.proven is not None:
            try:
                await served.proven()
            except LockStoreConnectionError as error:  # it is not the message's fault
                served.uncounted, served.error = True, error
                raise
        return served.grant

    def withdraw(self, waiter: Waiter) -> None:
        self._served.inbox.finish(self._served)

    def release(self, grant: Grant) -> Awaitable[None]:
        return self._served.inbox.finish(self._served)

    def leave_mark(self, grant: Grant, mark: str, found: Callable[[str], object]) -> None:
        self._queue.leave_mark(grant, mark, found)
