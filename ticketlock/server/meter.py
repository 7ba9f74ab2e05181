"""What a replica has done: counted since its start, and in samples for the charts."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

#: Seconds between two samples.
STEP = 2
#: Samples that are kept: five minutes.
SAMPLES = 150
#: Waits of one step that are looked at; more do not make its percentile better.
_WAITS = 5000


@dataclass
class Counters:
    """Messages since the start of the process.

    Attributes:
        handled: those that got the bot's replies.
        duplicates: those that got the first replies again.
        rejected: those that were sent away (status 409 and 429).
        errors: those that failed here (status 500 and above).
    """

    handled: int = 0
    duplicates: int = 0
    rejected: int = 0
    errors: int = 0

    def answered(self, status: int) -> None:
        """Count an answer that was a refusal or a failure."""
        if status >= 500:
            self.errors += 1
        elif status in (409, 429):
            self.rejected += 1


class Meter:
    """The samples of one process, oldest first.

    A sample is (turns ended, messages waiting, p99 of waits in milliseconds), of one step.
    """

    def __init__(self) -> None:
        self.samples: deque[tuple[int, int, int]] = deque(maxlen=SAMPLES)
        self._turns = 0
        self._waits: list[float] = []

    def ended(self, wait: float) -> None:
        """A turn has ended that had been waited for so long, in seconds."""
        self._turns += 1
        if len(self._waits) < _WAITS:
            self._waits.append(wait)

    def sample(self, waiting: Sequence[float]) -> None:
        """End a step.

        Args:
            waiting: for how long those wait who still do, seconds; they count in the
                percentile, so that a queue that does not move is seen.
        """
        self.samples.append((self._turns, len(waiting), p99([*self._waits, *waiting])))
        self._turns = 0
        self._waits.clear()


def p99(seconds: Sequence[float]) -> int:
    """The 99th percentile in milliseconds, 0 of nothing."""
    if not seconds:
        return 0
    return max(0, round(1000 * sorted(seconds)[math.ceil(0.99 * len(seconds)) - 1]))


def merged(histories: Sequence[tuple[float, Sequence[Sequence[int]]]]) -> dict[str, Any]:
    """The charts of several processes' samples, laid side by side by their age.

    Args:
        histories: seconds since the newest sample, and the samples, of each.

    Returns:
        `step` (seconds), and of each step, oldest first: `turns` a second, all that were
        `waiting`, and the largest p99 as `wait` (seconds); None where nobody has a sample.
    """
    steps: list[list[Sequence[int]]] = [[] for _ in range(SAMPLES)]
    for age, samples in histories:
        newest = SAMPLES - 1 - int(age / STEP)
        for back, sample in enumerate(reversed(samples)):
            if newest - back >= 0:
                steps[newest - back].append(sample)
    while len(steps) > 1 and not steps[0]:
        del steps[0]
    return {
        "step": STEP,
        "turns": [sum(s[0] for s in step) / STEP if step else None for step in steps],
        "waiting": [sum(s[1] for s in step) if step else None for step in steps],
        "wait": [max(s[2] for s in step) / 1000 if step else None for step in steps],
    }
