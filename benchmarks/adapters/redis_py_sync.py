"""redis-py's `Lock` for threads, with its defaults."""

from __future__ import annotations

from typing import Any

import redis


class Adapter:
    asynchronous = False

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url, max_connections=6000)

    def open(self) -> None:
        self._client.ping()

    def lock(self, name: str) -> Any:
        return self._client.lock(name)

    def close(self) -> None:
        self._client.close()
