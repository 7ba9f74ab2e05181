"""redis-lock-py's asyncio `RedisLock` with its defaults."""

from __future__ import annotations

from typing import Any

import redis.asyncio
from redis_lock.asyncio import RedisLock


class Adapter:
    asynchronous = True

    def __init__(self, url: str) -> None:
        self._client = redis.asyncio.Redis.from_url(url, max_connections=6000)

    async def open(self) -> None:
        await self._client.ping()

    def lock(self, name: str) -> Any:
        return RedisLock(self._client, name)

    async def close(self) -> None:
        await self._client.aclose()
