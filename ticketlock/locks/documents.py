"""Tickets in stored documents: all that a store of three methods needs to be a lock store.

`get_lock`, `save_lock` and `delete_lock` are a custom store's own; the rest is here, by
polling. Built-in stores that know better replace what they know better.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from .. import process
from ..aio.running import result
from ..checks import check_conversation_id, check_count, check_floor, check_number, check_seconds
from ..errors import ELSEWHERE, LockError, LockStoreConnectionError, QueueFull, TicketLockError
from ..process import clock
from .deadlines import DeadlineWatch
from .explaining import Explaining
from .grant import FORKED, Grant
from .inspection import Holder, Inspection, Waiting
from .tickets import Ticket, TicketLock
from .waiter import Waiter

T = TypeVar("T")
log = logging.getLogger("ticketlock.lock")


class Polling(Explaining):
    """The base of `LockStore`: locks over documents, atomic within one process."""

    #: Seconds a ticket lives without being renewed.
    lease = 5.0

    #: The process whose event loop works for it.
    _pid = process.pid

    def __init__(self, lock_lifetime: float) -> None:
        self.lock_lifetime = lock_lifetime
        self._last_fence = 0
        self._closed = False
        self._held: set[Grant] = set()
        self._begin_anew()

    def _begin_anew(self) -> None:
        """What belongs to one process and one event loop. Turns held before are void."""
        for grant in self._held:
            grant.reason = grant.reason or (
                FORKED if self._pid != process.pid else "its event loop was closed"
            )
        self._held = set()
        self._pid = process.pid
        self._home: asyncio.AbstractEventLoop | None = None
        self._mutex: asyncio.Lock | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._background: set[asyncio.Future[Any]] = set()
        self._deadlines: DeadlineWatch | None = None

    def _check_home(self) -> None:
        """Begin anew in a forked child, and when the event loop of before is gone.

        Raises LockStoreConnectionError on a second event loop beside it.
        """
        if self._pid != process.pid or (self._home is not None and self._home.is_closed()):
            self._begin_anew()
        here = asyncio._get_running_loop()  # None outside of one, as `withdraw` may be
        if self._home is None:
            self._home = here
        elif here is not None and here is not self._home:
            raise LockStoreConnectionError(ELSEWHERE)

    # -- the documented interface: a custom store implements the first three ---------------

    def get_lock(self, conversation_id: str) -> Any:
        """The stored TicketLock or None; a custom store implements it, plain or async."""
        raise NotImplementedError(f"{type(self).__name__} must implement get_lock")

    def save_lock(self, lock: TicketLock) -> Any:
        """Store a TicketLock; a custom store implements it, plain or async."""
        raise NotImplementedError(f"{type(self).__name__} must implement save_lock")

    def delete_lock(self, conversation_id: str) -> Any:
        """Remove the lock; a custom store implements it, plain or async."""
        raise NotImplementedError(f"{type(self).__name__} must implement delete_lock")

    async def get_or_create_lock(self, conversation_id: str) -> TicketLock:
        """The stored lock, or a new one that is not saved."""
        lock = await result(self.get_lock(check_conversation_id(conversation_id)))
        return lock if isinstance(lock, TicketLock) else TicketLock(conversation_id)

    async def issue_ticket(self, conversation_id: str, lock_lifetime: float | None = None) -> int:
        """Issue a ticket that lives `lock_lifetime` seconds from now, and return its number.

        The low-level interface: nobody renews the ticket. Raises LockError.
        """
        lifetime = self.lock_lifetime if lock_lifetime is None else lock_lifetime
        lifetime = check_seconds("lock_lifetime", lifetime, above=True)

        def issue(lock: TicketLock, now: float) -> int:
            return lock.issue_ticket(lifetime, now)

        try:
            return await self._update(conversation_id, issue)
        except TicketLockError:
            raise
        except Exception as error:  # documented: any failure of a store is a LockError
            raise LockError(f"Error while acquiring lock: {error}") from error

    async def finish_serving(self, conversation_id: str, ticket_number: int) -> None:
        """Remove a ticket; the next one is served."""
        ticket_number = check_number("ticket_number", ticket_number)

        def finish(lock: TicketLock, now: float) -> None:
            lock.remove_ticket_for(ticket_number)

        for grant in self._held_here(conversation_id, ticket_number):
            self._held.discard(grant)
            grant.lose("its ticket was finished, or the lock was broken")
        await self._update(conversation_id, finish)

    async def is_someone_waiting(self, conversation_id: str) -> bool:
        """Whether a valid ticket waits behind the one being served."""
        return len((await self._read(conversation_id)).tickets) > 1

    async def cleanup(self, conversation_id: str, ticket_number: int) -> None:
        """Finish a ticket, and remove the lock if that was the last one."""
        await self.finish_serving(conversation_id, ticket_number)

    # -- looking and breaking -----------------------------------------------------------------

    async def position(self, conversation_id: str, ticket_number: int) -> int | None:
        """How many turns come before this ticket's; 0: it is being served; None: not there."""
        ticket_number = check_number("ticket_number", ticket_number)
        lock = await self._read(conversation_id)
        numbers = [ticket.number for ticket in lock.tickets]
        return numbers.index(ticket_number) if ticket_number in numbers else None

    async def inspect(self, conversation_id: str, limit: int = 100) -> Inspection:
        """Who holds the conversation and who waits, without changing anything."""
        limit = check_count("limit", limit)
        lock = await self._read(conversation_id)
        now = await self._now()
        tickets = list(lock.tickets)
        holder = None
        if tickets:
            here = self._held_here(conversation_id, tickets[0].number)
            held_for = clock() - here[0].granted_at if here else 0.0
            lease = max(0.0, tickets[0].expires - now)
            holder = Holder(tickets[0].number, lock.fence, held_for, lease)
        waiting = tuple(Waiting(t.number, 0.0) for t in tickets[1 : 1 + limit])
        return Inspection(conversation_id, holder, waiting, len(tickets[1:]), lock.last_issued)

    async def break_lock(self, conversation_id: str, fence: int | None = None) -> bool:
        """End the turn of whoever holds the conversation; its process gets LockLost.

        Args:
            fence: break only the turn with this fence.

        Returns: whether a turn was ended.
        """
        if fence is not None:
            fence = check_number("fence", fence)
        state = await self.inspect(conversation_id)
        if state.holder is None or fence not in (None, state.holder.fence):
            return False
        await self.finish_serving(conversation_id, state.holder.number)
        return True

    # -- turns ------------------------------------------------------------------------------

    async def _now(self) -> float:
        """Epoch seconds by the clock that all users of the store share."""
        return time.time()

    async def _read(self, conversation_id: str) -> TicketLock:
        """The lock without its expired tickets."""
        lock = await self.get_or_create_lock(conversation_id)
        lock.remove_expired_tickets(await self._now())
        return lock

    async def _update(self, conversation_id: str, change: Callable[[TicketLock, float], T]) -> T:
        """Read, change and store a lock. Atomic within this process only."""
        self._check_home()
        self._mutex = self._mutex or asyncio.Lock()
        async with self._mutex:
            lock = await self.get_or_create_lock(conversation_id)
            before = lock.dumps()
            now = await self._now()
            lock.remove_expired_tickets(now)
            changed = change(lock, now)
            if not lock.tickets:
                await result(self.delete_lock(conversation_id))
            elif lock.dumps() != before:
                await result(self.save_lock(lock))
            return changed

    def _enter(self, waiter: Waiter) -> Awaitable[Grant]:
        """Take a ticket and wait for its turn."""
        return self._issued_and_granted(waiter)

    async def _issued_and_granted(self, waiter: Waiter) -> Grant:
        await self._issue(waiter)
        return await self._granted(waiter)

    async def _issue(self, waiter: Waiter) -> None:
        limit = 0 if waiter.wait_timeout == 0 else waiter.max_waiting
        waiter.member = secrets.token_hex(8)

        def issue(lock: TicketLock, now: float) -> tuple[int, int]:
            waiting = len(lock.tickets) - 1
            if limit is not None and waiting >= limit:
                return -1, waiting
            return lock.issue_ticket(self.lease, now, waiter.member), waiting

        issuing = asyncio.ensure_future(self._update(waiter.conversation_id, issue))
        try:
            waiter.number, waiting = await asyncio.shield(issuing)
        except asyncio.CancelledError:
            self._spawn(self._take_back(waiter, issuing))
            raise
        waiter.ahead = waiting + 1
        if waiter.number < 0:
            if waiter.wait_timeout == 0:
                raise await self._timed_out(waiter)
            raise QueueFull(waiter.conversation_id, waiting)

    async def _granted(self, waiter: Waiter) -> Grant:
        while not self._closed:
            asked = clock()
            place, fence = await self._update(
                waiter.conversation_id, lambda lock, now: self._keep(lock, now, waiter)
            )
            if place == 0:
                return self._grant(waiter, fence, asked)
            pause = min(waiter.poll, 0.02 * place, self.lease / 3)
            if waiter.deadline is not None:
                if clock() >= waiter.deadline:
                    raise await self._timed_out(waiter)
                pause = min(pause, waiter.deadline - clock())
            await asyncio.sleep(max(0.001, pause))
        raise LockStoreConnectionError("the lock store has been closed")

    def _keep(self, lock: TicketLock, now: float, waiter: Waiter) -> tuple[int, int]:
        """Keep a ticket alive, put it back where it was dropped by mistake.

        Returns its place, and the fence minted for it when that is 0.
        """
        ticket = _owned(lock, waiter.member)
        if ticket is None:
            ticket = Ticket(waiter.number, now + self.lease, waiter.member)
            ordered = sorted([*lock.tickets, ticket], key=lambda ticket: ticket.number)
            lock.tickets.clear()
            lock.tickets.extend(ordered)
        place = lock.tickets.index(ticket)
        if place == 0 or ticket.expires < now + self.lease / 2:
            ticket.expires = now + self.lease
        if place == 0:
            # By the clock that all share, and higher than what the document remembers.
            lock.fence = max(lock.fence + 1, int(now * 1_000_000))
        return place, lock.fence

    def _grant(self, waiter: Waiter, fence: int, asked: float) -> Grant:
        self._check_home()
        self._last_fence = fence = max(self._last_fence + 1, fence)
        grant = Grant(
            waiter.conversation_id,
            waiter.number,
            fence,
            asked + self.lease * 0.9,
            waiter.lock_lifetime,
            member=waiter.member,
        )
        self._held.add(grant)
        if self._deadlines is None:
            self._deadlines = DeadlineWatch(lambda: self._held, self._overdue)
        self._deadlines.watch(grant)
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.create_task(self._renew_held())
        return grant

    def _overdue(self, grant: Grant) -> None:
        self._held.discard(grant)
        grant.lose(grant.overdue())

    async def _renew_held(self) -> None:
        """Renew the tickets of all held turns until there are none."""
        while self._held:
            await asyncio.sleep(self.lease / 10)
            await asyncio.gather(*(self._renew(grant) for grant in list(self._held)))

    async def _renew(self, grant: Grant) -> None:
        def renew(lock: TicketLock, now: float) -> bool:
            if not lock.tickets or lock.tickets[0].owner != grant.member:
                return False
            lock.tickets[0].expires = now + self.lease
            return True

        asked = clock()
        try:
            if await self._update(grant.conversation_id, renew):
                grant.extend(asked + self.lease * 0.9)
            elif grant in self._held:
                self._held.discard(grant)
                grant.lose("its ticket is gone: it expired, or the lock was broken")
        except Exception as error:  # noqa: BLE001  # whatever a custom store raises: the next
            # round tries again, and the turn's deadline decides.
            log.warning(
                "cannot renew the turn of conversation %r: %s", grant.conversation_id, error
            )

    def _held_here(self, conversation_id: str, number: int) -> list[Grant]:
        return [
            grant
            for grant in self._held
            if grant.number == number and grant.conversation_id == conversation_id
        ]

    def _release(self, grant: Grant) -> Awaitable[None]:
        """End a turn; sets `grant.reason` when it turns out that it was lost."""
        return self._ended(grant)

    async def _ended(self, grant: Grant) -> None:
        self._check_home()
        self._held.discard(grant)
        if self._closed:
            grant.reason = grant.reason or "the lock store has been closed"
            return
        there = await asyncio.shield(self._spawn(self._finish(grant.conversation_id, grant.member)))
        if not there:
            grant.reason = grant.reason or "its ticket was gone: it expired, or the lock was broken"

    async def _finish(self, conversation_id: str, member: str) -> bool:
        """Remove a ticket of ours, and no other; whether it was there."""

        def finish(lock: TicketLock, now: float) -> bool:
            ticket = _owned(lock, member)
            if ticket is not None:
                lock.tickets.remove(ticket)
            return ticket is not None

        return await self._update(conversation_id, finish)

    async def _take_back(self, waiter: Waiter, issuing: asyncio.Future[tuple[int, int]]) -> None:
        waiter.number, _ = await issuing
        self._withdraw(waiter)

    def _withdraw(self, waiter: Waiter) -> None:
        if waiter.number >= 0 and not self._closed:
            self._held -= {grant for grant in self._held if grant.member == waiter.member}
            self._spawn(self._finish(waiter.conversation_id, waiter.member))

    def _spawn(self, work: Awaitable[Any]) -> asyncio.Future[Any]:
        """Run `work` to its end even if the caller is cancelled; `close` waits for it."""
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._worked)
        return task

    def _worked(self, task: asyncio.Future[Any]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("a ticket could not be withdrawn and will expire by itself: %s", error)

    async def raise_fence(self, grant: Grant, floor: int) -> None:
        """Give a turn that is held a fence above `floor`: the highest that its tracker store
        has seen, after the lock store has lost its memory and its clock is behind.

        Raises LockLost when the turn is no longer held.
        """
        grant.ensure_held()
        floor = check_floor(grant.conversation_id, floor)
        self._last_fence = grant.fence = max(grant.fence, self._last_fence, floor) + 1

    async def close(self) -> None:
        """End the turns and their bodies, the keeper, and what works in the background."""
        self._check_home()
        for grant in list(self._held):
            self._held.discard(grant)
            self._spawn(self._finish(grant.conversation_id, grant.member))
            grant.lose("the lock store has been closed")
        self._closed = True
        tasks = [task for task in (self._keeper, *self._background) if task is not None]
        if self._keeper is not None:
            self._keeper.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._keeper = None
        if self._deadlines is not None:
            self._deadlines.stop()


def _owned(lock: TicketLock, member: str) -> Ticket | None:
    return next((ticket for ticket in lock.tickets if ticket.owner == member), None)
