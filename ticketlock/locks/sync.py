"""The threaded twin: the same stores on an event loop of their own, for servers of threads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .. import process
from ..aio import native
from ..aio.portal import Portal, finalizer
from ..aio.running import result
from ..errors import CLOSED, LockError, LockLost, LockTimeout
from ..observers import BaseObserver
from .grant import FORKED, Grant
from .incoming import WINDOW, Supersede
from .inspection import Inspection
from .lock import Lock
from .tickets import TicketLock

if TYPE_CHECKING:
    from .store import LockStore


class SyncGrant:
    """A `Grant` for threads.

    A thread cannot be cancelled from outside: call `ensure_held` before each write.
    """

    def __init__(self, grant: Grant) -> None:
        self._grant = grant
        self.conversation_id = grant.conversation_id
        self.number = grant.number
        self.fence = grant.fence
        self.waited = grant.waited
        self.ahead = grant.ahead

    @property
    def cause(self) -> str:
        """Why it was lost, in a word; see `Grant.cause`."""
        return self._grant.cause

    def held_for(self) -> float:
        """Seconds since the turn began."""
        return self._grant.held_for()

    @property
    def lost(self) -> bool:
        """Whether the turn is over: lost, or its block has ended."""
        try:
            self._grant.ensure_held()
        except LockLost:
            return True
        return False

    @property
    def superseded(self) -> Supersede | None:
        """How to stop, when a later message asks for it; else None."""
        return self._grant.superseded

    def ensure_held(self) -> None:
        """Raise LockLost unless this turn certainly still holds the lock."""
        self._grant.ensure_held()

    def __repr__(self) -> str:
        return f"<Sync{repr(self._grant)[1:]}"


class SyncLock:
    """What `SyncLockStore.lock` returns: `with` takes a ticket and waits for its turn."""

    def __init__(self, portal: Portal, lock: Lock) -> None:
        self._portal = portal
        self._lock = lock
        self._life: object = None
        self._dropped: Any = None

    def queue(self) -> int:
        """Take the ticket without waiting for the turn, and return its number."""
        return self._portal.run(lambda: self._lock.queue())

    def withdraw(self) -> None:
        """Give the ticket back without entering; the lock cannot be used after that."""
        self._lock._spent = True
        self._portal.post(self._lock.withdraw)

    def __enter__(self) -> SyncGrant:
        lock, who = self._lock, native.me()

        def begin() -> Awaitable[Grant]:
            lock._use(who)
            return lock._begin()

        try:
            grant = self._portal.run(begin)
            self._life = self._portal.life
            lock._has(grant)
            self._dropped = given_back_by(self, self._portal, lock, grant)
            return SyncGrant(grant)
        except BaseException:
            # Also when the turn came in the moment of the interrupt.
            self._portal.post(lambda: lock._give_up(who))
            raise

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        grant = self._lock._grant
        if grant is None:
            raise LockError(f"the lock of {self._lock._waiter.conversation_id!r} was not entered")
        self._lock._note(error)
        try:
            self._dropped.detach()
            self._leave(grant)
        except BaseException:
            self.withdraw()  # an interrupt before the release was sent
            raise
        grant.tell_lost(error)

    def _leave(self, grant: Grant) -> None:
        if self._lock._waiter.pid != process.pid:
            grant.reason = FORKED
        elif self._portal.life is not self._life or self._life is None:
            grant.reason = grant.reason or CLOSED
            self._lock._forget()
        elif self._portal.runs_here():  # a garbage collector's doing: waiting would be for ever
            asyncio.ensure_future(self._lock._end(grant))  # noqa: RUF006  # stores keep theirs
        else:
            self._portal.run(lambda: self._lock._end(grant), finish=True)


def given_back_by(owner: object, portal: Portal, lock: Lock, grant: Grant) -> Any:
    """A finalizer that gives the turn back if its owner is dropped without being left.

    An interrupt between `with` and its methods does that. Leaving the turn detaches it.
    """

    def dropped() -> None:
        if not lock._over and not lock._spent:
            grant.reason = grant.reason or "its `with` block was interrupted and never left"
            lock._spent = True
            portal.post(lock.withdraw)

    return finalizer(owner, dropped)


class SyncOptionalLock(SyncLock):
    """What `SyncLockStore.try_lock` returns: enters with None when the lock is not free."""

    _entered = False

    def __enter__(self) -> SyncGrant | None:  # type: ignore[override]  # that is its point
        try:
            grant = super().__enter__()
        except LockTimeout:
            return None
        self._entered = True
        return grant

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._entered:
            super().__exit__(exc_type, error, traceback)


class SyncLockStore:
    """Any lock store, for threads; made by `store.sync()`. Safe to share between threads.

    The store itself then belongs to the portal's loop: use one or the other. All twins of a
    store are one: closing one of them closes all. Dropped with its store, or at the end of the
    interpreter, it is closed by itself.
    """

    def __init__(self, store: LockStore) -> None:
        self.store = store
        store._portal = store._portal or Portal(store)
        self._portal = store._portal

    def lock(self, conversation_id: str, *args: Any, **options: Any) -> SyncLock:
        """`with store.lock("id") as grant:`; parameters as for `LockStore.lock`."""
        return SyncLock(self._portal, self.store.lock(conversation_id, *args, **options))

    def try_lock(self, conversation_id: str, *args: Any, **options: Any) -> SyncOptionalLock:
        """`with store.try_lock("id") as grant:`; None when the lock is not free."""
        lock = self.store.try_lock(conversation_id, *args, **options)
        return SyncOptionalLock(self._portal, lock)

    def collect(self, grant: SyncGrant, most: int = 100) -> list[tuple[str, str]]:
        """Take the messages that wait behind a turn into it; see `LockStore.collect`."""
        return self._portal.run(lambda: self.store.collect(grant._grant, most))

    def answer(self, grant: SyncGrant, replies: Mapping[str, str], window: float = WINDOW) -> None:
        """Keep the turn's replies for duplicates; see `LockStore.answer`."""

        async def answer() -> None:
            self.store.answer(grant._grant, replies, window)

        self._portal.run(answer)

    def raise_fence(self, grant: SyncGrant, floor: int) -> None:
        """Give the turn a fence above `floor`; see `LockStore.raise_fence`."""
        self._portal.run(lambda: self.store.raise_fence(grant._grant, floor))
        grant.fence = grant._grant.fence

    def position(self, conversation_id: str, ticket_number: int) -> int | None:
        """How many turns come before this ticket's; 0: it is being served; None: not there."""
        return self._portal.run(lambda: self.store.position(conversation_id, ticket_number))

    def inspect(self, conversation_id: str, limit: int = 100) -> Inspection:
        """Who holds the conversation and who waits; see `LockStore.inspect`."""
        return self._portal.run(lambda: self.store.inspect(conversation_id, limit))

    def break_lock(self, conversation_id: str, fence: int | None = None) -> bool:
        """End the turn that holds the conversation; see `LockStore.break_lock`."""
        return self._portal.run(lambda: self.store.break_lock(conversation_id, fence))

    def get_or_create_lock(self, conversation_id: str) -> TicketLock:
        """The stored lock, or a new one that is not saved."""
        return self._portal.run(lambda: self.store.get_or_create_lock(conversation_id))

    def get_lock(self, conversation_id: str) -> TicketLock | None:
        """The stored lock; None when there is none."""
        lock: TicketLock | None = self._portal.run(
            lambda: _result(self.store.get_lock, conversation_id)
        )
        return lock

    def save_lock(self, lock: TicketLock) -> None:
        """Replace the stored lock."""
        self._portal.run(lambda: _result(self.store.save_lock, lock))

    def delete_lock(self, conversation_id: str) -> None:
        """Remove the stored lock."""
        self._portal.run(lambda: _result(self.store.delete_lock, conversation_id))

    def issue_ticket(self, conversation_id: str, lock_lifetime: float | None = None) -> int:
        """Issue a ticket and return its number; see `LockStore.issue_ticket`."""
        return self._portal.run(lambda: self.store.issue_ticket(conversation_id, lock_lifetime))

    def finish_serving(self, conversation_id: str, ticket_number: int) -> None:
        """Remove a ticket; the next one is served."""
        self._portal.run(lambda: self.store.finish_serving(conversation_id, ticket_number))

    def is_someone_waiting(self, conversation_id: str) -> bool:
        """Whether a valid ticket waits behind the one being served."""
        return self._portal.run(lambda: self.store.is_someone_waiting(conversation_id))

    def cleanup(self, conversation_id: str, ticket_number: int) -> None:
        """Finish a ticket, and remove the lock if that was the last one."""
        self._portal.run(lambda: self.store.cleanup(conversation_id, ticket_number))

    def observe(self, observer: BaseObserver) -> None:
        """Call an observer's methods for all turns from now on, in another thread."""
        self.store.observe(observer)

    def close(self) -> None:
        """Close the store and the thread. Nothing happens if it is not in use."""
        self._portal.close(self.store.close)

    def __enter__(self) -> SyncLockStore:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


async def _result(method: Any, argument: Any) -> Any:
    """Call a method of a custom store, plain or asynchronous, on the portal's loop."""
    return await result(method(argument))
