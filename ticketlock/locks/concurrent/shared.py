"""What replicas share on Redis beside the locks: reports of replicas, the audit, deliveries."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from ...redis.scripts import load
from ..store import LockStore
from .scripts import Keys
from .store import ConcurrentRedisLockStore


class SharedState:
    """Runs the server's scripts over the connection of a `concurrent_redis` lock store.

    Attributes:
        keys: the names of the keys.
    """

    def __init__(self, store: ConcurrentRedisLockStore) -> None:
        self._store = store
        self.keys = Keys(store.settings)

    @classmethod
    def of(cls, store: LockStore) -> SharedState | None:
        """The shared state of a lock store; None if replicas share nothing through it."""
        return cls(store) if isinstance(store, ConcurrentRedisLockStore) else None

    @property
    def connected(self) -> bool:
        """Whether the lock store is in use in this event loop; else `run` would connect it."""
        engine = self._store.running
        return (
            engine is not None and not engine.closed and engine.loop is asyncio.get_running_loop()
        )

    async def run(
        self, script: str, keys: str | Sequence[str], *args: Any, timeout: float | None = None
    ) -> Any:
        """Run the script `lua/<script>.lua` and return its answer.

        Args:
            keys: its key, or several of one conversation.
            timeout: seconds for the answer; None: the store's `socket_timeout`.

        Raises LockStoreConnectionError.
        """
        named = (keys,) if isinstance(keys, str) else tuple(keys)
        command = ("EVAL", load(script).source, len(named), *named, *args)
        link = self._store.engine().link
        return await link.submit(command, timeout).future
