"""Counts how often the bot was called with a message; after `max_attempts` it is given up."""

from __future__ import annotations

from itertools import islice

from ..locks.incoming import field
from ..locks.store import LockStore
from ..process import clock
from .shared import SharedState

#: How many of the oldest counts are checked for expiry at each new count.
_SWEEP = 16


class Attempts:
    """Counts attempts by (conversation, message id); a count expires a window after the last one.

    Replicas with `concurrent_redis` locks share the counts. An attempt is counted before the bot
    is called, so that one which kills the process counts too. Other replicas count alone.
    """

    def __init__(self, store: LockStore, window: float) -> None:
        self._shared = SharedState.of(store)
        self._window = window
        #: (conversation, message id) -> (count, expiry by `clock()`); the oldest first.
        self._counts: dict[tuple[str, str], tuple[int, float]] = {}

    async def count(self, sender_id: str, message_id: str) -> int:
        """Count one more attempt; returns their number. Raises LockStoreConnectionError."""
        if self._shared is None:
            return self._count_here((sender_id, message_id))
        key = self._shared.keys.attempts(sender_id, field(message_id))
        return int(await self._shared.run("attempt", key, max(1, round(1000 * self._window))))

    def _count_here(self, key: tuple[str, str]) -> int:
        now = clock()
        for old in list(islice(self._counts, _SWEEP)):
            if self._counts[old][1] <= now:
                del self._counts[old]
        count, expires = self._counts.pop(key, (0, now))
        count = 1 if expires <= now else count + 1
        self._counts[key] = (count, now + self._window)
        return count
