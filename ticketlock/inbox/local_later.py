"""Messages that come due later, in this process: they last as long as it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from ..aio.running import until_set
from ..errors import LockStoreConnectionError, LockTimeout, QueueFull
from .due import (
    MAX_AHEAD,
    MAX_DUE,
    MAX_DUE_BYTES,
    MAX_OF_CONVERSATION,
    Cancelled,
    Due,
    When,
    check_text,
    names,
    too_far,
)
from .submission import Receipt, Submission

log = logging.getLogger("ticketlock.inbox")

#: Seconds after which the clock is read again, and what was refused is tried again.
_PAUSE, _AGAIN = 0.75, 1.0


class _Entry(NamedTuple):
    message: Submission
    due: float


class LocalLater:
    """What waits until it is due, and the task that submits it.

    Args:
        submit: submits a message that has come due.
    """

    def __init__(self, submit: Callable[[Submission], Awaitable[object]]) -> None:
        self._submit = submit
        self._entries: dict[str, dict[str, _Entry]] = {}
        self._count = self._bytes = 0
        #: When to look at an entry: (time, number, conversation, name, message id).
        self._heap: list[tuple[float, int, str, str, str]] = []
        self._numbers = itertools.count()
        self._moving: _Entry | None = None
        #: (conversation, message id) -> those who wait until it has left.
        self._waiters: dict[tuple[str, str], list[asyncio.Future[None]]] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def put(self, message: Submission, when: When) -> Receipt:
        """Keep a message until it is due. Raises ValueError, QueueFull."""
        check_text(message.text)
        name, now = message.conversation_id, time.time()
        due = now + when.after if when.after is not None else when.at or 0.0
        there = self._entries.get(name, {})
        old = there.get(when.key)
        if old is not None and old.message.message_id == message.message_id:
            return Receipt(0, known=True, message_id=message.message_id, due=old.due)
        if due > now + MAX_AHEAD:
            raise too_far(now)
        if old is None and len(there) >= MAX_OF_CONVERSATION:
            raise QueueFull(name, len(there))
        size = self._bytes + len(message.text) - (len(old.message.text) if old else 0)
        if (old is None and self._count >= MAX_DUE) or size > MAX_DUE_BYTES:
            raise QueueFull(name, self._count)
        self._remove(name, when.key)
        self._entries.setdefault(name, {})[when.key] = _Entry(message, due)
        self._count += 1
        self._bytes += len(message.text)
        self._push(due, name, when.key, message)
        self._wake.set()
        return Receipt(0, message_id=message.message_id, due=due)

    def _push(self, at: float, conversation_id: str, name: str, message: Submission) -> None:
        row = (at, next(self._numbers), conversation_id, name, message.message_id)
        heapq.heappush(self._heap, row)
        if len(self._heap) > 2 * self._count + 1000:  # most are of messages that were replaced
            self._heap = [row for row in self._heap if self._entry(row) is not None]
            heapq.heapify(self._heap)

    def _entry(self, row: tuple[float, int, str, str, str]) -> _Entry | None:
        """The entry of a row, unless another message has its name by now."""
        entry = self._entries.get(row[2], {}).get(row[3])
        return entry if entry is not None and entry.message.message_id == row[4] else None

    def _remove(self, conversation_id: str, name: str) -> _Entry | None:
        there = self._entries.get(conversation_id, {})
        entry = there.pop(name, None)
        if entry is not None:
            self._count -= 1
            self._bytes -= len(entry.message.text)
            if not there:
                del self._entries[conversation_id]
            for future in self._waiters.pop((conversation_id, entry.message.message_id), ()):
                if not future.done():
                    future.set_result(None)
        return entry

    def cancel(self, conversation_id: str, name: str) -> Cancelled:
        """Cancel a message; `unknown` if it is not there any more."""
        entry = self._entries.get(conversation_id, {}).get(name)
        if entry is not None and entry is self._moving:
            return "submitted"
        return "unknown" if self._remove(conversation_id, name) is None else "cancelled"

    def cancel_all(self, conversation_id: str) -> int:
        """Cancel all messages of a conversation."""
        found = list(self._entries.get(conversation_id, {}))
        for name in found:
            self._remove(conversation_id, name)
        return len(found)

    def due(self, conversation_id: str, most: int = 100) -> list[Due]:
        """The messages of a conversation, the first due first."""
        rows = sorted(self._entries.get(conversation_id, {}).items(), key=lambda row: row[1].due)
        return [
            Due(
                conversation_id, name, message.message_id, due, False, message.mode, message.text
            )
            for name, (message, due) in rows[:most]
        ]  # fmt: skip

    def find(self, conversation_id: str, message_id: str) -> tuple[str, float] | None:
        """The name of the message with that id, and when it comes due."""
        for name in names(message_id):
            entry = self._entries.get(conversation_id, {}).get(name)
            if entry is not None and entry.message.message_id == message_id:
                return name, entry.due
        return None

    async def left(self, conversation_id: str, message_id: str, seconds: float) -> None:
        """Wait until a message is submitted, cancelled or replaced, or for some seconds."""
        key = (conversation_id, message_id)
        if self.find(*key) is None:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(key, []).append(future)
        try:
            await asyncio.wait([future], timeout=seconds)
        finally:
            waiting = self._waiters.get(key, [])
            if future in waiting:
                waiting.remove(future)
                if not waiting:
                    del self._waiters[key]

    # -- the task --------------------------------------------------------------------------------

    def begin(self) -> None:
        """Submit what is due from now on."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Submit nothing more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            while self._heap and self._heap[0][0] <= time.time():
                row = heapq.heappop(self._heap)
                entry = self._entry(row)
                if entry is not None:
                    await self._move(row, entry)
            left = self._heap[0][0] - time.time() if self._heap else _PAUSE
            await until_set(self._wake, max(0.0, min(left, _PAUSE)))

    async def _move(self, row: tuple[float, int, str, str, str], entry: _Entry) -> None:
        _, _, conversation_id, name, _ = row
        self._moving = entry
        try:
            await self._submit(entry.message)
        except (QueueFull, LockTimeout, LockStoreConnectionError) as error:
            log.warning("a due message waits, and is tried again: %s", error)
            if self._entry(row) is not None:
                self._push(time.time() + _AGAIN, conversation_id, name, entry.message)
        except Exception:
            log.exception("a due message cannot be submitted: it is given up")
            self._remove_if(row)
        else:
            self._remove_if(row)
        finally:
            self._moving = None

    def _remove_if(self, row: tuple[float, int, str, str, str]) -> None:
        if self._entry(row) is not None:
            self._remove(row[2], row[3])
