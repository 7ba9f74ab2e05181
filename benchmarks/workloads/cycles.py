"""Acquire and release, over and over, each task on a conversation of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any


async def cycles(
    adapter: Any, tasks: int = 1, seconds: float = 1.0, prefix: str = "c"
) -> dict[str, float]:
    """Cycles in about so many seconds, after one cycle of each task."""
    now = time.perf_counter
    done, end = 0, 0.0

    async def task(name: str) -> None:
        nonlocal done
        while True:
            async with adapter.lock(name):
                pass
            done += 1
            if now() >= end:
                return

    names = [f"{prefix}{i}" for i in range(tasks)]
    await asyncio.gather(*map(task, names))
    done, start = 0, now()
    end = start + seconds
    await asyncio.gather(*map(task, names))
    return {"cycles": done, "seconds": now() - start}


def cycles_sync(
    adapter: Any, tasks: int = 1, seconds: float = 1.0, prefix: str = "c"
) -> dict[str, float]:
    now = time.perf_counter
    counts = [0] * tasks
    end = 0.0
    ready, go = threading.Barrier(tasks + 1), threading.Barrier(tasks + 1)

    def task(i: int) -> None:
        name = f"{prefix}{i}"
        with adapter.lock(name):
            pass
        ready.wait()
        go.wait()
        while now() < end:
            with adapter.lock(name):
                pass
            counts[i] += 1

    threads = [threading.Thread(target=task, args=(i,)) for i in range(tasks)]
    for thread in threads:
        thread.start()
    ready.wait()
    start = now()
    end = start + seconds
    go.wait()
    for thread in threads:
        thread.join()
    return {"cycles": sum(counts), "seconds": now() - start}
