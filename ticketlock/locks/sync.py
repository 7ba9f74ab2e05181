"""Locks for threads: the same ones, on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from .. import process
from ..aio import native
from ..aio.portal import Portal, finalizer
from ..errors import CLOSED, LockError, LockLost, LockTimeout
from .grant import Grant
from .incoming import Supersede
from .lock import Lock
from .lost_turns import FORKED, NEVER_LEFT


class SyncGrant:
    """A `Grant` for threads.

    A thread cannot be cancelled from outside: call `ensure_held` before each write.

    Attributes:
        grant: the grant itself, which is the event loop's.
    """

    def __init__(self, grant: Grant) -> None:
        self.grant = grant
        self.conversation_id = grant.conversation_id
        self.number = grant.number
        self.fence = grant.fence
        self.waited = grant.waited
        self.ahead = grant.ahead

    @property
    def cause(self) -> str:
        """Why it was lost, in a word; see `Grant.cause`."""
        return self.grant.cause

    def held_for(self) -> float:
        """Seconds since the turn began."""
        return self.grant.held_for()

    @property
    def lost(self) -> bool:
        """Whether the turn is over: lost, or its block has ended."""
        try:
            self.grant.ensure_held()
        except LockLost:
            return True
        return False

    @property
    def superseded(self) -> Supersede | None:
        """How to stop, when a later message asks for it; else None."""
        return self.grant.superseded

    def ensure_held(self) -> None:
        """Raise LockLost unless this turn certainly still holds the lock."""
        self.grant.ensure_held()

    def __repr__(self) -> str:
        return f"<Sync{repr(self.grant)[1:]}"


class SyncLock:
    """What `SyncLockStore.lock` returns: `with` takes a ticket and waits for its turn."""

    def __init__(self, store: object, portal: Portal, lock: Lock) -> None:
        self._store = store  # dropped, it would be closed
        self._portal = portal
        self._lock = lock
        self._life: object = None
        self._dropped: Any = None

    def queue(self) -> int:
        """Take the ticket without waiting for the turn, and return its number."""
        return self._portal.run(lambda: self._lock.queue())

    def withdraw(self) -> None:
        """Give the ticket back without entering; the lock cannot be used after that."""
        self._lock.spent = True
        self._portal.post(self._lock.withdraw)

    def __enter__(self) -> SyncGrant:
        lock, who = self._lock, native.me()

        def begin() -> Awaitable[Grant]:
            lock.occupy(who)
            return lock.begin()

        try:
            grant = self._portal.run(begin)
            self._life = self._portal.life
            lock.begun(grant)
            self._dropped = given_back_by(self, self._portal, lock, grant)
            return SyncGrant(grant)
        except BaseException:
            # Also when the turn came in the moment of the interrupt.
            self._portal.post(lambda: lock.give_up(who))
            raise

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        grant = self._lock.grant
        if grant is None:
            raise LockError(f"the lock of {self._lock.waiter.conversation_id!r} was not entered")
        self._lock.note(error)
        try:
            self._dropped.detach()
            self._leave(grant)
        except BaseException:
            self.withdraw()  # an interrupt before the release was sent
            raise
        grant.tell_lost(error)

    def _leave(self, grant: Grant) -> None:
        if self._lock.waiter.pid != process.pid:
            grant.reason = FORKED
        elif self._portal.life is not self._life or self._life is None:
            grant.reason = grant.reason or CLOSED
            self._lock.forget()
        elif self._portal.runs_here():  # a garbage collector's doing: waiting would be for ever
            asyncio.ensure_future(self._lock.end(grant))  # noqa: RUF006  # stores keep theirs
        else:
            self._portal.run(lambda: self._lock.end(grant), finish=True)


def given_back_by(owner: object, portal: Portal, lock: Lock, grant: Grant) -> Any:
    """A finalizer that gives the turn back if its owner is dropped without being left.

    An interrupt between `with` and its methods does that. Leaving the turn detaches it.
    """

    def dropped() -> None:
        if not lock.over and not lock.spent:
            grant.reason = grant.reason or NEVER_LEFT
            lock.spent = True
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

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._entered:
            super().__exit__(kind, error, trace)
