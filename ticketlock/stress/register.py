"""Registers in Redis, one for each conversation, which refuse writes under an older fence."""

from __future__ import annotations

from ..redis.links import open_link
from ..redis.scripts import load
from ..redis.settings import RedisSettings

#: Milliseconds for which a register is kept if it is not removed.
EXPIRY = 3_600_000


class Registers:
    """A context manager; it connects at its first use."""

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings
        script = load("register")
        self._link = open_link(
            settings, prologue=[("SCRIPT", "LOAD", script.source)], timeout=settings.socket_timeout
        )
        self._sha = script.sha

    def key(self, conversation: str) -> str:
        """The key of a register; in a cluster it is at its conversation's node."""
        return self._settings.prefixed(f"stress_lock:{{{conversation}}}")

    async def write(self, conversation: str, fence: int | None) -> int | None:
        """Write, and return the number of writes that were accepted before; None: it was refused.

        Without a fence, as of a lock that has none, every write is accepted.

        Raises LockStoreConnectionError; the write may have been accepted then.
        """
        key = self.key(conversation)
        place = int(await self._link.call(("EVALSHA", self._sha, 1, key, fence or 0, EXPIRY)))
        return None if place < 0 else place

    async def remove(self, *keys: str) -> None:
        """Remove keys, each by a call of its own. Raises LockStoreConnectionError."""
        for key in keys:
            await self._link.call(("DEL", key))

    async def __aenter__(self) -> Registers:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._link.close()
