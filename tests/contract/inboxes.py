"""Lock stores of each kind of inbox, and a bot that is served by them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from ticketlock import (
    ConcurrentRedisLockStore,
    Conversations,
    InMemoryLockStore,
    LockStore,
    RedisLockStore,
)
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.turn import Turn

STORES = ("in_memory", "concurrent_redis", "redis")
_prefixes = itertools.count()


def lock_store(kind: str, server: EmbeddedRedis) -> LockStore:
    """A lock store of a kind, with keys of its own."""
    if kind == "in_memory":
        return InMemoryLockStore()
    made = ConcurrentRedisLockStore if kind == "concurrent_redis" else RedisLockStore
    return made(url=server.url, key_prefix=f"inbox{next(_prefixes)}")


class Bot:
    """Notes what it is called with; it waits where the text says so."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.open = asyncio.Event()
        self.inside = 0
        self.beside = False  # turns of several conversations

    async def __call__(self, turn: Turn, message: Mapping[str, Any]) -> list[dict[str, str]]:
        self.inside += 1
        assert self.inside == 1 or self.beside
        try:
            self.calls.append((message["text"], message["attempt"]))
            turn.add({"event": "user", "text": message["text"]})
            if message["text"].startswith("wait"):
                await self.open.wait()
            if message["text"].startswith("fail"):
                raise ValueError("secret")
            return [{"text": f"re: {message['text']}"}]
        finally:
            self.inside -= 1


@asynccontextmanager
async def serving(store: LockStore, **options: Any) -> AsyncIterator[tuple[Conversations, Bot]]:
    bot = Bot()
    async with Conversations(store) as conversations:
        async with conversations.serving(bot, retry_time=0.1, **options):
            yield conversations, bot
