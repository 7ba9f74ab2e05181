"""One fixture for each interface, over every implementation; the tests do not know them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from servers.tracker_stores import TRACKER_STORES, Stores

from ticketlock import (
    ConcurrentRedisLockStore,
    InMemoryLockStore,
    LockStore,
    RedisLockStore,
    TicketLock,
)
from ticketlock.redis.embedded import EmbeddedRedis


class PlainStore(LockStore):
    """A custom store with the three documented methods, plain, that keeps texts."""

    def __init__(self, endpoint_config: object = None) -> None:
        super().__init__(endpoint_config)
        self.texts: dict[str, dict[str, object]] = {}

    def get_lock(self, conversation_id: str) -> TicketLock | None:
        data = self.texts.get(conversation_id)
        return TicketLock.from_dict(data) if data else None

    def save_lock(self, lock: TicketLock) -> None:
        self.texts[lock.conversation_id] = lock.as_dict()

    def delete_lock(self, conversation_id: str) -> None:
        self.texts.pop(conversation_id, None)


class AsyncStore(LockStore):
    """The same three methods as coroutines."""

    def __init__(self, endpoint_config: object = None) -> None:
        super().__init__(endpoint_config)
        self.plain = PlainStore()

    async def get_lock(self, conversation_id: str) -> TicketLock | None:
        return self.plain.get_lock(conversation_id)

    async def save_lock(self, lock: TicketLock) -> None:
        self.plain.save_lock(lock)

    async def delete_lock(self, conversation_id: str) -> None:
        self.plain.delete_lock(conversation_id)


#: name -> whether it needs the Redis server, and how to make one
LOCK_STORES: dict[str, tuple[bool, Callable[..., LockStore]]] = {
    "in_memory": (False, InMemoryLockStore),
    "redis": (True, RedisLockStore),
    "concurrent_redis": (True, ConcurrentRedisLockStore),
    "custom-plain": (False, PlainStore),
    "custom-async": (False, AsyncStore),
}

_prefixes = itertools.count(1)


@pytest.fixture(params=LOCK_STORES)
def make_store(request: pytest.FixtureRequest) -> Callable[[], LockStore]:
    """Makes lock stores that share their storage, as two replicas would."""
    needs_redis, make = LOCK_STORES[request.param]
    if not needs_redis:
        store = make()
        return lambda: store
    server: EmbeddedRedis = request.getfixturevalue("redis_server")
    prefix = f"contract{next(_prefixes)}"
    return lambda: make(url=server.url, key_prefix=prefix)


@pytest.fixture(params=list(TRACKER_STORES))
def stores(request: pytest.FixtureRequest, tracker_sections: Any) -> Stores:
    return Stores(request.param, tracker_sections(request.param))
