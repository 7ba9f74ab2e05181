"""ticketlock for threads, with its defaults."""

from __future__ import annotations

from typing import Any

from ticketlock import ConcurrentRedisLockStore


class Adapter:
    asynchronous = False

    def __init__(self, url: str) -> None:
        self._store = ConcurrentRedisLockStore(url=url).sync()

    def open(self) -> None:
        with self.lock("first"):
            pass

    def lock(self, name: str) -> Any:
        return self._store.lock(name)

    def close(self) -> None:
        self._store.close()
