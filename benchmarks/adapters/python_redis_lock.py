"""python-redis-lock with its defaults: no expiry, no renewal."""

from __future__ import annotations

from typing import Any

import redis
import redis_lock


class Adapter:
    asynchronous = False

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url, max_connections=6000)

    def open(self) -> None:
        self._client.ping()

    def lock(self, name: str) -> Any:
        return redis_lock.Lock(self._client, name)

    def close(self) -> None:
        self._client.close()
