"""Turns that go on while something happens to their servers."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence

from conftest import until

from ticketlock import ConcurrentRedisLockStore, LockLost
from ticketlock.process import clock


class Turns:
    """Tasks of some processes that take turns in some conversations, each behind others.

    Args:
        losing: turns may be lost, as those that a failover forgets.

    Attributes:
        wrong: what must not be: two turns at once, a turn out of order, a lower fence.
        counts: conversation -> turns taken.
        gaps: conversation -> the longest time between two turns, in seconds.
    """

    def __init__(self, names: list[str], *, losing: bool = False) -> None:
        self.names, self._losing = names, losing
        self.wrong: list[str] = []
        self.counts: dict[str, int] = defaultdict(int)
        self.gaps: dict[str, float] = defaultdict(float)
        self._last: dict[str, tuple[int, int, float]] = {}
        self._inside: set[str] = set()
        self._stopping = False

    async def take(self, store: ConcurrentRedisLockStore, name: str) -> None:
        """Take turns until `stop`; what raises ends the test."""
        while not self._stopping:
            try:
                await self._turn(store, name)
            except LockLost:
                if not self._losing:
                    raise
                self._inside.discard(name)

    async def _turn(self, store: ConcurrentRedisLockStore, name: str) -> None:
        async with store.lock(name) as grant:
            number, fence, ended = self._last.get(name, (0, 0, clock()))
            if name in self._inside or grant.number <= number or grant.fence <= fence:
                self.wrong.append(f"{grant} after {self._last.get(name)}")
            self._inside.add(name)
            self.gaps[name] = max(self.gaps[name], clock() - ended)
            await asyncio.sleep(0.001)
            grant.ensure_held()
            self._inside.discard(name)
            self._last[name] = grant.number, grant.fence, clock()
            self.counts[name] += 1

    async def all_take(self, more: int) -> None:
        """Wait until each conversation had so many turns more."""
        goal = {name: self.counts[name] + more for name in self.names}
        await until(lambda: all(self.counts[n] >= goal[n] for n in goal), "turns go on", 30)

    async def during(
        self, stores: Sequence[ConcurrentRedisLockStore], work: Callable[[], Awaitable[None]]
    ) -> None:
        """Do something while two tasks for each conversation and process take turns."""
        tasks = [
            asyncio.create_task(self.take(store, name))
            for name in self.names
            for store in stores
            for _ in range(2)
        ]
        try:
            await self.all_take(3)
            await work()
            await self.all_take(3)
        finally:
            self._stopping = True
            await asyncio.gather(*tasks)
