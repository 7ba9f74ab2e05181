"""What was done to the workers and the servers of a run, and when."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from ..checker import Fault
from ..process import clock


class Faults:
    """All of them.

    Attributes:
        found: the faults; one that lasts has no end yet.
    """

    def __init__(self) -> None:
        self.found: list[Fault] = []

    def now(self, kind: str, process: str) -> None:
        """One without an end, of a process."""
        self.found.append(Fault(kind, clock(), process=process))

    @contextmanager
    def during(
        self, kind: str, process: str | None = None, *, loses: bool = False,
        conversations: Sequence[str] | None = None, durable: bool = False,
    ) -> Iterator[None]:  # fmt: skip
        """The block is the fault; one that fails leaves it without an end."""
        since, place = clock(), len(self.found)
        names = None if conversations is None else tuple(conversations)
        fault = Fault(kind, since, math.inf, process, loses, names, loses and durable)
        self.found.append(fault)
        yield
        self.found[place] = replace(fault, until=clock())
