"""How often the bot has been given the same message: one that never ends well is given up."""

from __future__ import annotations

from itertools import islice

from ..locks.concurrent.store import ConcurrentRedisLockStore
from ..locks.incoming import field
from ..locks.store import LockStore
from ..process import clock
from ..redis.scripts import load

#: Counts that are looked at for having expired, whenever one is made.
_SWEEP = 16


class Attempts:
    """Counts attempts by (conversation, message id), each for a window from the last one.

    Replicas with `concurrent_redis` locks share the counts, and a count is made before the bot
    begins: a process that the message kills has counted. Others count for themselves.
    """

    def __init__(self, store: LockStore, window: float) -> None:
        self._store = store if isinstance(store, ConcurrentRedisLockStore) else None
        self._window = window
        #: (conversation, message id) -> (count, when it is forgotten); the oldest in front.
        self._counts: dict[tuple[str, str], tuple[int, float]] = {}

    async def count(self, sender_id: str, message_id: str) -> int:
        """How often the message has been begun, now included. Raises LockStoreConnectionError."""
        if self._store is None:
            return self._here((sender_id, message_id))
        engine = self._store.engine()
        base = engine.scripts.keys.of_messages(sender_id)[0].removesuffix("messages")
        key = f"{base}attempts:{field(message_id)}"
        words = ("EVAL", load("attempt").source, 1, key, max(1, round(1000 * self._window)))
        return int(await engine.link.call(words))

    def _here(self, key: tuple[str, str]) -> int:
        now = clock()
        for old in list(islice(self._counts, _SWEEP)):
            if self._counts[old][1] <= now:
                del self._counts[old]
        count, expires = self._counts.pop(key, (0, now))
        count = 1 if expires <= now else count + 1
        self._counts[key] = (count, now + self._window)
        return count
