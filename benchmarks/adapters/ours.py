"""ticketlock with its defaults."""

from __future__ import annotations

from typing import Any

from ticketlock import ConcurrentRedisLockStore


class Adapter:
    asynchronous = True

    def __init__(self, url: str, **options: Any) -> None:
        self._store = ConcurrentRedisLockStore(url=url, **options)

    async def open(self) -> None:
        async with self.lock("first"):
            pass

    def lock(self, name: str) -> Any:
        return self._store.lock(name)

    async def close(self) -> None:
        await self._store.close()
