"""The look: what a process that serves the inbox does once a second, and at once when told."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from contextlib import suppress
from typing import Any, Protocol

from ..aio.patience import Patience
from ..aio.running import until_set
from ..errors import LockStoreConnectionError
from ..locks.concurrent.engine import Engine
from ..process import clock
from .scripts import InboxScripts

log = logging.getLogger("ticketlock.inbox")

#: Seconds between two looks, and what they differ by, so that replicas do not look together.
_PAUSE, _JITTER = 0.6, 0.3
#: Conversations that are taken in one go.
_AT_ONCE = 100
#: Seconds for which a look waits for the answer of a node; then it goes on with what others have.
_PATIENCE = 1.0
#: Conversations that bells have named, and that wait for room.
_MOST_TOLD = 1000
#: Bounds of all that waits: messages, and bytes of their texts.
MAX_MESSAGES, MAX_BYTES = 1_000_000, 1 << 30


class Taker(Protocol):
    """What the look asks of its inbox.

    Attributes:
        room: turns that may begin here now.
        serves: whether turns ever do.
    """

    scripts: InboxScripts

    @property
    def serves(self) -> bool: ...
    @property
    def room(self) -> int: ...
    def reaches(self, name: str) -> bool: ...
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
        #: By shard: messages and bytes that were counted here since the last look.
        self._counted: dict[int, tuple[int, int]] = {}
        #: By shard: conversations that were due, messages and bytes at the last look.
        self._found: dict[int, tuple[int, int, int]] = {}
        self._asked: Patience[int] = Patience(_PATIENCE, self._failed)
        self._taken: Patience[str] = Patience(_PATIENCE, self._failed)
        self.due = 0
        #: When to look again.
        self._next = 0.0

    def begin(self) -> None:
        """Look from now on."""
        if self._task is None:
            self._task = self._engine.loop.create_task(self._run())

    async def stop(self) -> None:
        """Look no more; what was counted since the last look is noted."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            await self._asked.stop()
            await self._taken.stop()
            for shard, counted in self._counted.items():
                self._send(self._inbox.scripts.look(shard, 0, *counted))
            self._counted.clear()

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

    @property
    def messages(self) -> int:
        return sum(messages for _, messages, _ in self._found.values())

    @property
    def size(self) -> int:
        return sum(size for _, _, size in self._found.values())

    def count(self, name: str, messages: int, size: int) -> None:
        """Count what was submitted to a conversation, or finished."""
        shard = self._inbox.scripts.index.shard(name)
        before, bytes_before = self._counted.get(shard, (0, 0))
        self._counted[shard] = before + messages, bytes_before + size

    def server_time(self) -> float:
        """About the milliseconds of the server's clock."""
        return time.time() * 1000

    # -- the task ----------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            await self._round()
            if not ((self._told or self.due) and self._inbox.room):
                await until_set(self._wake, max(0.0, self._next - clock()))

    async def _round(self) -> None:
        """Look, and take what bells have named; where others wait, the longest due come first.

        In a cluster each conversation has a bell of its own, and a look is a call for each shard:
        there a bell is no reason to look. On one server the bell of one that is due is that of all.
        """
        fair = self.due > 0
        if fair:
            await self._look()
        told = list(self._told)[: self._inbox.room]
        self._told.difference_update(told)
        await self._take([(name, "") for name in told])
        if not fair and not (told and self._inbox.scripts.cluster and clock() < self._next):
            await self._look()

    async def _look(self) -> None:
        """Look at each shard, with the room that those before it have left."""
        due = 0
        self._next = clock() + _PAUSE + random.random() * _JITTER
        index, reaches = self._inbox.scripts.index, self._engine.link.reaches
        for shard in random.sample(range(index.shards), index.shards):
            if reaches(index.key(shard)) and await self._asked.run(self._look_at, shard):
                due += self._found[shard][0]
        self.due = due

    async def _look_at(self, shard: int) -> None:
        """Take what is due in a shard."""
        most = min(_AT_ONCE, self._inbox.room)
        added, grown = self._counted.pop(shard, (0, 0))
        args = self._inbox.scripts.look(shard, most, added, grown)
        try:
            more, count, length, *names = await self._engine.link.call(args)
        except BaseException:
            before, bytes_before = self._counted.get(shard, (0, 0))
            self._counted[shard] = before + added, bytes_before + grown
            raise
        if self._inbox.serves:
            self._engine.link.listen(self._inbox.scripts.index.bell(shard))
        self._found[shard] = more, count, length
        found = zip(names[::2], names[1::2], strict=True)
        await self._take([(name.decode(), mark.decode()) for name, mark in found])

    async def _take(self, found: list[tuple[str, str]]) -> None:
        """Take conversations side by side, a call each; those on a node that is away come again."""
        marks = {name: mark for name, mark in found if self._inbox.reaches(name)}
        await self._taken.run(lambda name: self._inbox.take(name, marks[name]), *marks)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, LockStoreConnectionError):
            log.warning("cannot look into the inbox, trying again: %s", error)
        else:
            log.error("looking into the inbox failed, trying again", exc_info=error)

    def again(self, name: str, ms: int, mark: str) -> None:
        """In a cluster: note in the index when to look at a conversation again.

        Args:
            ms: 0: at once, and those who serve are told; -1: nothing waits, and the conversation
                leaves the index unless it was put there since it was found with `mark`.
        """
        scripts = self._inbox.scripts
        if ms == 0:
            self._send(scripts.tell(name))
        elif ms > 0 or mark:
            self._send(scripts.list(name, None if ms < 0 else ms, mark))

    def _send(self, args: tuple[Any, ...]) -> None:
        """Send a command whose answer says nothing."""
        with suppress(LockStoreConnectionError):  # closed already
            command = self._engine.link.submit(args)
            command.future.add_done_callback(lambda done: done.cancelled() or done.exception())
