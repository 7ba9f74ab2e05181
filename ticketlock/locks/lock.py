"""One use of a lock: take a ticket, wait for the turn, hold it, leave."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .. import process
from ..errors import CLOSED, CLOSING, AlreadyHeld, LockError, LockStoreConnectionError, LockTimeout
from ..process import clock
from .body import AnyTask, caller, closed_under
from .grant import FORKED, Grant
from .waiter import Waiter

if TYPE_CHECKING:
    from .store import LockStore

log = logging.getLogger("ticketlock.lock")


class Lock:
    """What `store.lock(...)` returns: an asynchronous context manager for one turn.

    `async with` takes a ticket and waits for its turn. `await lock.queue()` takes the
    ticket earlier, for instance to acknowledge a webhook once its place is certain.

    A lock that was made before a fork may be used in the child; a ticket that was taken before
    the fork is the parent's.
    """

    __slots__ = ("_entered", "_grant", "_over", "_queued", "_spent", "_store", "_waiter", "_who")

    def __init__(self, store: LockStore, waiter: Waiter) -> None:
        self._store = store
        self._waiter = waiter
        self._grant: Grant | None = None
        self._spent = False
        self._over = False
        #: Whether somebody has begun to enter it.
        self._entered = False
        #: None: no ticket was taken ahead. False: one is being taken.
        self._queued: bool | None = None
        #: Who waits for the turn, and has it: a task, or a thread.
        self._who: AnyTask | tuple[object, ...] | None = None

    async def queue(self) -> int:
        """Take the ticket without waiting for the turn, and return its number.

        The ticket keeps its place until the lock is entered or `withdraw` is called. 0: an
        `incoming` message needs none, another ticket has it.
        Raises QueueFull, LockStoreConnectionError.
        """
        if self._spent or self._entered or self._queued is not None:
            raise LockError(
                "this lock already has a ticket, and is for one turn: call `lock()` for each"
            )
        self._queued = False
        self._waiter.start()
        try:
            await self._store._issue(self._waiter)
        except BaseException:
            self.withdraw()
            raise
        self._queued = True
        return self._waiter.number

    def withdraw(self) -> None:
        """Give the ticket back without entering; the lock cannot be used after that."""
        self._spent = True
        if self._waiter.pid == process.pid:  # else it is the parent's, and not ours to give
            self._store._withdraw(self._waiter)

    async def acquire(self) -> Grant:
        """Wait for the turn; a caller that does not use `async with` must `release`.

        No task is cancelled when the turn is lost, unless one calls `grant.bind()`.
        Raises what `async with` raises on entering; see `LockStore.lock`.
        """
        return await self._take()

    async def _take(
        self, bind: bool = False, body: AnyTask | None = None, who: tuple[object, ...] | None = None
    ) -> Grant:
        self._use(asyncio.current_task() if who is None else who)
        try:
            grant = await self._begin()
        except BaseException as error:
            self.withdraw()
            if isinstance(error, LockStoreConnectionError) and str(error) in (CLOSED, CLOSING):
                closed_under(error)
            raise
        self._has(grant)
        if bind:
            # Who has called `__aenter__` does the work; `wait_for` may run it in another task.
            grant.bind(None if body is None or body.done() else body)
        return grant

    def _use(self, who: AnyTask | tuple[object, ...] | None) -> None:
        """One task or thread enters it, once. Called on the event loop: threads share locks too."""
        if self._spent or self._entered or self._queued is False:
            raise LockError(
                "this lock has been entered already, or its ticket is being taken; a lock is for "
                "one turn: call `lock()` for each"
            )
        self._entered, self._who = True, who

    def _give_up(self, who: tuple[object, ...]) -> None:
        """Withdraw, unless it is another thread's."""
        if self._who is who:
            self.withdraw()

    def _begin(self) -> Awaitable[Grant]:
        waiter = self._waiter
        self._check_not_inside()
        if waiter.number < 0:
            waiter.start()
            return self._store._enter(waiter)
        if waiter.pid != process.pid:
            raise LockError(
                f"the ticket {waiter.number} of conversation {waiter.conversation_id!r} was taken "
                "before the fork and is the parent's: make a new lock in the child"
            )
        return self._store._granted(waiter)

    def _check_not_inside(self) -> None:
        """Raise AlreadyHeld if it would wait for itself without end; warn where an end is in
        sight: a `wait_timeout`, or another task that may release what this one acquired."""
        waiter = self._waiter
        other = self._store._inside.get(waiter.conversation_id)
        if other is None or other._who != self._who or waiter.wait_timeout == 0:
            return
        if waiter.incoming is not None:
            return  # it may wait for a reply only, or not at all
        grant = other._grant
        if grant is None or grant.reason is not None or other._waiter.pid != process.pid:
            return
        error = AlreadyHeld(waiter.conversation_id, grant.number)
        if waiter.wait_timeout is None and (grant.bound or isinstance(other._who, tuple)):
            raise error
        log.warning("%s", error)

    def _describe(self, grant: Grant) -> None:
        """Tell a grant what its waiter knows."""
        waiter = self._waiter
        grant.label = waiter.label
        grant.waited = grant.granted_at - waiter.started
        grant.ahead = waiter.ahead
        grant.observers = self._store.observers

    def _has(self, grant: Grant) -> None:
        """The turn is ours."""
        self._describe(grant)
        self._grant = grant
        self._store._enters(self)

    async def release(self) -> None:
        """End the turn. Raises LockLost if it had been lost before.

        After an `acquire` that failed, this does nothing, so that its error is the one
        that is raised. Raises LockError if `acquire` was not called, or if the turn was
        released already.
        """
        grant = self._grant
        if grant is None and self._spent:
            return
        if grant is None or self._over:
            problem = "has been released already" if self._over else "was not acquired"
            raise LockError(f"the lock of {self._waiter.conversation_id!r} {problem}")
        if grant.unbind():
            await grant.settle(None)
        await self._end(grant)
        grant.tell_lost()

    def _end(self, grant: Grant) -> Awaitable[None]:
        self._forget()
        grant._released = True
        if self._waiter.pid != process.pid:  # the turn is the parent's, and not ours to end
            grant.reason = FORKED
            return asyncio.sleep(0)
        if grant._reason is None and clock() >= grant.deadline:
            grant.reason = grant.overdue()
        return self._store._release(grant)

    def _note(self, error: BaseException | None) -> None:
        """What the block of a thread has raised, for observers."""

    def _forget(self) -> None:
        """The turn is over, or about to be."""
        self._over = True
        self._who = None
        inside = self._store._inside
        if inside.get(self._waiter.conversation_id) is self:
            del inside[self._waiter.conversation_id]

    def __aenter__(self) -> Coroutine[Any, Any, Grant]:
        return self._take(True, caller())

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        grant = self._grant
        if grant is None:
            raise LockError(f"the lock of {self._waiter.conversation_id!r} was not entered")
        ours = grant.unbind() and await grant.settle(error)
        if self._over:
            return  # released inside the block
        await self._end(grant)
        grant.tell_lost(None if ours else error)


class OptionalLock(Lock):
    """What `store.try_lock(...)` returns: enters with None when the lock is not free."""

    __slots__ = ()

    def __aenter__(  # type: ignore[override]  # None is its point
        self,
    ) -> Coroutine[Any, Any, Grant | None]:
        return self._take_or_not(caller())

    async def _take_or_not(self, body: AnyTask | None) -> Grant | None:
        try:
            return await self._take(True, body)
        except LockTimeout:
            return None

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._grant is not None:
            await super().__aexit__(exc_type, error, traceback)
