"""Locks that do not hold, for the stress harness to find: `type: broken_locks.NAME` from this folder."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import Any

from ticketlock import ConcurrentRedisLockStore
from ticketlock.redis import scripts
from ticketlock.redis.links import open_link

_text = scripts._text


class NaiveLockStore(ConcurrentRedisLockStore):
    """SET NX with an expiry, and DEL: no queue, no fence, and no owner."""

    def lock(self, conversation_id: str, *_: object, **__: object) -> Any:
        return NaiveLock(self, conversation_id)

    def link(self) -> Any:
        if not hasattr(self, "_naive_link"):
            self._naive_link = open_link(self.settings)
        return self._naive_link

    async def close(self) -> None:
        with contextlib.suppress(AttributeError):
            await self._naive_link.close()
        await super().close()


class NaiveLock:
    """Also its own grant."""

    fence = deadline = None

    def __init__(self, store: NaiveLockStore, name: str) -> None:
        self._store, self._key = store, store.settings.prefixed(f"naive_lock:{name}")

    async def queue(self) -> None:
        """There is none."""

    async def acquire(self) -> NaiveLock:
        while True:
            value = secrets.token_hex(4)
            command = ("SET", self._key, value, "NX", "PX", "15")
            if await self._store.link().call(command):
                return self
            await asyncio.sleep(0.002)

    def ensure_held(self) -> None:
        """It believes so."""

    async def release(self) -> None:
        await self._store.link().call(("DEL", self._key))


class LastInStore(ConcurrentRedisLockStore):
    """Ours, with releases that serve the last one first, tickets as well as messages."""

    def __init__(self, *args: Any, **keys: Any) -> None:
        scripts._text = _last_first
        super().__init__(*args, **keys)


def _last_first(part: str) -> str:
    text = _text(part)
    return text.replace("ZPOPMIN", "ZPOPMAX") if part in ("release", "inbox") else text
