"""redis-fifo-lock with its defaults, and a connection for each waiter, as its README asks.

A lock object is kept for each name: it may be shared, and looks at the eviction policy once.
"""

from __future__ import annotations

from typing import Any

import redis.asyncio
from redis_fifo_lock import FifoLock


class Adapter:
    asynchronous = True

    def __init__(self, url: str) -> None:
        self._client = redis.asyncio.Redis.from_url(url, max_connections=6000)
        self._locks: dict[str, FifoLock] = {}

    async def open(self) -> None:
        await self._client.ping()

    def lock(self, name: str) -> Any:
        lock = self._locks.get(name)
        if lock is None:
            lock = self._locks[name] = FifoLock(self._client, name)
        return lock.hold()

    async def close(self) -> None:
        await self._client.aclose()
