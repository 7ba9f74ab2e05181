"""Cancelled operations of every tracker store: no socket, no transaction, no thread is left."""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import threading
import time
from typing import Any

from conftest import until
from contract_events import user

#: Seconds that an operation may take when nothing is in its way, on a busy machine.
SOON = 10


def own_threads() -> set[threading.Thread]:
    """All threads but those that an event loop keeps for its own use."""
    return {thread for thread in threading.enumerate() if not thread.name.startswith("asyncio_")}


async def test_cancelled_operations_leave_nothing_behind(stores: Any) -> None:
    """At any moment, the first connection included. Sockets that nobody closes are an error."""
    fences = itertools.count(1)
    threads = own_threads()
    for longest in (0.001, 0.002, 0.004, 0.008, 0.016, 0.032):
        store = stores.open()

        async def turn(store: Any = store) -> None:
            claim = await store.claim("a", next(fences), "cancelled")
            await store.append(claim, [user("one", 1), user("two", 1)])

        for _ in range(4):
            task = asyncio.create_task(turn())
            await asyncio.sleep(random.uniform(0, longest))
            start = time.monotonic()
            task.cancel()
            await asyncio.wait([task])
            assert time.monotonic() - start < SOON, "a writer waited for a cancelled one"
        await asyncio.wait_for(turn(), SOON)
        tracker = await store.retrieve_full_tracker("a")
        texts = [event.as_dict()["text"] for event in tracker.events]
        assert texts == ["one", "two"] * (len(texts) // 2)
        if stores.backend != "memory":
            await store.close()
            await until(lambda: own_threads() <= threads, "its threads end")
        gc.collect()


async def test_a_cancelled_connect_leaves_nothing_behind(stores: Any) -> None:
    """`async with` closes what a cancelled `connect` has opened."""
    for pause in (0, 0.0003, 0.001, 0.003, 0.01):

        async def use() -> None:
            async with stores.open():
                await asyncio.sleep(SOON)

        task = asyncio.create_task(use())
        await asyncio.sleep(pause)
        task.cancel()
        await asyncio.wait([task])
        gc.collect()
