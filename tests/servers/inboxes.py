"""Inboxes that are served by a function, as a replica serves them by a bot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from ticketlock import ConcurrentRedisLockStore, InMemoryLockStore
from ticketlock.inbox.due import When
from ticketlock.inbox.inbox import Inbox
from ticketlock.inbox.local import LocalInbox
from ticketlock.inbox.redis import RedisInbox
from ticketlock.inbox.served import Served
from ticketlock.inbox.submission import Receipt, Submission


class Desk:
    """An inbox, and what its messages have said here.

    Attributes:
        handled: (conversation, message id, text), in order.
        gate: while it is not set, turns wait for it.
    """

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        self.handled: list[tuple[str, str, str]] = []
        self.on_handled: Callable[[str], object] = lambda text: None
        self._turns: set[asyncio.Task[None]] = set()
        self.gate = asyncio.Event()
        self.gate.set()

    @classmethod
    @asynccontextmanager
    async def on(cls, url: str | None, prefix: str = "", **options: Any) -> AsyncIterator[Desk]:
        """One on a Redis, or in memory."""
        if url is None:
            desk = cls(LocalInbox(InMemoryLockStore()))
            try:
                yield desk
            finally:
                await desk.close()
            return
        async with ConcurrentRedisLockStore(url=url, key_prefix=prefix, **options) as store:
            desk = cls(RedisInbox(store))
            try:
                yield desk
            finally:
                await desk.close()

    async def close(self) -> None:
        """End its turns where they are."""
        for turn in self._turns:
            turn.cancel()
        await asyncio.gather(*self._turns, return_exceptions=True)
        await self.inbox.close()

    def serve(self, room: int = 10) -> None:
        """Handle messages from now on."""

        def start(served: Served) -> asyncio.Task[None]:
            task = asyncio.create_task(self._turn(served))
            self._turns.add(task)
            task.add_done_callback(self._turns.discard)
            return task

        self.inbox.serve(start, room, 60.0)

    async def _turn(self, served: Served) -> None:
        await self.gate.wait()
        await self.inbox.begun(served)
        self.handled.append((served.conversation_id, served.message_id, served.text))
        self.on_handled(served.text)
        served.end("d", "[]")
        await served.inbox.finish(served)

    async def later(
        self, conversation_id: str, text: str, name: str | None = None, *,
        at: float | None = None, after: float | None = None, generation: str | None = None,
        **more: Any,
    ) -> Receipt:  # fmt: skip
        """Submit a message that comes due later."""
        when = When(at, after, name) if generation is None else When(at, after, name, generation)
        message = Submission(conversation_id, when.message_id, text, **more)
        return await self.inbox.submit_later(message, when)

    @property
    def texts(self) -> list[str]:
        """What was handled, in order."""
        return [text for _, _, text in self.handled]

    async def until(self, *texts: str, seconds: float = 10) -> None:
        """Wait until those texts were handled, in that order, and nothing else."""
        await until(lambda: len(self.handled) >= len(texts), seconds, strict=False)
        assert self.texts == list(texts)

    async def moved(self, conversation_id: str) -> None:
        """Wait until nothing waits in a conversation to be due."""

        async def none() -> bool:
            return not await self.inbox.due(conversation_id)

        await until(none)


async def until(
    condition: Callable[[], bool | Awaitable[bool]], seconds: float = 10, *, strict: bool = True
) -> None:
    """Wait for a condition; `strict`: it must come true."""
    end = asyncio.get_running_loop().time() + seconds
    while True:
        found = condition()
        if found if isinstance(found, bool) else await found:
            return
        if asyncio.get_running_loop().time() > end:
            assert not strict, "it has not come true"
            return
        await asyncio.sleep(0.01)
