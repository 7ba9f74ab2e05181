"""What a run must not leave on its servers: conversations that nobody can have, keys for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from ..endpoints.registry import create_lock_store
from ..errors import LockError, LockStoreConnectionError
from ..redis.settings import RedisSettings
from .targets import One, client

#: Seconds in which a conversation must be free once all workers are gone: several leases.
FREE_WITHIN = 20.0


async def not_free(section: Mapping[str, Any], where: str, names: Sequence[str]) -> list[str]:
    """The conversations that a new process cannot have."""
    async with create_lock_store(dict(section), where) as store:

        async def taken(name: str) -> bool:
            lock = store.lock(name)
            try:
                await asyncio.wait_for(lock.acquire(), FREE_WITHIN)
                await lock.release()
            except (LockError, LockStoreConnectionError, asyncio.TimeoutError):
                return True
            return False

        found = await asyncio.gather(*map(taken, names))
    return [name for name, is_taken in zip(names, found, strict=True) if is_taken]


def keys_that_stay(target: One, settings: RedisSettings) -> list[str]:
    """The keys of the shards' masters that have no expiry."""
    database = 0 if settings.deployment_mode == "cluster" else settings.db
    found = []
    for shard in range(target.shards):
        with client(target.living_master(shard), 10, database) as asking:
            found += [key for key in asking.scan_iter(count=1000) if asking.ttl(key) == -1]
    return found
