"""The mover: submits what has come due. Each process that serves the inbox has one."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from typing import Protocol

from ..aio.patience import Patience
from ..aio.running import until_set
from ..errors import LockStoreConnectionError, LockTimeout, QueueFull
from ..process import clock
from .later import Later
from .submission import Submission

log = logging.getLogger("ticketlock.inbox")

#: Seconds between two looks while nothing is due, and what they differ by.
_PAUSE, _JITTER = 0.75, 0.2
#: Seconds for which a shard waits for one conversation.
_PATIENCE = 1.0
#: Milliseconds for which other processes leave a conversation to a mover.
LEASE = 10_000
#: Milliseconds after which what was refused is tried again.
_AGAIN = 1000
#: Conversations that are taken in one go, and messages of each.
_CONVERSATIONS, _MESSAGES = 100, 20
#: Seconds between two warnings that due messages are refused.
_SILENCE = 60.0


class Taker(Protocol):
    """What a mover asks of the inbox.

    Attributes:
        full: nothing more is accepted.
    """

    @property
    def full(self) -> bool: ...
    def reaches(self, name: str) -> bool: ...
    async def submit_due(self, message: Submission, until: int) -> bool: ...
    async def settle(self, conversation_id: str, messages: Sequence[Submission]) -> None: ...


class Mover:
    """Moves due messages: submits each, then removes it where it waited.

    It may die in between: the next one submits the message again, which is known by its id.
    """

    def __init__(self, inbox: Taker, later: Later) -> None:
        self._inbox = inbox
        self._later = later
        self._tasks: list[asyncio.Task[None]] = []
        self._moving: Patience[str] = Patience(_PATIENCE, self._failed)
        self._wakes = [asyncio.Event() for _ in range(later.shards)]
        self._warned = float("-inf")

    def begin(self) -> None:
        """Move what is due from now on; a shard whose node is away holds up no other."""
        if not self._tasks:
            loop = asyncio.get_running_loop()
            self._tasks = [loop.create_task(self._run(n)) for n in range(self._later.shards)]

    async def stop(self) -> None:
        """Move nothing more."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._moving.stop()

    def now(self, conversation_id: str) -> None:
        """Look at once when the next message is due: a new one may be the first."""
        self._wakes[self._later.shard(conversation_id)].set()

    async def _run(self, shard: int) -> None:
        wake = self._wakes[shard]
        while True:
            wake.clear()
            left = _PAUSE
            try:
                left = await self._look(shard)
            except Exception as error:  # noqa: BLE001  # it is logged
                self._failed(error)
            if left > 0:
                pause = min(left, _PAUSE + random.random() * _JITTER)
                await until_set(wake, pause)

    async def _look(self, shard: int) -> float:
        """Move what is due in a shard; returns the seconds after which to look again."""
        if self._inbox.full:
            self._refused("the inbox is full")
            return _PAUSE
        sent_at = clock()
        left, found = await self._later.take_conversations(shard, _CONVERSATIONS, LEASE)
        ends = sent_at + LEASE / 1000
        # Those on a node that is away are taken again when the marks are over.
        marks = {name: mark for name, mark in found if self._inbox.reaches(name)}
        await self._moving.run(lambda name: self._move(name, marks[name], ends), *marks)
        return 0.0 if found else _PAUSE + _JITTER if left < 0 else left / 1000

    def _failed(self, error: Exception) -> None:
        if isinstance(error, LockStoreConnectionError):
            log.warning("cannot submit what is due, trying again: %s", error)
        else:
            log.error("submitting what is due failed, trying again", exc_info=error)

    async def _move(self, name: str, mark: str, ends: float) -> None:
        """Move the due messages of a conversation, one after the other."""
        refused = -1  # messages that let so many wait, or fewer, are refused just now
        while clock() < ends:
            found = await self._later.take(name, mark, _MESSAGES, refused)
            before, ended, late = refused, list[tuple[str, Submission, bool]](), False
            for key, message in found:
                submitted = False
                if not late and (message.max_waiting is None or message.max_waiting > refused):
                    try:
                        submitted = await self._inbox.submit_due(message, int(float(mark)))
                        late = not submitted
                    except (QueueFull, LockTimeout) as error:
                        waiting = error.waiting if isinstance(error, QueueFull) else 0
                        refused = max(refused, waiting, message.max_waiting or 0)
                        late = message.max_waiting is None  # the inbox is full
                        self._refused(str(error))
                ended.append((key, message, submitted))
            more = not late and (refused > before or len(found) == _MESSAGES)
            pause = None if more else 0 if refused < 0 and not late else _AGAIN
            await self._later.done(name, mark, pause, ended)
            await self._inbox.settle(name, [message for _, message, was in ended if was])
            if not more:
                return

    def _refused(self, why: str) -> None:
        level = logging.DEBUG
        if clock() - self._warned >= _SILENCE:
            self._warned, level = clock(), logging.WARNING
        log.log(level, "a due message waits, and is tried again: %s", why)
