"""The turns that this process has: a task that waits for a turn of its own would never get it."""

from __future__ import annotations

import logging
from typing import Protocol

from .. import process
from ..errors import AlreadyHeld
from ..process import clock
from .body import AnyTask
from .grant import Grant
from .waiter import Waiter

log = logging.getLogger("ticketlock.lock")

#: What waits for a turn and has it: a task, or a thread by its name and number.
Who = AnyTask | tuple[object, ...] | None


class Entered(Protocol):
    """A lock that was entered.

    Attributes:
        grant: its turn, once it has begun.
    """

    waiter: Waiter
    grant: Grant | None
    who: Who


class Inside:
    """Conversation -> the lock in whose turn this process is."""

    def __init__(self) -> None:
        self._locks: dict[str, Entered] = {}
        self._limit = 1000

    def check(self, waiter: Waiter, who: Who) -> None:
        """Raise AlreadyHeld if a task or thread would wait for its own turn without end.

        Log a warning instead where an end is in sight: a `wait_timeout`, or another task that
        may release what this one acquired.
        """
        other = self._locks.get(waiter.conversation_id)
        if other is None or other.who != who or waiter.wait_timeout == 0:
            return
        if waiter.incoming is not None:
            return  # it may wait for a reply only, or not at all
        grant = other.grant
        if grant is None or grant.reason is not None or other.waiter.pid != process.pid:
            return
        error = AlreadyHeld(waiter.conversation_id, grant.number)
        if waiter.wait_timeout is None and (grant.bound or isinstance(other.who, tuple)):
            raise error
        log.warning("%s", error)

    def enter(self, lock: Entered) -> None:
        """A lock has its turn."""
        locks = self._locks
        locks[lock.waiter.conversation_id] = lock
        if len(locks) > self._limit:  # some were acquired and never released
            now = clock()
            self._locks = {
                name: other
                for name, other in locks.items()
                if other.grant is not None and other.grant.expires > now
            }
            self._limit = max(1000, 2 * len(self._locks))

    def leave(self, lock: Entered) -> None:
        """The turn of a lock is over, or about to be."""
        if self._locks.get(lock.waiter.conversation_id) is lock:
            del self._locks[lock.waiter.conversation_id]
