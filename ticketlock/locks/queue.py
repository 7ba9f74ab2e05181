"""`TurnQueue`: where tickets wait and turns begin; what a lock store is made of.

`ConcurrentRedisLockStore` has one on Redis, `InMemoryLockStore` one in its process, and every
other store one over its documents. The documented methods of all of them are `LockStore`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from .. import process
from ..errors import ELSEWHERE, LockError, LockStoreConnectionError, LockTimeout
from ..observers import Observers
from ..process import clock
from .grant import Grant
from .inside import Inside
from .inspection import Inspection
from .lost_turns import FORKED, LOOP_CLOSED
from .waiter import Waiter

#: Seconds that a LockTimeout may take to find out who held the lock.
_DECORATION = 0.5
#: Conversations of which a process remembers the mark of the last turn.
_MARKS = 10_000


class TurnQueue:
    """The turns of all conversations: what `Lock` and `LockStore` ask for.

    Attributes:
        observers: of its turns.
        inside: the turns that this process has.
    """

    def __init__(self) -> None:
        self.observers = Observers()
        self.inside = Inside()
        #: conversation -> the mark of its last turn in this process; the oldest are forgotten.
        self._marks: dict[str, str] = {}

    # -- one turn, asked for by Lock ---------------------------------------------------------

    def enter(self, waiter: Waiter) -> Awaitable[Grant]:
        """Take a ticket and wait for its turn. Raises what `LockStore.lock` raises on entering."""
        return self._issued_and_granted(waiter)

    async def _issued_and_granted(self, waiter: Waiter) -> Grant:
        await self.issue(waiter)
        return await self.granted(waiter)

    async def issue(self, waiter: Waiter) -> None:
        """Take a ticket; the waiter has its number then. Raises QueueFull, LockTimeout."""
        raise NotImplementedError

    def granted(self, waiter: Waiter) -> Awaitable[Grant]:
        """Wait for the turn of a ticket that was issued. Raises LockTimeout, DuplicateMessage."""
        raise NotImplementedError

    def withdraw(self, waiter: Waiter) -> None:
        """Take a ticket back, or its turn; does not wait and does not fail."""
        raise NotImplementedError

    def release(self, grant: Grant) -> Awaitable[None]:
        """End a turn; sets `grant.reason` if it turns out that the turn was lost."""
        raise NotImplementedError

    async def raise_fence(self, grant: Grant, floor: int) -> None:
        """Give a turn that is held a fence above `floor`."""
        raise NotImplementedError

    def leave_mark(self, grant: Grant, mark: str, found: Callable[[str], object]) -> None:
        """Leave a text for the conversation's next turn, and give `found` that of the last one.

        It does not wait and does not fail. Here, between the turns of one process.
        """
        last = self._marks.pop(grant.conversation_id, None)
        if len(self._marks) >= _MARKS:
            del self._marks[next(iter(self._marks))]
        self._marks[grant.conversation_id] = mark
        if last is not None:
            found(last)

    # -- messages: see `LockStore.collect` and `LockStore.answer` --------------------------------

    async def collect(self, grant: Grant, limit: int) -> list[tuple[str, str]]:
        """Take the messages that wait right behind a turn into it."""
        return []

    def answer(self, grant: Grant, replies: Mapping[str, str], window: float) -> None:
        """Keep the turn's replies by message id; does not wait and does not fail."""

    # -- looking, breaking, and tickets without a process -----------------------------------------

    async def inspect(self, conversation_id: str, limit: int) -> Inspection:
        """Who holds the conversation and who waits, without changing anything."""
        raise NotImplementedError

    async def position(self, conversation_id: str, number: int) -> int | None:
        """How many turns come before a ticket's; 0: it is being served; None: not there."""
        raise NotImplementedError

    async def break_turn(self, conversation_id: str, fence: int | None) -> bool:
        """End the turn with that fence, or the one there is; whether a turn was ended."""
        raise NotImplementedError

    async def issue_bare(self, conversation_id: str, lifetime: float, number: int = 0) -> int:
        """Queue a ticket that no process keeps alive, for some seconds; returns its number.

        Args:
            number: the one it had before; 0: a new one.
        """
        raise NotImplementedError

    async def drop_expired(self, conversation_id: str) -> None:
        """Store the lock without its expired tickets, where they are not gone by themselves."""

    async def finish(self, conversation_id: str, number: int) -> None:
        """Remove a ticket, served or waiting; the next one is served."""
        raise NotImplementedError

    async def close(self) -> None:
        """Give tickets back and end the turns; their bodies are cancelled."""
        raise NotImplementedError

    # -- for all of them ---------------------------------------------------------------------

    async def timed_out(self, waiter: Waiter) -> LockTimeout:
        """The LockTimeout for a waiter, with what can be found out about the holder."""
        waited = clock() - waiter.started
        try:
            return await asyncio.wait_for(self._described(waiter, waited), _DECORATION)
        except (asyncio.TimeoutError, LockError):  # the time-out is the news, the rest is not
            return LockTimeout(waiter.conversation_id, waited)

    async def _described(self, waiter: Waiter, waited: float) -> LockTimeout:
        holder = (await self.inspect(waiter.conversation_id, 0)).holder
        position = None
        if waiter.number >= 0:
            position = await self.position(waiter.conversation_id, waiter.number)
        return LockTimeout(
            waiter.conversation_id,
            waited,
            position,
            str(holder) if holder else None,
            holder.held_for if holder else None,
        )


class LocalQueue(TurnQueue):
    """A queue whose state belongs to one process and one event loop."""

    def __init__(self) -> None:
        super().__init__()
        self._last_fence = 0
        self._begin_anew()

    def _begin_anew(self) -> None:
        """What belongs to this process and its event loop. Turns held before are void."""
        self._pid = process.pid
        self._home: asyncio.AbstractEventLoop | None = None

    def _void(self, grant: Grant) -> None:
        """A turn held before is lost."""
        reason = FORKED if self._pid != process.pid else LOOP_CLOSED
        grant.reason = grant.reason or reason

    def _check_home(self) -> None:
        """Begin anew in a forked child, and when the event loop of before is gone.

        Raises LockStoreConnectionError on a second event loop beside it.
        """
        if self._pid != process.pid or (self._home is not None and self._home.is_closed()):
            self._begin_anew()
        here = asyncio._get_running_loop()  # noqa: SLF001  # documented: None outside of one
        if self._home is None:
            self._home = here
        elif here is not None and here is not self._home:
            raise LockStoreConnectionError(ELSEWHERE)

    def _mint(self, least: int) -> int:
        """A fence of at least that, and above all before it."""
        self._last_fence = max(self._last_fence + 1, least)
        return self._last_fence

    async def raise_fence(self, grant: Grant, floor: int) -> None:
        grant.fence = self._mint(max(grant.fence, floor) + 1)
