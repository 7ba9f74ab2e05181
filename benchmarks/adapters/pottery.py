"""pottery's `AIORedlock` on one server, with its defaults: ten seconds, no renewal."""

from __future__ import annotations

from typing import Any

import redis.asyncio
from pottery import AIORedlock


class Adapter:
    asynchronous = True

    def __init__(self, url: str) -> None:
        self._client = redis.asyncio.Redis.from_url(url, max_connections=6000)

    async def open(self) -> None:
        await self._client.ping()

    def lock(self, name: str) -> Any:
        return AIORedlock(key=name, masters={self._client})

    async def close(self) -> None:
        await self._client.aclose()
