"""What the processes of (o) do: submit messages, and say which they have handled."""

from __future__ import annotations

import asyncio
import time
from itertools import count
from typing import Any

#: Senders of a process.
SENDERS = 100


async def forget(adapter: Any, run: str) -> None:
    """Count only what is submitted from now on."""
    adapter.forget(run)


async def burst(adapter: Any, names: list[str], first: int) -> float:
    """Submit a message of each name, as fast as the senders can; returns when it began."""
    began, numbers = time.monotonic(), iter(enumerate(names, first))

    async def sender() -> None:
        for number, name in numbers:
            await adapter.submit(name, number)

    await asyncio.gather(*(sender() for _ in range(SENDERS)))
    return began


async def paced(adapter: Any, names: list[str], first: int, rate: float) -> float:
    """Submit a message of each name, `rate` of them a second; returns when it began."""
    began, sending = time.monotonic(), []
    for at, number, name in zip(count(), count(first), names, strict=False):
        await asyncio.sleep(began + at / rate - time.monotonic())
        sending.append(asyncio.create_task(adapter.submit(name, number)))
    await asyncio.gather(*sending)
    return began


async def handled(adapter: Any) -> dict[str, Any]:
    """What was handled here since the submissions began."""
    cpu = time.process_time() - adapter.cpu
    return {"count": len(adapter.seconds), "last": adapter.last, "cpu": cpu}


async def seconds(adapter: Any) -> list[float]:
    """From submission to reply, of each of them."""
    found: list[float] = adapter.seconds
    return found
