"""Pauses between attempts that grow, so that a server in trouble is not asked all the time."""

from __future__ import annotations

import random


class Backoff:
    """Seconds to wait after each failed attempt, from the first pause up to the longest.

    Args:
        first: the first pause.
        longest: the limit.
        factor: how much longer each pause is than the one before.
        jitter: the share of a pause that is random, 0 to 1. With it, clients that failed
            together do not all come back together.
    """

    __slots__ = ("_pause", "factor", "first", "jitter", "longest")

    def __init__(
        self, first: float, longest: float, *, factor: float = 2.0, jitter: float = 0.0
    ) -> None:
        self.first = first
        self.longest = longest
        self.factor = factor
        self.jitter = jitter
        self._pause = 0.0

    @property
    def started(self) -> bool:
        """Whether an attempt has failed since the last `reset`."""
        return self._pause > 0

    @property
    def at_limit(self) -> bool:
        """Whether the pauses no longer grow."""
        return self._pause >= self.longest

    def next(self) -> float:
        """Seconds to wait now."""
        self._pause = min(max(self.first, self._pause * self.factor), self.longest)
        return self._pause * random.uniform(1.0 - self.jitter, 1.0)

    def reset(self) -> None:
        """An attempt has succeeded: start again with the first pause."""
        self._pause = 0.0
