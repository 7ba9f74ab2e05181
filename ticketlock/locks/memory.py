"""`InMemoryLockStore`: the default; the whole contract within one process, without polling."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Mapping

from .. import process
from ..checks import check_conversation_id
from ..errors import CLOSED, LockLost, LockStoreConnectionError, QueueFull
from ..process import clock
from .deadlines import DeadlineWatch
from .grant import Grant
from .incoming import Supersede
from .inspection import Holder, Inspection, Waiting
from .lost_turns import BROKEN
from .memory_messages import MemoryMessages
from .queue import LocalQueue
from .store import LockStore
from .tickets import Ticket, TicketLock
from .waiter import Waiter

#: Marks a ticket of `issue_ticket`, which has no waiting task.
_BARE = "bare"


class _Conversation:
    """The state of one conversation: the turn, the waiting tickets, the last number."""

    __slots__ = ("last_issued", "queue", "serving", "stop")

    def __init__(self) -> None:
        self.last_issued = 0
        #: Turns before the ticket of that number are asked to stop.
        self.stop: tuple[int, Supersede] | None = None
        self.serving: _Turn | None = None
        self.queue: OrderedDict[int, Waiter] = OrderedDict()


class _Turn:
    __slots__ = ("grant", "label", "number", "waiter")

    def __init__(self, grant: Grant, waiter: Waiter) -> None:
        self.grant = grant
        self.waiter = waiter
        self.number = grant.number
        self.label = waiter.label


class MemoryQueue(LocalQueue):
    """Turns between the tasks of one event loop, without polling.

    Ticket numbers begin at 1 and are not issued again while the conversation is in use.
    """

    def __init__(self) -> None:
        self._all: dict[str, _Conversation] = {}
        self._messages = MemoryMessages(self._enqueue)
        self._deadlines = DeadlineWatch(self._held, self._expire)
        super().__init__()

    @property
    def _conversations(self) -> dict[str, _Conversation]:
        self._check_home()
        return self._all

    def _begin_anew(self) -> None:
        for conversation in self._all.values():
            if conversation.serving is not None:
                self._void(conversation.serving.grant)
        self._all.clear()
        self._messages.begin_anew()
        super()._begin_anew()

    def _held(self) -> list[Grant]:
        return [one.serving.grant for one in self._all.values() if one.serving is not None]

    async def issue(self, waiter: Waiter) -> None:
        self._check_home()
        waiter.future = asyncio.get_running_loop().create_future()
        if not self._messages.admit(waiter):
            return
        try:
            await self._ticket(waiter)
        except BaseException:
            self._messages.disown(waiter)
            raise

    async def _ticket(self, waiter: Waiter) -> None:
        conversation = self._all.setdefault(waiter.conversation_id, _Conversation())
        busy = conversation.serving is not None
        waiting = len(conversation.queue)
        if busy and waiter.wait_timeout == 0:
            raise await self.timed_out(waiter)
        if busy and waiter.max_waiting is not None and waiting >= waiter.max_waiting:
            raise QueueFull(waiter.conversation_id, waiting)
        conversation.last_issued += 1
        waiter.number = conversation.last_issued
        waiter.ahead = busy + waiting
        conversation.queue[waiter.number] = waiter
        mode = waiter.incoming and waiter.incoming.supersede
        if mode:
            conversation.stop = (waiter.number, mode)
            if conversation.serving is not None:
                conversation.serving.grant.supersede(mode)
        self._serve_next(conversation)

    def _enqueue(self, waiter: Waiter) -> None:
        """Queue a waiter at the number that it has, or at a new one if that is 0."""
        conversation = self._conversations.setdefault(waiter.conversation_id, _Conversation())
        waiter.number = waiter.number or conversation.last_issued + 1
        conversation.last_issued = max(conversation.last_issued, waiter.number)
        conversation.queue[waiter.number] = waiter
        conversation.queue = OrderedDict(sorted(conversation.queue.items()))
        self._serve_next(conversation)

    async def collect(self, grant: Grant, limit: int) -> list[tuple[str, str]]:
        conversation = self._conversations.get(grant.conversation_id)
        serving = conversation.serving if conversation else None
        found: list[tuple[str, str]] = []
        if conversation is None or serving is None or serving.grant is not grant:
            return found
        for waiter in list(conversation.queue.values())[:limit]:
            incoming = waiter.incoming
            if incoming is None or incoming.text is None:
                break
            if self._messages.carry(waiter, serving.waiter):
                found.append((incoming.message_id, incoming.text))
        return found

    def answer(self, grant: Grant, replies: Mapping[str, str], window: float) -> None:
        conversation = self._conversations.get(grant.conversation_id)
        if conversation and conversation.serving and conversation.serving.grant is grant:
            for ended in self._messages.answer(conversation.serving.waiter, replies, window):
                del conversation.queue[ended.number]

    async def granted(self, waiter: Waiter) -> Grant:
        try:
            return await waiter.wait()
        except asyncio.TimeoutError:
            raise await self.timed_out(waiter) from None

    def _serve_next(self, conversation: _Conversation) -> None:
        """Grant the head of the queue, if no turn is held."""
        while conversation.serving is None and conversation.queue:
            number, waiter = conversation.queue.popitem(last=False)
            if waiter.future is None or waiter.future.done():
                continue
            fence, lifetime = self._mint(time.time_ns() // 1000), waiter.lock_lifetime
            grant = Grant(waiter.conversation_id, number, fence, math.inf, lifetime)
            conversation.serving = _Turn(grant, waiter)
            self._deadlines.watch(grant)
            if conversation.stop is not None and conversation.stop[0] > number:
                grant.supersede(conversation.stop[1])
            waiter.future.set_result(grant)

    def _end(self, conversation_id: str, number: int) -> Grant | None:
        """End the turn of that number and serve the next; the grant it had, if any."""
        conversation = self._conversations.get(conversation_id)
        if conversation is None or conversation.serving is None:
            return None
        turn = conversation.serving
        if turn.number != number:
            return None
        conversation.serving = None
        self._messages.disown(turn.waiter)
        self._serve_next(conversation)
        if conversation.serving is None and not conversation.queue:
            del self._conversations[conversation_id]
        return turn.grant

    def _expire(self, grant: Grant) -> None:
        if self._end(grant.conversation_id, grant.number):
            grant.lose(grant.overdue())

    async def release(self, grant: Grant) -> None:
        self._end_turn(grant)

    def withdraw(self, waiter: Waiter, error: Exception | None = None) -> None:
        """Take a ticket back; a task that still waits on it gets `error`, or is cancelled."""
        future = waiter.future
        if future is None:
            return
        if not future.done():
            if error is None:
                future.cancel()
            else:
                future.set_exception(error)
        elif not future.cancelled() and not future.exception():
            self._end_turn(future.result())  # granted in the same moment: hand it on
            return
        self._messages.disown(waiter)
        conversation = self._conversations.get(waiter.conversation_id)
        if conversation is not None and conversation.queue.get(waiter.number) is waiter:
            del conversation.queue[waiter.number]

    def _end_turn(self, grant: Grant) -> None:
        """End the turn of this very grant: numbers begin anew when a conversation is not in use."""
        conversation = self._conversations.get(grant.conversation_id)
        if conversation and conversation.serving and conversation.serving.grant is grant:
            self._end(grant.conversation_id, grant.number)

    async def position(self, conversation_id: str, number: int) -> int | None:
        conversation = self._conversations.get(conversation_id)
        if conversation is None or conversation.serving is None:
            return None
        if conversation.serving.number == number:
            return 0
        if number not in conversation.queue:
            return None
        return 1 + list(conversation.queue).index(number)

    async def inspect(self, conversation_id: str, limit: int) -> Inspection:
        conversation = self._conversations.get(conversation_id)
        if conversation is None:
            return Inspection(conversation_id, None, (), 0, 0)
        host, pid, now = process.host(), process.pid, clock()
        holder = None
        if conversation.serving is not None:
            turn = conversation.serving
            held_for, lease = now - turn.grant.granted_at, max(0.0, turn.grant.deadline - now)
            holder = Holder(turn.number, turn.grant.fence, held_for, lease, host, pid, turn.label)
        waiting = tuple(
            Waiting(waiter.number, now - waiter.started, True, host, pid, waiter.label)
            for waiter in list(conversation.queue.values())[:limit]
        )
        return Inspection(
            conversation_id, holder, waiting, len(conversation.queue), conversation.last_issued
        )

    async def break_turn(self, conversation_id: str, fence: int | None) -> bool:
        conversation = self._conversations.get(conversation_id)
        if conversation is None or conversation.serving is None:
            return False
        turn = conversation.serving
        if fence not in (None, turn.grant.fence):
            return False
        self._end(conversation_id, turn.number)
        turn.grant.lose(BROKEN)
        return True

    # -- tickets without a process ----------------------------------------------------------------

    async def issue_bare(self, conversation_id: str, lifetime: float, number: int = 0) -> int:
        waiter = Waiter(conversation_id, lifetime)
        waiter.member, waiter.number = _BARE, number
        self._check_home()
        loop = asyncio.get_running_loop()
        waiter.future = loop.create_future()
        self._enqueue(waiter)
        loop.call_later(lifetime, self.withdraw, waiter)
        return waiter.number

    async def finish(self, conversation_id: str, number: int) -> None:
        grant = self._end(conversation_id, number)
        if grant is not None:
            return grant.lose(BROKEN)
        conversation = self._conversations.get(conversation_id)
        waiter = conversation.queue.get(number) if conversation else None
        if waiter is not None:
            self.withdraw(waiter, LockLost(conversation_id, "its ticket was finished"))
        return None

    def document(self, conversation_id: str) -> TicketLock | None:
        """The tickets as a documented lock; None if there are none."""
        conversation = self._conversations.get(conversation_id)
        if conversation is None or conversation.serving is None:
            return None
        now, turn = time.time(), conversation.serving
        tickets = [Ticket(turn.number, now + turn.grant.deadline - clock())]
        tickets += [Ticket(w.number, now + w.lock_lifetime) for w in conversation.queue.values()]
        return TicketLock(conversation_id, tickets, conversation.last_issued)

    def drop_bare(self, conversation_id: str) -> None:
        """Drop the tickets that no process keeps alive."""
        conversation = self._conversations.get(conversation_id)
        for waiter in list(conversation.queue.values()) if conversation else ():
            if waiter.member == _BARE:
                self.withdraw(waiter)

    async def close(self) -> None:
        error = LockStoreConnectionError(CLOSED)
        self._messages.close(error)
        for conversation in self._conversations.values():
            for waiter in list(conversation.queue.values()):
                self.withdraw(waiter, None if waiter.member == _BARE else error)
            if conversation.serving is not None:
                conversation.serving.grant.lose(CLOSED)
        self._conversations.clear()
        self._deadlines.stop()


class InMemoryLockStore(LockStore):
    """Locks between the tasks of one event loop. Replicas need a Redis lock store.

    Takes no settings; ticket numbers begin at 1 and are not issued again while the
    conversation is in use.
    """

    keeps_messages = True

    def _make_queue(self) -> MemoryQueue:
        self._memory_queue = MemoryQueue()
        return self._memory_queue

    async def get_lock(self, conversation_id: str) -> TicketLock | None:
        return self._memory_queue.document(check_conversation_id(conversation_id))

    async def save_lock(self, lock: TicketLock) -> None:
        """Queue the lock's tickets that are not there yet, each for the rest of its life."""
        await self._queue_missing(lock)

    async def delete_lock(self, conversation_id: str) -> None:
        """End the turn and drop bare tickets; tickets of live waiters keep their places."""
        self._memory_queue.drop_bare(check_conversation_id(conversation_id))
        await self.break_lock(conversation_id)
