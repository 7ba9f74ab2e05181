"""`ConcurrentRedisLockStore`: FIFO ticket locks for any number of replicas on one Redis."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ... import process
from ...aio.portal import finalizer
from ...aio.running import before
from ...checks import check_conversation_id, check_count, check_floor, check_number, check_seconds
from ...errors import CLOSED, CLOSING, ELSEWHERE, LockStoreConnectionError, QueueFull
from ...process import clock
from ...redis.settings import RedisSettings
from ...settings.section import Section, endpoint_values
from ...settings.stores import ConcurrentRedisKeys, TimingKeys
from ..grant import Grant
from ..incoming import MAX_REPLY, WINDOW
from ..inspection import Holder, Inspection, Waiting
from ..store import LockStore
from ..tickets import Ticket, TicketLock
from ..waiter import Waiter
from .engine import Engine
from .scripts import Timing

if TYPE_CHECKING:
    from typing_extensions import Unpack


class ConcurrentRedisLockStore(LockStore):
    """The lock store for replicas. docs/protocol.md describes how it works.

    Args:
        endpoint_config: the documented drop-in constructor: an object with `url` and `kwargs`.
        keys: the same settings as keyword arguments; each has its meaning, unit and default
            in `ConcurrentRedisKeys` and in docs/reference/endpoints.md.
        where: how error messages name these settings.

    Raises ConfigurationError. It connects at the first use. One store belongs to one event
    loop; after a fork it starts anew, and turns held before the fork are void.
    """

    keeps_messages = True

    def __init__(
        self,
        endpoint_config: Any = None,
        *,
        where: str = "lock_store",
        **keys: Unpack[ConcurrentRedisKeys],
    ) -> None:
        values = endpoint_values(endpoint_config) if endpoint_config is not None else {}
        section = Section({**values, **keys}, where)
        self.settings = RedisSettings.read(section)
        times = section.read(TimingKeys)
        for key, seconds in (("lease", times["lease"]), ("waiter_ttl", times["waiter_ttl"])):
            _check_within(section, key, seconds, times["idle_expiry"])
        self.timing = Timing(
            lease=round(1000 * times["lease"]),
            waiter_ttl=round(1000 * times["waiter_ttl"]),
            idle=round(1000 * times["idle_expiry"]),
        )
        super().__init__(max_waiting=times["max_waiting"])
        section.finish()
        self._engine: Engine | None = None
        self._finalizer = finalizer(self, lambda: None)

    def _live(self) -> Engine:
        """The engine of this process and event loop."""
        engine, loop = self._engine, asyncio.get_running_loop()
        if engine is not None and engine.loop is loop and engine.pid == process.pid:
            if engine.closed:  # what is sent now would be forgotten with it
                raise LockStoreConnectionError(CLOSING)
            return engine
        if engine is not None and engine.pid == process.pid and not engine.loop.is_closed():
            raise LockStoreConnectionError(ELSEWHERE)
        if engine is not None and engine.pid == process.pid:
            engine.heartbeat.abandon()
        # First use, a forked child, or a loop that is gone: what it had is void.
        self._engine = engine = Engine(self.settings, self.timing)
        engine.observers = self.observers
        self._finalizer.detach()
        self._finalizer = finalizer(self, engine.abandon)
        return engine

    # -- one turn: called by Lock ---------------------------------------------------------------

    def _enter(self, waiter: Waiter) -> Awaitable[Grant]:
        self._send_for(waiter)
        assert waiter.future is not None  # made when the ticket was sent for
        return waiter.future if waiter.wait_timeout is None else self._granted(waiter)

    async def _issue(self, waiter: Waiter) -> None:
        waiter.issued = asyncio.get_running_loop().create_future()
        self._send_for(waiter)
        try:
            await before(waiter.deadline, waiter.issued)
        except (QueueFull, asyncio.TimeoutError) as error:
            raise await self._refused(waiter, error) from None

    def _send_for(self, waiter: Waiter) -> None:
        if waiter.wait_timeout == 0:
            waiter.deadline = None  # the answer must come; socket_timeout bounds it
        self._live().send_for(waiter)

    async def _granted(self, waiter: Waiter) -> Grant:
        try:
            return await waiter.wait()
        except (QueueFull, asyncio.TimeoutError) as error:
            raise await self._refused(waiter, error) from None

    async def _refused(self, waiter: Waiter, error: Exception) -> Exception:
        if isinstance(error, QueueFull) and waiter.wait_timeout != 0:
            return error
        return await self._timed_out(waiter)

    def _release(self, grant: Grant) -> Awaitable[None]:
        return self._void(grant) if self._engine is None else self._engine.release(grant)

    async def _void(self, grant: Grant) -> None:
        grant.reason = grant.reason or CLOSED

    def _withdraw(self, waiter: Waiter) -> None:
        if self._engine is not None and not self._engine.closed:
            self._engine.withdraw(waiter)

    async def raise_fence(self, grant: Grant, floor: int) -> None:
        grant.ensure_held()
        engine, floor = self._live(), check_floor(grant.conversation_id, floor)
        # A repeated acquire finds its own turn; `max_waiting=0` keeps it from queueing anew.
        hold = engine.calls.hold(grant.expires - clock())
        words = engine.scripts.acquire(
            grant.conversation_id, grant.member, hold, max_waiting=0, floor=floor
        )
        grant.raising += 1  # the heartbeat cannot know which fence it finds
        try:
            answer = await engine.link.call(words)
            if answer[0] == 1 and answer[1] == grant.number:
                grant.fence = answer[2]
            else:
                if answer[0] == 1:  # free, and granted anew: not the turn we had
                    engine.post(engine.scripts.withdraw(grant.conversation_id, grant.member))
                engine.lost(grant.request, "its lease ran out before its fence could be raised")
        finally:
            grant.raising -= 1
        grant.ensure_held()

    # -- messages ------------------------------------------------------------------------------

    async def collect(self, grant: Grant, most: int = 100) -> list[tuple[str, str]]:
        most = check_count("most", most, 1)
        grant.ensure_held()
        engine = self._live()
        words = engine.scripts.collect(
            grant.conversation_id, grant.member, grant.fence, most, engine.next_request()
        )
        found = [word.decode() for word in await engine.link.call(words)]
        return [(unquote(name), text) for name, text in zip(found[::2], found[1::2], strict=True)]

    def answer(self, grant: Grant, replies: Mapping[str, str], window: float = WINDOW) -> None:
        window = check_seconds("window", window, above=True)
        short = {name: text for name, text in replies.items() if len(text.encode()) <= MAX_REPLY}
        if short and self._engine is not None and not self._engine.closed:
            self._engine.answer(grant, short, window)

    def _leave_mark(self, grant: Grant, mark: str, found: Callable[[str], object]) -> None:
        def answered(future: asyncio.Future[bytes | None]) -> None:
            if future.cancelled() or future.exception() is not None:
                return  # nothing depends on it
            last = future.result()
            if last is not None and last != mark.encode():  # a repetition finds its own
                found(last.decode())

        with suppress(LockStoreConnectionError):  # closing
            engine = self._live()
            words = engine.scripts.mark(grant.conversation_id, mark)
            engine.link.submit(words).future.add_done_callback(answered)

    # -- looking and breaking -----------------------------------------------------------------

    async def position(self, conversation_id: str, ticket_number: int) -> int | None:
        ticket_number = check_number("ticket_number", ticket_number)
        engine = self._live()
        words = engine.scripts.inspect(check_conversation_id(conversation_id), 0, ticket_number)
        _, held, _, before, there, *_ = await engine.link.call(words)
        if not there:
            serving = held.split()[1:2]
            return 0 if serving == [str(ticket_number).encode()] else None
        return int(before) + 1

    async def inspect(self, conversation_id: str, limit: int = 100) -> Inspection:
        limit = check_count("limit", limit)
        engine = self._live()
        words = engine.scripts.inspect(check_conversation_id(conversation_id), limit)
        now, held, count, _, _, tickets, alive, since, last = await engine.link.call(words)
        holder = None
        fields = held.decode().split()
        if len(fields) == 7 and int(fields[3]) > now:
            fence, number, member, lease, _, granted, where = fields
            host, pid, label = _names(where, member)
            held_for, left = (now - int(granted)) / 1000, (int(lease) - now) / 1000
            holder = Holder(int(number), int(fence), held_for, left, host, pid, label)
        waiting = []
        for i, (seen, issued) in enumerate(zip(alive, since, strict=True)):
            until, _, where = seen.decode().partition(" ")
            host, pid, label = _names(where, tickets[2 * i].decode())
            waiting_for = (now - int(issued.split()[0])) / 1000 if issued else 0.0
            living = bool(until) and int(until) > now
            number = int(tickets[2 * i + 1])
            waiting.append(Waiting(number, waiting_for, living, host, pid, label))
        return Inspection(conversation_id, holder, tuple(waiting), count, last)

    async def break_lock(self, conversation_id: str, fence: int | None = None) -> bool:
        if fence is not None:
            fence = check_number("fence", fence)
        engine = self._live()
        if fence is None:  # whichever there is now: named, so that a repetition breaks no other
            fence, _ = await self._turn_and_last_number(engine, conversation_id)
        command = engine.link.submit(
            engine.scripts.break_turn(check_conversation_id(conversation_id), fence)
        )
        # A repetition finds the turn over: its first sending has done that.
        return bool(await command.future) or (command.repeated and fence > 0)

    async def _turn_and_last_number(self, engine: Engine, conversation_id: str) -> tuple[int, int]:
        """The fence of the turn that is held, 0 if there is none, and the last ticket number."""
        words = engine.scripts.inspect(check_conversation_id(conversation_id), 0)
        _, held, *_, last = await engine.link.call(words)
        fields = held.split()
        return (int(fields[0]) if len(fields) > 1 else 0), int(last)

    # -- the documented interface ---------------------------------------------------------------

    async def get_lock(self, conversation_id: str) -> TicketLock | None:
        """The live tickets, None if there are none; `expires` is when each expires."""
        state = await self.inspect(conversation_id, limit=1_000_000)
        now, ttl = time.time(), self.timing.waiter_ttl / 1000
        tickets = [Ticket(w.number, now + ttl) for w in state.waiting if w.alive]
        if state.holder is not None:
            tickets.insert(0, Ticket(state.holder.number, now + state.holder.lease))
        return TicketLock(conversation_id, tickets, state.last_issued) if tickets else None

    async def save_lock(self, lock: TicketLock) -> None:
        """Queue those of the lock's tickets that are not queued yet, until each expires."""
        known = await self.get_or_create_lock(lock.conversation_id)
        there = {ticket.number for ticket in known.tickets}
        for ticket in lock.tickets:
            lifetime = ticket.expires - time.time()
            if ticket.number not in there and lifetime > 0:
                await self._queue_bare(lock.conversation_id, lifetime, ticket.number)

    async def delete_lock(self, conversation_id: str) -> None:
        """End the turn and drop the queue; numbers and fences still grow."""
        engine = self._live()
        fence, last = await self._turn_and_last_number(engine, conversation_id)
        await engine.link.call(engine.scripts.break_turn(conversation_id, fence, last))

    async def issue_ticket(self, conversation_id: str, lock_lifetime: float | None = None) -> int:
        lifetime = self.lock_lifetime if lock_lifetime is None else lock_lifetime
        lifetime = check_seconds("lock_lifetime", lifetime, above=True)
        return await self._queue_bare(check_conversation_id(conversation_id), lifetime)

    async def _queue_bare(self, conversation_id: str, lifetime: float, number: int = 0) -> int:
        """Queue a ticket that no process keeps alive: it is its own process, for a lifetime."""
        engine, span = self._live(), max(1, round(lifetime * 1000))
        if span > self.timing.idle:
            raise ValueError(
                f"a ticket's lock_lifetime of {lifetime:g} s is longer than the idle_expiry of "
                f"{self.timing.idle / 1000:g} s, after which its keys are gone: raise idle_expiry"
            )
        words = engine.scripts.acquire(
            conversation_id,
            f"{secrets.token_hex(8)}.0",
            span,
            number=number,
            lease=span,
            waiter_ttl=span,
        )
        return int((await engine.link.call(words))[1])

    async def finish_serving(self, conversation_id: str, ticket_number: int) -> None:
        ticket_number = check_number("ticket_number", ticket_number)
        engine = self._live()
        words = engine.scripts.withdraw(check_conversation_id(conversation_id), "", ticket_number)
        await engine.link.call(words)

    async def is_someone_waiting(self, conversation_id: str) -> bool:
        state = await self.inspect(conversation_id)
        return any(waiting.alive for waiting in state.waiting)

    async def close(self) -> None:
        engine = self._engine
        try:
            if engine is not None and engine.pid == process.pid and not engine.loop.is_closed():
                await engine.close()
        finally:  # also when we are cancelled, as by the loss of our own turn
            if self._engine is engine:
                self._engine = None
            self._finalizer.detach()
        await super().close()


def _check_within(section: Section, key: str, seconds: float, idle: float) -> None:
    """A clock that the keys it is kept in must outlive."""
    if seconds > idle:
        raise section.error(
            key, f"of {seconds:g} s is longer than idle_expiry ({idle:g} s): raise idle_expiry"
        )


def _names(where: str, member: str) -> tuple[str | None, int | None, str | None]:
    """Host, process id and label out of a process's `where` and a ticket's member."""
    host, _, pid = where.partition(",")[0].rpartition(":")
    label = member.split(".", 2)[2:]
    return host or None, int(pid) if pid.isdigit() else None, unquote(label[0]) if label else None
