"""Which events of one history are stored: all below a number, except for the gaps."""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass, field


@dataclass
class Ledger:
    """Tells a new event from a duplicate without reading the stored events.

    Attributes:
        next: one above the highest stored number; 0 without events.
        missing: the gaps below it, as (first, last) in ascending order.
    """

    next: int = 0
    missing: list[tuple[int, int]] = field(default_factory=list)

    @classmethod
    def read(cls, next_: int, missing: str) -> Ledger:
        """The ledger of a stored row."""
        return cls(next_, [(int(first), int(last)) for first, last in json.loads(missing)])

    def write(self) -> str:
        """The gaps as they are stored: as JSON, `[[first, last], ...]`."""
        return json.dumps(self.missing, separators=(",", ":"))

    @property
    def count_missing(self) -> int:
        """How many events are missing."""
        return sum(last - first + 1 for first, last in self.missing)

    def take(self, sequence: int) -> bool:
        """Note an event of this number; False if it is a duplicate."""
        if sequence >= self.next:
            if sequence > self.next:
                self.missing.append((self.next, sequence - 1))
            self.next = sequence + 1
            return True
        place = bisect_right(self.missing, sequence, key=lambda gap: gap[0]) - 1
        if place < 0 or self.missing[place][1] < sequence:
            return False
        first, last = self.missing[place]
        halves = [(first, sequence - 1), (sequence + 1, last)]
        self.missing[place : place + 1] = [half for half in halves if half[0] <= half[1]]
        return True
