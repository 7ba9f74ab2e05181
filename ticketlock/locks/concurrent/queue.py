"""The queue of `ConcurrentRedisLockStore`: turns on Redis, by the engine of each event loop."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from urllib.parse import unquote

from ... import process
from ...aio.portal import finalizer
from ...aio.running import before
from ...errors import CLOSED, CLOSING, ELSEWHERE, LockStoreConnectionError, QueueFull
from ...process import clock
from ...redis.durability import Durability
from ...redis.settings import RedisSettings
from ..grant import Grant
from ..incoming import MAX_REPLY
from ..inspection import Holder, Inspection, Waiting
from ..lost_turns import BEFORE_ITS_FENCE
from ..queue import TurnQueue
from ..waiter import Waiter
from .engine import Engine
from .scripts import Timing, list_dead

#: Held while an engine is made: event loops in two threads may use a store at the same moment.
_beginning = process.shared_lock()


class RedisQueue(TurnQueue):
    """Turns on Redis. It connects at the first use; after a fork it begins anew."""

    def __init__(self, settings: RedisSettings, timing: Timing, durability: Durability) -> None:
        super().__init__()
        self._settings = settings
        self._timing = timing
        self._durability = durability
        self.engine: Engine | None = None
        self._finalizer = finalizer(self, lambda: None)

    def live(self) -> Engine:
        """The engine of this process and event loop. Raises LockStoreConnectionError."""
        engine, loop = self.engine, asyncio.get_running_loop()
        if engine is not None and engine.loop is loop and engine.pid == process.pid:
            if engine.closed:  # what is sent now would be forgotten with it
                raise LockStoreConnectionError(CLOSING)
            return engine
        with _beginning:
            return self._begin(loop)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> Engine:
        engine = self.engine
        if engine is not None and engine.pid == process.pid and not engine.loop.is_closed():
            raise LockStoreConnectionError(ELSEWHERE)
        if engine is not None and engine.pid == process.pid:
            engine.heartbeat.abandon()
        # First use, a forked child, or a loop that is gone: what it had is void.
        self.engine = engine = Engine(self._settings, self._timing, self._durability)
        engine.observers = self.observers
        self._finalizer.detach()
        self._finalizer = finalizer(self, engine.abandon)
        return engine

    # -- one turn, asked for by Lock ---------------------------------------------------------

    def enter(self, waiter: Waiter) -> Awaitable[Grant]:
        self._send_for(waiter)
        assert waiter.future is not None  # made when the ticket was sent for
        return waiter.future if waiter.wait_timeout is None else self.granted(waiter)

    async def issue(self, waiter: Waiter) -> None:
        waiter.issued = asyncio.get_running_loop().create_future()
        self._send_for(waiter)
        try:
            await before(waiter.deadline, waiter.issued)
        except (QueueFull, asyncio.TimeoutError) as error:
            raise await self._refused(waiter, error) from None

    def _send_for(self, waiter: Waiter) -> None:
        if waiter.wait_timeout == 0:
            waiter.deadline = None  # the answer must come; socket_timeout bounds it
        self.live().send_for(waiter)

    async def granted(self, waiter: Waiter) -> Grant:
        try:
            return await waiter.wait()
        except (QueueFull, asyncio.TimeoutError) as error:
            raise await self._refused(waiter, error) from None

    async def _refused(self, waiter: Waiter, error: Exception) -> Exception:
        if isinstance(error, QueueFull) and waiter.wait_timeout != 0:
            return error
        return await self.timed_out(waiter)

    def release(self, grant: Grant) -> Awaitable[None]:
        return self._lost(grant) if self.engine is None else self.engine.release(grant)

    async def _lost(self, grant: Grant) -> None:
        grant.reason = grant.reason or CLOSED

    def withdraw(self, waiter: Waiter) -> None:
        if self.engine is not None and not self.engine.closed:
            self.engine.withdraw(waiter)

    async def raise_fence(self, grant: Grant, floor: int) -> None:
        engine = self.live()
        # A repeated acquire finds its own turn; `max_waiting=0` keeps it from queueing anew.
        hold = engine.requests.hold(grant.expires - clock())
        args = engine.scripts.acquire(
            grant.conversation_id, grant.member, hold, max_waiting=0, floor=floor
        )
        grant.raising += 1  # the heartbeat cannot know which fence it finds
        try:
            answer = await engine.link.call(args)
            if answer[0] == 1 and answer[1] == grant.number:
                grant.fence = answer[2]
            else:
                if answer[0] == 1:  # free, and granted anew: not the turn we had
                    engine.post(engine.scripts.withdraw(grant.conversation_id, grant.member))
                engine.lost(grant.request, BEFORE_ITS_FENCE)
        finally:
            grant.raising -= 1

    # -- messages ------------------------------------------------------------------------------

    async def collect(self, grant: Grant, limit: int) -> list[tuple[str, str]]:
        grant.ensure_held()
        engine = self.live()
        args = engine.scripts.collect(
            grant.conversation_id, grant.member, grant.fence, limit, engine.next_request()
        )
        found = [word.decode() for word in await engine.link.call(args)]
        return [(unquote(name), text) for name, text in zip(found[::2], found[1::2], strict=True)]

    def answer(self, grant: Grant, replies: Mapping[str, str], window: float) -> None:
        short = {name: text for name, text in replies.items() if len(text.encode()) <= MAX_REPLY}
        if short and self.engine is not None and not self.engine.closed:
            self.engine.replies.keep(grant, short, window)

    def leave_mark(self, grant: Grant, mark: str, found: Callable[[str], object]) -> None:
        def answered(future: asyncio.Future[bytes | None]) -> None:
            if future.cancelled() or future.exception() is not None:
                return  # nothing depends on it
            last = future.result()
            if last is not None and last != mark.encode():  # a repetition finds its own
                found(last.decode())

        with suppress(LockStoreConnectionError):  # closing
            engine = self.live()
            args = engine.scripts.mark(grant.conversation_id, mark)
            engine.link.submit(args).future.add_done_callback(answered)

    # -- looking and breaking -----------------------------------------------------------------

    async def position(self, conversation_id: str, number: int) -> int | None:
        engine = self.live()
        args = engine.scripts.inspect(conversation_id, 0, number)
        _, held, _, before, there, *_ = await engine.link.call(args)
        if not there:
            serving = held.split()[1:2]
            return 0 if serving == [str(number).encode()] else None
        return int(before) + 1

    async def inspect(self, conversation_id: str, limit: int) -> Inspection:
        engine = self.live()
        args = engine.scripts.inspect(conversation_id, limit)
        now, held, count, _, _, tickets, alive, since, last = await engine.link.call(args)
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
            # A submitted message waits for any process that serves.
            living = until == "waits" or (bool(until) and int(until) > now)
            number = int(tickets[2 * i + 1])
            waiting.append(Waiting(number, waiting_for, living, host, pid, label))
        return Inspection(conversation_id, holder, tuple(waiting), count, last)

    async def break_turn(self, conversation_id: str, fence: int | None) -> bool:
        engine = self.live()
        if fence is None:  # whichever there is now: named, so that a repetition breaks no other
            fence, _ = await self._turn_and_last_number(engine, conversation_id)
        await engine.link.call(list_dead(engine.scripts.keys, conversation_id))
        command = engine.link.submit(engine.scripts.break_turn(conversation_id, fence))
        # A repetition finds the turn over: its first sending has done that.
        return bool(await command.future) or (command.repeated and fence > 0)

    async def _turn_and_last_number(self, engine: Engine, conversation_id: str) -> tuple[int, int]:
        """The fence of the turn that is held, 0 if there is none, and the last ticket number."""
        args = engine.scripts.inspect(conversation_id, 0)
        _, held, *_, last = await engine.link.call(args)
        fields = held.split()
        return (int(fields[0]) if len(fields) > 1 else 0), int(last)

    # -- tickets without a process ----------------------------------------------------------------

    async def issue_bare(self, conversation_id: str, lifetime: float, number: int = 0) -> int:
        engine, span = self.live(), max(1, round(lifetime * 1000))
        if span > self._timing.idle:
            raise ValueError(
                f"a ticket's lock_lifetime of {lifetime:g} s is longer than the idle_expiry of "
                f"{self._timing.idle / 1000:g} s, after which its keys are gone: raise idle_expiry"
            )
        args = engine.scripts.acquire(
            conversation_id,
            f"{secrets.token_hex(8)}.0",
            span,
            number=number,
            lease=span,
            waiter_ttl=span,
        )
        return int((await engine.link.call(args))[1])

    async def finish(self, conversation_id: str, number: int) -> None:
        engine = self.live()
        await engine.link.call(engine.scripts.withdraw(conversation_id, "", number))

    async def drop(self, conversation_id: str) -> None:
        """End the turn and drop the queue; numbers and fences go on growing."""
        engine = self.live()
        fence, last = await self._turn_and_last_number(engine, conversation_id)
        await engine.link.call(list_dead(engine.scripts.keys, conversation_id))
        await engine.link.call(engine.scripts.break_turn(conversation_id, fence, last))

    async def close(self) -> None:
        engine = self.engine
        try:
            if engine is not None and engine.pid == process.pid and not engine.loop.is_closed():
                await engine.close()
        finally:  # also when we are cancelled, as by the loss of our own turn
            if self.engine is engine:
                self.engine = None
            self._finalizer.detach()


def _names(where: str, member: str) -> tuple[str | None, int | None, str | None]:
    """Host, process id and label out of a process's `where` and a ticket's member."""
    host, _, pid = where.partition(",")[0].rpartition(":")
    label = member.split(".", 2)[2:]
    return (
        host or None,
        int(pid) if pid.isdigit() else None,
        unquote(label[0].removeprefix("!")) if label else None,
    )
