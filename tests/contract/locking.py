"""What the tests of all lock stores share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ticketlock import LockStore

#: Makes stores that share their storage.
Make = Callable[[], LockStore]


async def enter(store: LockStore, conversation: str, served: list[int], i: int, hold: float = 0):
    async with store.lock(conversation) as grant:
        served.append(i)
        await asyncio.sleep(hold)
        return grant


async def maybe(value):
    return await value if asyncio.iscoroutine(value) else value
