"""Conversations that go on while something is broken, and what a consumer must then have."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any

from conftest import until
from contract_events import user

from ticketlock import Conversations
from ticketlock.tracker.store import TrackerStore

NAMES = ("a", "b", "c", "d")


class Talk:
    """Turns of several conversations, by any of the replicas, until the block ends.

    A turn that fails ends its conversation, and the block raises its error.

    Attributes:
        committed: the texts of each conversation's events that a turn was told are stored.
    """

    def __init__(self, *replicas: Conversations, pause: float = 0.03) -> None:
        self.committed: dict[str, list[str]] = defaultdict(list)
        self.replicas = list(replicas)
        self._pause = pause
        self._tasks: list[asyncio.Task[None]] = []
        self._over = False

    async def __aenter__(self) -> Talk:
        self._over = False
        self._tasks = [asyncio.create_task(self._talk(name)) for name in NAMES]
        return self

    async def _talk(self, name: str) -> None:
        while not self._over:
            await self.say(name, *(f"{random.random()}" for _ in range(random.randint(1, 3))))
            await asyncio.sleep(self._pause)

    async def say(self, name: str, *texts: str) -> None:
        """One turn."""
        async with random.choice(self.replicas).turn(name) as turn:
            turn.add(*(user(text, 1) for text in texts))
        self.committed[name] += texts

    async def more(self, turns: int = 8) -> None:
        """Wait until so many events were committed from now on."""
        wanted = self.count + turns
        await until(lambda: self.count >= wanted or self._broken, "turns go on")

    @property
    def count(self) -> int:
        return sum(map(len, self.committed.values()))

    @property
    def _broken(self) -> bool:
        return any(task.done() for task in self._tasks)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over = True
        await asyncio.gather(*self._tasks)


async def drained(store: TrackerStore, seconds: float = 30) -> None:
    """Wait until nothing waits to be published."""
    end = asyncio.get_running_loop().time() + seconds
    while (backlog := await store.outbox.backlog()).events:
        assert asyncio.get_running_loop().time() < end, f"not published: {backlog}"
        await asyncio.sleep(0.05)


def heard(events: Iterable[dict[str, Any]]) -> dict[str, list[str]]:
    """What a consumer has that drops repeats by their names; raises if one is out of order."""
    named: dict[tuple[str, int, int], dict[str, Any]] = {}
    last: dict[str, tuple[int, int]] = {}
    texts: dict[str, list[str]] = defaultdict(list)
    for event in events:
        sender, place = event["sender_id"], (event["history"], event["sequence"])
        if named.setdefault((sender, *place), event) is not event:
            assert named[(sender, *place)] == event, "two events under one name"
            continue
        assert place > last.get(sender, (0, -1)), f"{sender}: {place} after {last[sender]}"
        last[sender] = place
        texts[sender].append(event["text"])
    return dict(texts)


def followed(events: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """What a consumer has that takes nothing but the next number, and leaves what is early."""
    texts: dict[str, list[str]] = defaultdict(list)
    for event in events:
        if event["sequence"] == len(texts[event["sender_id"]]):
            texts[event["sender_id"]].append(event["text"])
    return dict(texts)
