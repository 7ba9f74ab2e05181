"""Work of the event loop in slices, so that large work does not delay small work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")

#: Seconds of work after which other tasks run, and how many times as long the pause is.
SLICE, PAUSE = 0.001, 4.0

_clock, _worked = time.perf_counter, time.thread_time


class Aside:
    """A block of work without `await`; if it took long, a pause follows.

    All such blocks together get at most a quarter of the loop's time, a single one a fifth. It counts what
    the processor did: a process that stands still for a moment has not worked, and beside a hundred
    other blocks would pause for four hundred times as long.
    """

    _many = 0

    async def __aenter__(self) -> None:
        Aside._many += 1
        self._since = _worked()

    async def __aexit__(self, *_: object) -> None:
        try:
            if (took := _worked() - self._since) > SLICE:
                await asyncio.sleep(PAUSE * took * Aside._many)
        finally:
            Aside._many -= 1


async def sliced(work: Iterable[T]) -> list[T]:
    """The items of `work`, made with pauses."""
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
