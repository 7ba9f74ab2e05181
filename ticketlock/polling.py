"""Tickets in stored documents: all that a store of three methods needs to be a lock store.

`get_lock`, `save_lock` and `delete_lock` are a custom store's own; the rest is here, by
polling. Built-in stores that know better replace what they know better.
"""

from __future__ import annotations

import asyncio
import inspect as python_inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from .errors import LockError, LockTimeout, QueueFull, TicketLockError
from .grant import Grant, clock
from .inspection import Holder, Inspection, Waiting
from .lock import Waiter, check_conversation_id
from .tickets import Ticket, TicketLock

T = TypeVar("T")


class Polling:
    """The base of `LockStore`: locks over documents, atomic within one process."""

    #: Seconds a ticket lives without being renewed.
    lease = 5.0

    def __init__(self, lock_lifetime: float) -> None:
        self.lock_lifetime = lock_lifetime
        self._last_fence = 0
        self._mutex: asyncio.Lock | None = None
        self._held: set[Grant] = set()
        self._keeper: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[Any]] = set()

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
        lock = await _result(self.get_lock(check_conversation_id(conversation_id)))
        return lock if isinstance(lock, TicketLock) else TicketLock(conversation_id)

    async def issue_ticket(self, conversation_id: str, lock_lifetime: float | None = None) -> int:
        """Issue a ticket that lives `lock_lifetime` seconds from now, and return its number.

        The low-level interface: nobody renews the ticket. Raises LockError.
        """
        lifetime = self.lock_lifetime if lock_lifetime is None else lock_lifetime

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

        def finish(lock: TicketLock, now: float) -> None:
            lock.remove_ticket_for(ticket_number)

        for grant in self._held_here(conversation_id, ticket_number):
            self._held.discard(grant)
            grant.lose("its ticket was finished, or the lock was broken")
        await self._update(conversation_id, finish)

    async def is_someone_waiting(self, conversation_id: str) -> bool:
        """True when a valid ticket waits behind the one being served."""
        return (await self._read(conversation_id)).is_someone_waiting()

    async def cleanup(self, conversation_id: str, ticket_number: int) -> None:
        """Finish a ticket, and remove the lock if that was the last one."""
        await self.finish_serving(conversation_id, ticket_number)

    # -- looking and breaking -----------------------------------------------------------------

    async def position(self, conversation_id: str, ticket_number: int) -> int | None:
        """How many turns come before this ticket's; 0: it is being served; None: not there."""
        lock = await self._read(conversation_id)
        numbers = [ticket.number for ticket in lock.tickets]
        return numbers.index(ticket_number) if ticket_number in numbers else None

    async def inspect(self, conversation_id: str, limit: int = 100) -> Inspection:
        """Who holds the conversation and who waits, without changing anything."""
        lock = await self._read(conversation_id)
        now = await self._now()
        tickets = list(lock.tickets)
        grant = next(iter(self._held_here(conversation_id, lock.now_serving)), None)
        holder = None
        if tickets:
            holder = Holder(
                tickets[0].number,
                grant.fence if grant else 0,
                clock() - grant.granted_at if grant else 0.0,
                max(0.0, tickets[0].expires - now),
            )
        waiting = tuple(Waiting(t.number, 0.0) for t in tickets[1 : 1 + limit])
        return Inspection(conversation_id, holder, waiting, len(tickets[1:]), lock.last_issued)

    async def break_lock(self, conversation_id: str, fence: int | None = None) -> bool:
        """End the turn of whoever holds the conversation; its process gets LockLost.

        Args:
            fence: break only the turn with this fence.

        Returns: whether a turn was ended.
        """
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
        self._mutex = self._mutex or asyncio.Lock()
        async with self._mutex:
            lock = await self.get_or_create_lock(conversation_id)
            before = lock.dumps()
            now = await self._now()
            lock.remove_expired_tickets(now)
            result = change(lock, now)
            if not lock.tickets:
                await _result(self.delete_lock(conversation_id))
            elif lock.dumps() != before:
                await _result(self.save_lock(lock))
            return result

    async def _issue(self, waiter: Waiter) -> None:
        limit = 0 if waiter.wait_timeout == 0 else waiter.max_waiting

        def issue(lock: TicketLock, now: float) -> tuple[int, int]:
            waiting = len(lock.tickets) - 1
            if limit is not None and waiting >= limit:
                return -1, waiting
            return lock.issue_ticket(self.lease, now), waiting

        issuing = asyncio.ensure_future(self._update(waiter.conversation_id, issue))
        try:
            waiter.number, waiting = await asyncio.shield(issuing)
        except asyncio.CancelledError:
            self._spawn(self._take_back(waiter, issuing))
            raise
        if waiter.number < 0:
            if waiter.wait_timeout == 0:
                raise await self._timed_out(waiter)
            raise QueueFull(waiter.conversation_id, waiting)

    async def _granted(self, waiter: Waiter) -> Grant:
        while True:
            asked = clock()
            place = await self._update(
                waiter.conversation_id, lambda k, t: self._keep(k, t, waiter)
            )
            if place == 0:
                return self._grant(waiter, asked)
            pause = min(waiter.poll, 0.02 * place, self.lease / 3)
            if waiter.deadline is not None:
                if clock() >= waiter.deadline:
                    raise await self._timed_out(waiter)
                pause = min(pause, waiter.deadline - clock())
            await asyncio.sleep(max(0.001, pause))

    def _keep(self, lock: TicketLock, now: float, waiter: Waiter | Grant) -> int:
        """Keep a ticket alive, put it back where it was dropped by mistake; tell its place."""
        numbers = [ticket.number for ticket in lock.tickets]
        if waiter.number not in numbers:
            lock.tickets.append(Ticket(waiter.number, now + self.lease))
            ordered = sorted(lock.tickets, key=lambda ticket: ticket.number)
            lock.tickets.clear()
            lock.tickets.extend(ordered)
            numbers = [ticket.number for ticket in ordered]
        place = numbers.index(waiter.number)
        if place == 0 or lock.tickets[place].expires < now + self.lease / 2:
            lock.tickets[place].expires = now + self.lease
        return place

    def _grant(self, waiter: Waiter, asked: float) -> Grant:
        self._last_fence = max(self._last_fence + 1, time.time_ns() // 1000)
        grant = Grant(
            waiter.conversation_id,
            waiter.number,
            self._last_fence,
            asked + self.lease * 0.9,
            waiter.lock_lifetime,
        )
        self._held.add(grant)
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.create_task(self._renew_held())
        return grant

    async def _renew_held(self) -> None:
        """Renew the tickets of all held turns until there are none."""
        while self._held:
            await asyncio.sleep(self.lease / 10)
            for grant in list(self._held):
                await self._renew(grant)

    async def _renew(self, grant: Grant) -> None:
        def renew(lock: TicketLock, now: float) -> bool:
            if not lock.tickets or lock.tickets[0].number != grant.number:
                return False
            lock.tickets[0].expires = now + self.lease
            return True

        asked = clock()
        if asked < grant.deadline:
            try:
                if await self._update(grant.conversation_id, renew):
                    return grant.extend(asked + self.lease * 0.9)
                reason = "its ticket is gone: it expired, or the lock was broken"
            except Exception as error:  # noqa: BLE001  # whatever a custom store raises:
                # the next round tries again, the deadline decides.
                if clock() < grant.deadline:
                    return None
                reason = f"it could not be renewed: {error}"
        else:
            reason = grant.overdue()
        if grant in self._held:
            self._held.discard(grant)
            grant.lose(reason)
        return None

    def _held_here(self, conversation_id: str, number: int) -> list[Grant]:
        return [
            grant
            for grant in self._held
            if grant.number == number and grant.conversation_id == conversation_id
        ]

    async def _release(self, grant: Grant) -> None:
        self._held.discard(grant)
        if clock() < grant.lease_until:  # later the number may be another's
            await self.finish_serving(grant.conversation_id, grant.number)

    async def _take_back(self, waiter: Waiter, issuing: asyncio.Future[tuple[int, int]]) -> None:
        waiter.number, _ = await issuing
        self._withdraw(waiter)

    def _withdraw(self, waiter: Waiter) -> None:
        if waiter.number >= 0:
            self._spawn(self.finish_serving(waiter.conversation_id, waiter.number))

    def _spawn(self, work: Awaitable[Any]) -> None:
        """Run `work` to its end even if the caller is cancelled; `close` waits for it."""
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def raise_fence(self, grant: Grant, floor: int) -> None:
        """Give a turn that is held a fence above `floor`: the highest that its tracker store
        has seen, after the lock store has lost its memory and its clock is behind.

        Raises LockLost when the turn is no longer held.
        """
        grant.ensure_held()
        self._last_fence = grant.fence = max(grant.fence, self._last_fence, floor) + 1

    async def close(self) -> None:
        """End the keeper and what works in the background."""
        tasks = [task for task in (self._keeper, *self._background) if task is not None]
        if self._keeper is not None:
            self._keeper.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._keeper = None

    async def _timed_out(self, waiter: Waiter) -> LockTimeout:
        """The LockTimeout for a waiter, with what `inspect` and `position` can tell."""
        state = await self.inspect(waiter.conversation_id, 0)
        position = None
        if waiter.number >= 0:
            position = await self.position(waiter.conversation_id, waiter.number)
        holder = state.holder
        return LockTimeout(
            waiter.conversation_id,
            clock() - waiter.started,
            position,
            str(holder) if holder else None,
            holder.held_for if holder else None,
        )


async def _result(value: Any) -> Any:
    """The value of a plain or an asynchronous method of a custom store."""
    return await value if python_inspect.isawaitable(value) else value
