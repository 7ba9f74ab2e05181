"""Work of the event loop in slices, so that what is large does not hold up what is small."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")

#: Seconds of work after which others have their turn, and for how many times as long as that took.
SLICE, PAUSE = 0.001, 4.0

_clock = time.perf_counter


class Aside:
    """A block that works without awaiting; if that took long, others have their turn after it.

    All such blocks together have a quarter of the loop at most, and one alone a fifth.
    """

    _many = 0

    async def __aenter__(self) -> None:
        Aside._many += 1
        self._since = _clock()

    async def __aexit__(self, *error: object) -> None:
        try:
            if (took := _clock() - self._since) > SLICE:
                await asyncio.sleep(PAUSE * took * Aside._many)
        finally:
            Aside._many -= 1


async def sliced(work: Iterable[T]) -> list[T]:
    """What `work` gives, item by item, with pauses."""
    items, made, more = iter(work), list[T](), True
    while more:
        async with Aside():
            end, more = _clock() + SLICE, False
            for item in items:
                made.append(item)
                if _clock() > end:
                    more = True
                    break
    return made
