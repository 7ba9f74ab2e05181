"""One use of a lock: take a ticket, wait for the turn, hold it, leave."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any

from .. import process
from ..errors import CLOSED, CLOSING, LockError, LockStoreConnectionError, LockTimeout
from .body import AnyTask, caller, closed_under
from .grant import Grant
from .inside import Who
from .lost_turns import FORKED
from .queue import TurnQueue
from .waiter import Waiter


class Lock:
    """What `store.lock(...)` returns: an asynchronous context manager for one turn.

    `async with` takes a ticket and waits for its turn. `await lock.queue()` takes the
    ticket earlier, for instance to acknowledge a webhook once its place is certain.

    A lock that was made before a fork may be used in the child; a ticket that was taken before
    the fork is the parent's.

    Attributes:
        waiter: its ticket.
        grant: its turn, once it has begun.
        who: the task or thread that has entered it.
        spent, over: it cannot be entered any more; its turn was left.
    """

    __slots__ = ("_entered", "_queued", "_turns", "grant", "over", "spent", "waiter", "who")

    def __init__(self, turns: TurnQueue, waiter: Waiter) -> None:
        self._turns = turns
        self.waiter = waiter
        self.grant: Grant | None = None
        self.spent = False
        self.over = False
        #: Whether a task or thread has begun to enter it.
        self._entered = False
        #: None: no ticket was taken ahead. False: one is being taken.
        self._queued: bool | None = None
        #: What waits for the turn and has it: a task, or a thread.
        self.who: Who = None

    async def queue(self) -> int:
        """Take the ticket without waiting for the turn, and return its number.

        The ticket keeps its place until the lock is entered or `withdraw` is called. 0: an
        `incoming` message needs none, another ticket has it.
        Raises QueueFull, LockStoreConnectionError.
        """
        if self.spent or self._entered or self._queued is not None:
            raise LockError(
                "this lock already has a ticket, and is for one turn: call `lock()` for each"
            )
        self._queued = False
        self.waiter.start()
        try:
            await self._turns.issue(self.waiter)
        except BaseException:
            self.withdraw()
            raise
        self._queued = True
        return self.waiter.number

    def withdraw(self) -> None:
        """Give the ticket back without entering; the lock cannot be used after that."""
        self.spent = True
        if self.waiter.pid == process.pid:  # else it is the parent's, and not ours to give
            self._turns.withdraw(self.waiter)

    async def acquire(self) -> Grant:
        """Wait for the turn; a caller that does not use `async with` must `release`.

        No task is cancelled when the turn is lost, unless one calls `grant.bind()`.
        Raises what `async with` raises on entering; see `LockStore.lock`.
        """
        return await self.take()

    async def take(
        self, bind: bool = False, body: AnyTask | None = None, who: tuple[object, ...] | None = None
    ) -> Grant:
        self.occupy(asyncio.current_task() if who is None else who)
        try:
            grant = await self.begin()
        except BaseException as error:
            self.withdraw()
            if isinstance(error, LockStoreConnectionError) and str(error) in (CLOSED, CLOSING):
                closed_under(error)
            raise
        self.begun(grant)
        if bind:
            # The task that called `__aenter__` does the work; `wait_for` may run it in another task.
            grant.bind(None if body is None or body.done() else body)
        return grant

    def occupy(self, who: Who) -> None:
        """One task or thread enters it, once. Called on the event loop: threads share locks too."""
        if self.spent or self._entered or self._queued is False:
            raise LockError(
                "this lock has been entered already, or its ticket is being taken; a lock is for "
                "one turn: call `lock()` for each"
            )
        self._entered, self.who = True, who

    def give_up(self, who: tuple[object, ...]) -> None:
        """Withdraw, unless it is another thread's."""
        if self.who is who:
            self.withdraw()

    def begin(self) -> Awaitable[Grant]:
        waiter = self.waiter
        self._turns.inside.check(waiter, self.who)
        if waiter.number < 0:
            waiter.start()
            return self._turns.enter(waiter)
        if waiter.pid != process.pid:
            raise LockError(
                f"the ticket {waiter.number} of conversation {waiter.conversation_id!r} was taken "
                "before the fork and is the parent's: make a new lock in the child"
            )
        return self._turns.granted(waiter)

    def _describe(self, grant: Grant) -> None:
        """Tell a grant what its waiter knows."""
        waiter = self.waiter
        grant.label = waiter.label
        grant.waited = grant.granted_at - waiter.started
        grant.ahead = waiter.ahead
        grant.observers = self._turns.observers

    def begun(self, grant: Grant) -> None:
        """The turn is ours."""
        self._describe(grant)
        self.grant = grant
        self._turns.inside.enter(self)

    async def release(self) -> None:
        """End the turn. Raises LockLost if it had been lost before.

        After an `acquire` that failed, this does nothing, so that its error is the one
        that is raised. Raises LockError if `acquire` was not called, or if the turn was
        released already.
        """
        grant = self.grant
        if grant is None and self.spent:
            return
        if grant is None or self.over:
            problem = "has been released already" if self.over else "was not acquired"
            raise LockError(f"the lock of {self.waiter.conversation_id!r} {problem}")
        if grant.unbind():
            await grant.settle(None)
        await self.end(grant)
        grant.tell_lost()

    def end(self, grant: Grant) -> Awaitable[None]:
        self.forget()
        if self.waiter.pid != process.pid:  # the turn is the parent's, and not ours to end
            grant.reason = FORKED
            return asyncio.sleep(0)
        grant.leave()
        return self._turns.release(grant)

    def note(self, error: BaseException | None) -> None:
        """What the block of a thread has raised, for observers."""

    def forget(self) -> None:
        """The turn is over, or about to be."""
        self.over = True
        self.who = None
        self._turns.inside.leave(self)

    def __aenter__(self) -> Coroutine[Any, Any, Grant]:
        return self.take(True, caller())

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        grant = self.grant
        if grant is None:
            raise LockError(f"the lock of {self.waiter.conversation_id!r} was not entered")
        ours = grant.unbind() and await grant.settle(error)
        if self.over:
            return  # released inside the block
        await self.end(grant)
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
            return await self.take(True, body)
        except LockTimeout:
            return None

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self.grant is not None:
            await super().__aexit__(kind, error, trace)
