"""What a replica has done: counted since its start, and in samples for the charts."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
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
    """The samples of one process, oldest first; times are milliseconds of one step.

    Attributes:
        samples: (turns ended, messages waiting, p99 of waits).
        spread: (p50 of waits, p50 and p99 of the turns that ended).
    """

    def __init__(self) -> None:
        self.samples: deque[tuple[int, int, int]] = deque(maxlen=SAMPLES)
        self.spread: deque[tuple[int, int, int]] = deque(maxlen=SAMPLES)
        self._turns = 0
        self._waits: list[float] = []
        self._durations: list[float] = []

    def ended(self, wait: float, took: float = 0.0) -> None:
        """A turn has ended that had been waited for, and that took, so many seconds."""
        self._turns += 1
        if len(self._waits) < _WAITS:
            self._waits.append(wait)
            self._durations.append(took)

    def sample(self, waiting: Sequence[float]) -> None:
        """End a step.

        Args:
            waiting: for how long those wait who still do, seconds; they count in the
                percentiles, so that a queue that does not move is seen.
        """
        waits, took = sorted([*self._waits, *waiting]), sorted(self._durations)
        self.samples.append((self._turns, len(waiting), percentile(waits, 99)))
        self.spread.append((percentile(waits, 50), percentile(took, 50), percentile(took, 99)))
        self._turns = 0
        self._waits.clear()
        self._durations.clear()


def percentile(ascending: Sequence[float], percent: int) -> int:
    """A percentile of seconds in ascending order, in milliseconds; 0 of nothing."""
    if not ascending:
        return 0
    place = math.ceil(percent * len(ascending) / 100) - 1
    return max(0, round(1000 * ascending[max(0, place)]))


#: What is drawn -> its place in a `spread`.
_SPREAD = {"wait_p50": 0, "turn_p50": 1, "turn_p99": 2}


def merged(told: Sequence[tuple[float, Mapping[str, Any]]]) -> dict[str, Any]:
    """The charts of several processes' samples, laid side by side by their age.

    Args:
        told: seconds since the newest sample, and `samples`, `spread` and `failed`, of each.

    Returns:
        `step` (seconds), and of each step, oldest first: `turns` a second, all that were
        `waiting`, the largest of the replicas' percentiles (seconds) as `wait_p50`, `wait`,
        `turn_p50`, `turn_p99`, and how many `failed`, by kind; None where nobody has a sample.
    """
    samples = _by_step([(age, one["samples"]) for age, one in told])
    spread = _by_step([(age, one["spread"]) for age, one in told])
    failed = _by_step([(age, one["failed"]) for age, one in told])
    first = next((i for i, step in enumerate(samples) if step), SAMPLES - 1)
    made: dict[str, Any] = {
        "turns": [sum(s[0] for s in step) / STEP if step else None for step in samples],
        "waiting": [sum(s[1] for s in step) if step else None for step in samples],
        "wait": [max(s[2] for s in step) / 1000 if step else None for step in samples],
    }
    for name, i in _SPREAD.items():
        made[name] = [max(s[i] for s in step) / 1000 if step else None for step in spread]
    kinds = sorted({kind for step in failed for one in step for kind in one})
    made = {name: values[first:] for name, values in made.items()}
    made["failed"] = {
        kind: [sum(one.get(kind, 0) for one in step) for step in failed[first:]] for kind in kinds
    }
    return {"step": STEP, **made}


def _by_step(histories: Sequence[tuple[float, Sequence[Any]]]) -> list[list[Any]]:
    """What there is of each step, oldest first."""
    steps: list[list[Any]] = [[] for _ in range(SAMPLES)]
    for age, samples in histories:
        newest = SAMPLES - 1 - int(age / STEP)
        for back, sample in enumerate(reversed(samples)):
            if newest - back < 0:
                break
            steps[newest - back].append(sample)
    return steps
