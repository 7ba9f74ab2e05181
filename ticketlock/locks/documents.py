"""Tickets in stored documents: the queue of every lock store that has three methods.

A document is read, changed and stored again. `RedisLockStore` swaps it in one step; over a custom
store's methods that is atomic within one process, by a mutex.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol, TypeVar

from ..aio.running import result, until_done
from ..errors import CLOSED, LockError, LockStoreConnectionError, QueueFull, TicketLockError
from ..process import clock
from .deadlines import DeadlineWatch
from .grant import Grant
from .inspection import Holder, Inspection, Waiting
from .lost_turns import BROKEN, TICKET_GONE
from .own_ticket import OwnTicket
from .queue import LocalQueue
from .tickets import TicketLock
from .waiter import Waiter

T = TypeVar("T")
log = logging.getLogger("ticketlock.lock")

#: Seconds that a ticket lives without being renewed, unless its store says so.
LEASE = 5.0

#: Seconds for which a waiter that gives up waits until its ticket is taken back.
_PATIENCE = 0.5


class DocumentGrant(Grant):
    """A turn whose ticket is in a document: `own`."""

    __slots__ = ("own",)
    own: OwnTicket


class DocumentQueue(LocalQueue):
    """Turns over documents, one a conversation. Waiters poll."""

    def __init__(self) -> None:
        self._closed = False
        self._held: set[DocumentGrant] = set()
        super().__init__()

    def _begin_anew(self) -> None:
        for grant in self._held:
            self._void(grant)
        self._held = set()
        self._keeper: asyncio.Task[None] | None = None
        self._background: set[asyncio.Future[Any]] = set()
        self._deadlines: DeadlineWatch[Grant] | None = None
        super()._begin_anew()

    @property
    def lease(self) -> float:
        """Seconds that a ticket lives without being renewed."""
        raise NotImplementedError

    @property
    def beat(self) -> float:
        """Seconds between two renewals of a held ticket, which also find that it is gone."""
        return self.lease / 10

    # -- documents ---------------------------------------------------------------------------

    async def get_or_create(self, conversation_id: str) -> TicketLock:
        """The stored lock, or a new one that is not saved."""
        raise NotImplementedError

    async def now(self) -> float:
        """Epoch seconds by the clock that all users of the documents share."""
        raise NotImplementedError

    async def update(self, conversation_id: str, change: Callable[[TicketLock, float], T]) -> T:
        """Read a lock, drop its expired tickets, change it, and store it, in one step."""
        raise NotImplementedError

    async def _read(self, conversation_id: str) -> TicketLock:
        """The lock without its expired tickets."""
        lock = await self.get_or_create(conversation_id)
        lock.remove_expired_tickets(await self.now())
        return lock

    # -- looking, breaking, and tickets without a process -----------------------------------------

    async def position(self, conversation_id: str, number: int) -> int | None:
        numbers = [ticket.number for ticket in (await self._read(conversation_id)).tickets]
        return numbers.index(number) if number in numbers else None

    async def inspect(self, conversation_id: str, limit: int) -> Inspection:
        lock = await self._read(conversation_id)
        now = await self.now()
        tickets = list(lock.tickets)
        holder = None
        if tickets:
            here = self._held_here(conversation_id, tickets[0].number)
            held_for = clock() - here[0].granted_at if here else 0.0
            lease = max(0.0, tickets[0].expires - now)
            holder = Holder(tickets[0].number, lock.fence, held_for, lease)
        waiting = tuple(Waiting(t.number, 0.0) for t in tickets[1 : 1 + limit])
        return Inspection(conversation_id, holder, waiting, len(tickets[1:]), lock.last_issued)

    async def break_turn(self, conversation_id: str, fence: int | None) -> bool:
        state = await self.inspect(conversation_id, 0)
        if state.holder is None or fence not in (None, state.holder.fence):
            return False
        await self.finish(conversation_id, state.holder.number)
        return True

    async def issue_bare(self, conversation_id: str, lifetime: float, number: int = 0) -> int:
        def issue(lock: TicketLock, now: float) -> int:
            return lock.issue_ticket(lifetime, now)

        try:
            return await self.update(conversation_id, issue)
        except TicketLockError:
            raise
        except Exception as error:  # documented: any failure of a store is a LockError
            raise LockError(f"Error while acquiring lock: {error}") from error

    async def drop_expired(self, conversation_id: str) -> None:
        await self.update(conversation_id, lambda lock, now: None)

    async def finish(self, conversation_id: str, number: int) -> None:
        def finish(lock: TicketLock, now: float) -> None:
            lock.remove_ticket_for(number)

        for grant in self._held_here(conversation_id, number):
            self._held.discard(grant)
            grant.lose(BROKEN)
        await self.update(conversation_id, finish)

    # -- turns ------------------------------------------------------------------------------

    async def issue(self, waiter: Waiter) -> None:
        limit = 0 if waiter.wait_timeout == 0 else waiter.max_waiting
        own = waiter.own = OwnTicket()

        def issue(lock: TicketLock, now: float) -> tuple[int, int]:
            waiting = len(lock.tickets) - 1
            if limit is not None and waiting >= limit:
                return -1, waiting
            own.issue(lock, self.lease, now)
            return own.number, waiting

        issuing = asyncio.ensure_future(self.update(waiter.conversation_id, issue))
        try:
            waiter.number, waiting = await asyncio.shield(issuing)
        except asyncio.CancelledError:
            await self._settled(self._spawn(self._take_back(waiter, issuing, own)))
            raise
        waiter.ahead = waiting + 1
        if waiter.number < 0:
            if waiter.wait_timeout == 0:
                raise await self.timed_out(waiter)
            raise QueueFull(waiter.conversation_id, waiting)

    async def granted(self, waiter: Waiter) -> Grant:
        own = waiter.own
        assert own is not None  # made when the ticket was issued
        try:
            return await self._polled(waiter, own)
        except (Exception, asyncio.CancelledError):
            # Here, not in the background: the run of the loop may end with this task.
            if (withdrawn := self._withdrawn(waiter)) is not None:
                await self._settled(withdrawn)
            raise

    async def _polled(self, waiter: Waiter, own: OwnTicket) -> Grant:
        while not self._closed:
            asked = clock()
            place, fence = await self.update(
                waiter.conversation_id,
                lambda lock, now: (-1, 0) if waiter.own is None else self._keep(lock, now, own),
            )
            if waiter.own is None:  # withdrawn by another task
                raise asyncio.CancelledError
            waiter.number = own.number
            if place == 0:
                return self._grant(waiter, own, fence, asked)
            pause = min(waiter.poll, 0.02 * place, self.lease / 3)
            if waiter.deadline is not None:
                if clock() >= waiter.deadline:
                    raise await self.timed_out(waiter)
                pause = min(pause, waiter.deadline - clock())
            await asyncio.sleep(max(0.001, pause))
        raise LockStoreConnectionError(CLOSED)

    def _keep(self, lock: TicketLock, now: float, own: OwnTicket) -> tuple[int, int]:
        """Keep a ticket alive, put it back if another program has dropped it.

        Returns its place, and the fence minted for it when that is 0.
        """
        ticket = own.find(lock)
        if ticket is None:
            ticket = own.put_back(lock, self.lease, now)
        place = lock.tickets.index(ticket)
        if place == 0 or ticket.expires < now + self.lease / 2:
            own.extend(ticket, self.lease, now)
        if place == 0:
            # By the clock that all share, and higher than what the document remembers.
            lock.fence = max(lock.fence + 1, int(now * 1_000_000))
        return place, lock.fence

    def _grant(self, waiter: Waiter, own: OwnTicket, fence: int, asked: float) -> Grant:
        self._check_home()
        grant = DocumentGrant(
            waiter.conversation_id,
            waiter.number,
            self._mint(fence),
            asked + self.lease * 0.9,
            waiter.lock_lifetime,
        )
        grant.own = own
        self._held.add(grant)
        if self._deadlines is None:
            # It does not refer to us: a queue that is dropped goes at once, and its link with it.
            held = self._held
            self._deadlines = DeadlineWatch(lambda: held, partial(_overdue, held))
        self._deadlines.watch(grant)
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.create_task(self._renew_held())
        return grant

    async def _renew_held(self) -> None:
        """Renew the tickets of all held turns until there are none."""
        while self._held:
            await asyncio.sleep(self.beat)
            await asyncio.gather(*(self._renew(grant) for grant in list(self._held)))

    async def _renew(self, grant: DocumentGrant) -> None:
        def renew(lock: TicketLock, now: float) -> bool:
            # Not only in the first place: a finished ticket of another program may come again.
            ticket = grant.own.find(lock)
            if ticket is not None:
                grant.own.extend(ticket, self.lease, now)
            return ticket is not None

        asked = clock()
        try:
            if await self.update(grant.conversation_id, renew):
                grant.extend(asked + self.lease * 0.9)
            elif grant in self._held:
                self._held.discard(grant)
                grant.lose(TICKET_GONE)
        except Exception as error:  # noqa: BLE001  # whatever a custom store raises: the next
            # round tries again, and the turn's deadline decides.
            log.warning(
                "cannot renew the turn of conversation %r: %s", grant.conversation_id, error
            )

    def _held_here(self, conversation_id: str, number: int) -> list[DocumentGrant]:
        return [
            grant
            for grant in self._held
            if grant.number == number and grant.conversation_id == conversation_id
        ]

    def release(self, grant: Grant) -> Awaitable[None]:
        return self._ended(grant)

    async def _ended(self, grant: Grant) -> None:
        self._check_home()
        assert isinstance(grant, DocumentGrant)  # `_grant` has made it
        self._held.discard(grant)
        if self._closed:
            grant.reason = grant.reason or CLOSED
            return
        there = await asyncio.shield(self._spawn(self._finish(grant.conversation_id, grant.own)))
        if not there:
            grant.reason = grant.reason or TICKET_GONE

    async def _finish(self, conversation_id: str, own: OwnTicket) -> bool:
        """Remove a ticket of ours, and no other; whether it was there."""

        def finish(lock: TicketLock, now: float) -> bool:
            ticket = own.find(lock)
            if ticket is not None:
                lock.tickets.remove(ticket)
            return ticket is not None

        return await self.update(conversation_id, finish)

    async def _take_back(
        self, waiter: Waiter, issuing: asyncio.Future[tuple[int, int]], own: OwnTicket
    ) -> None:
        number, _ = await issuing
        if number >= 0:
            await self._finish(waiter.conversation_id, own)

    def withdraw(self, waiter: Waiter) -> None:
        self._withdrawn(waiter)

    def _withdrawn(self, waiter: Waiter) -> asyncio.Future[Any] | None:
        """Take a ticket back in the background; None: there is none, or it is done already."""
        own = waiter.own
        if own is None or waiter.number < 0 or self._closed:
            return None
        waiter.own = None
        self._held -= {grant for grant in self._held if grant.own is own}
        return self._spawn(self._finish(waiter.conversation_id, own))

    @staticmethod
    async def _settled(work: asyncio.Future[Any]) -> None:
        """Wait for background work, but not for a server that is away."""
        await until_done(work, _PATIENCE)

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

    async def close(self) -> None:
        """End the turns and their bodies, the keeper, and what works in the background."""
        self._check_home()
        for grant in list(self._held):
            self._held.discard(grant)
            self._spawn(self._finish(grant.conversation_id, grant.own))
            grant.lose(CLOSED)
        self._closed = True
        tasks = [task for task in (self._keeper, *self._background) if task is not None]
        if self._keeper is not None:
            self._keeper.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._keeper = None
        if self._deadlines is not None:
            self._deadlines.stop()


class Documents(Protocol):
    """A custom lock store: what it implements, plain or async, and what it may set."""

    lease: float

    async def get_or_create_lock(self, conversation_id: str) -> TicketLock: ...
    def save_lock(self, lock: TicketLock) -> Any: ...
    def delete_lock(self, conversation_id: str) -> Any: ...


class CustomQueue(DocumentQueue):
    """Turns over the three methods of a custom lock store, atomic within one process.

    Args:
        documents: the custom store.
    """

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        super().__init__()

    @property
    def lease(self) -> float:
        return self._documents.lease

    def _begin_anew(self) -> None:
        self._mutex: asyncio.Lock | None = None
        super()._begin_anew()

    async def get_or_create(self, conversation_id: str) -> TicketLock:
        return await self._documents.get_or_create_lock(conversation_id)

    async def now(self) -> float:
        return time.time()

    async def update(self, conversation_id: str, change: Callable[[TicketLock, float], T]) -> T:
        self._check_home()
        self._mutex = self._mutex or asyncio.Lock()
        async with self._mutex:
            lock = await self.get_or_create(conversation_id)
            before = lock.dumps()
            now = await self.now()
            lock.remove_expired_tickets(now)
            changed = change(lock, now)
            if not lock.tickets:
                await result(self._documents.delete_lock(conversation_id))
            elif lock.dumps() != before:
                await result(self._documents.save_lock(lock))
            return changed


def _overdue(held: set[DocumentGrant], grant: Grant) -> None:
    held -= {grant}
    grant.lose(grant.overdue())
