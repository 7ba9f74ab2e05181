"""The look: what a process that serves the inbox does once a second, and at once when told."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import Protocol

from ..aio.running import until_set
from ..errors import LockStoreConnectionError
from ..locks.concurrent.engine import Engine
from .scripts import InboxScripts

log = logging.getLogger("ticketlock.inbox")

#: Seconds between two looks, and what they differ by, so that replicas do not look together.
_PAUSE, _JITTER = 0.6, 0.3
#: Conversations that are taken in one go.
_AT_ONCE = 100
#: Conversations that bells have named, and that wait for room.
_MOST_TOLD = 1000
#: Bounds of all that waits: messages, and bytes of their texts.
MAX_MESSAGES, MAX_BYTES = 1_000_000, 1 << 30


class Taker(Protocol):
    """What the look asks of its inbox.

    Attributes:
        room: turns that may begin here now.
    """

    scripts: InboxScripts

    @property
    def room(self) -> int: ...
    async def take(self, name: str, mark: str = "") -> None: ...


class Look:
    """Finds conversations that are due, and takes them while there is room.

    Attributes:
        due: conversations that waited for room at the last look.
        messages, size: what waited in all conversations at the last look.
    """

    def __init__(self, inbox: Taker, engine: Engine) -> None:
        self._inbox = inbox
        self._engine = engine
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._told: set[str] = set()
        self._messages = self._bytes = 0
        self.due = self.messages = self.size = 0

    def begin(self) -> None:
        """Look from now on."""
        if self._task is None:
            self._task = self._engine.loop.create_task(self._run())

    async def stop(self) -> None:
        """Look no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def now(self) -> None:
        """Look at once."""
        self._wake.set()

    def at(self, name: str) -> None:
        """Look at a conversation at once, unless others wait."""
        if len(self._told) < _MOST_TOLD:  # the index has all of them
            self._told.add(name)
        self._wake.set()

    @property
    def full(self) -> bool:
        """Whether nothing more is accepted."""
        return self.messages > MAX_MESSAGES or self.size > MAX_BYTES

    def count(self, messages: int, size: int) -> None:
        """Count what was submitted, or finished."""
        self._messages += messages
        self._bytes += size

    def server_time(self) -> float:
        """About the milliseconds of the server's clock."""
        return time.time() * 1000

    # -- the task ----------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._round()
            except LockStoreConnectionError as error:
                log.warning("cannot look into the inbox, trying again: %s", error)
            except Exception:
                log.exception("looking into the inbox failed, trying again")
            if not ((self._told or self.due) and self._inbox.room):
                await until_set(self._wake, _PAUSE + random.random() * _JITTER)

    async def _round(self) -> None:
        """Look, and take what bells have named; where others wait, the longest due come first."""
        fair = self.due > 0
        if fair:
            await self._look()
        told = list(self._told)[: self._inbox.room]
        self._told.difference_update(told)
        await self._take([(name, "") for name in told])
        if not fair:
            await self._look()

    async def _look(self) -> None:
        index = self._inbox.scripts.index
        due = messages = size = 0
        for shard in random.sample(range(index.shards), index.shards):
            most = min(_AT_ONCE, self._inbox.room)
            added, self._messages = self._messages, 0
            grown, self._bytes = self._bytes, 0
            args = self._inbox.scripts.look(shard, most, added, grown)
            try:
                more, count, length, *names = await self._engine.link.call(args)
            except BaseException:
                self._messages, self._bytes = self._messages + added, self._bytes + grown
                raise
            due, messages, size = due + more, messages + count, size + length
            found = zip(names[::2], names[1::2], strict=True)
            await self._take([(name.decode(), mark.decode()) for name, mark in found])
        self.due, self.messages, self.size = due, messages, size

    async def _take(self, found: list[tuple[str, str]]) -> None:
        """Take conversations side by side: a call each."""
        taken = [self._inbox.take(name, mark) for name, mark in found]
        for failed in await asyncio.gather(*taken, return_exceptions=True):
            if isinstance(failed, BaseException):
                raise failed

    def again(self, name: str, ms: int, mark: str) -> None:
        """In a cluster: note in the index when to look at a conversation again.

        Args:
            ms: -1: nothing waits, and the conversation leaves the index unless it was put there
                since it was found with `mark`.
        """
        if ms < 0 and not mark:
            return
        args = self._inbox.scripts.list(name, None if ms < 0 else ms, mark)
        command = self._engine.link.submit(args)
        command.future.add_done_callback(lambda done: done.cancelled() or done.exception())
