"""What was done to servers and workers in a storm, and when."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from ticketlock.process import clock

T = TypeVar("T")


def shuffled(kinds: Sequence[T], rng: random.Random) -> Iterator[T]:
    """All of them in a random order, again and again: none is left out for long."""
    while True:
        yield from rng.sample(kinds, len(kinds))


@dataclass
class Event:
    """One piece of trouble.

    Attributes:
        since, until: moments of `clock()`; it is over when all is as before.
        shard: whose servers it was about; None: a process.
        pid: the process.
        loses: a server may have forgotten what it had answered.
    """

    kind: str
    since: float
    until: float = math.inf
    shard: int | None = None
    pid: int | None = None
    loses: bool = False


class Events:
    """All of them."""

    def __init__(self) -> None:
        self._all: list[Event] = []

    @contextmanager
    def of_process(self, kind: str, pid: int) -> Iterator[Event]:
        """The block is the trouble of a worker."""
        with self._during(Event(kind, clock(), pid=pid)) as event:
            yield event

    @contextmanager
    def of_shard(self, kind: str, shard: int, *, loses: bool = False) -> Iterator[Event]:
        """The block is the trouble of a shard's servers."""
        with self._during(Event(kind, clock(), shard=shard, loses=loses)) as event:
            yield event

    @contextmanager
    def _during(self, event: Event) -> Iterator[Event]:
        self._all.append(event)
        yield event
        event.until = clock()

    def add(self, event: Event) -> Event:
        self._all.append(event)
        return event

    def during(self, since: float, until: float) -> list[Event]:
        """What troubled anything in that time."""
        return [event for event in self._all if event.since <= until and event.until >= since]

    def near(self, since: float, until: float, shard: int, pid: int) -> list[Event]:
        """What troubled a shard or a process in that time."""
        found = self.during(since, until)
        return [event for event in found if event.shard == shard or event.pid == pid]

    def forgot(self, shard: int, since: float, until: float) -> bool:
        """Whether the shard's servers may have forgotten something in that time."""
        return any(event.loses and event.shard == shard for event in self.during(since, until))

    def count(self) -> dict[str, int]:
        """Kind -> how often."""
        return dict(sorted(Counter(event.kind for event in self._all).items()))
