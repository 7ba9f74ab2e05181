"""redis-py's asyncio `Lock` with its defaults; without a timeout it has no expiry.

With the pool's default of 100 connections the 101st command at a time fails, hence the larger
pool.
"""

from __future__ import annotations

from typing import Any

import redis.asyncio


class Adapter:
    asynchronous = True

    def __init__(self, url: str) -> None:
        self._client = redis.asyncio.Redis.from_url(url, max_connections=6000)

    async def open(self) -> None:
        await self._client.ping()

    def lock(self, name: str) -> Any:
        return self._client.lock(name)

    async def close(self) -> None:
        await self._client.aclose()
