"""Counters of a replica since its start, and samples for the charts."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Seconds between two samples.
STEP = 2
#: Samples to keep: five minutes.
SAMPLES = 150
#: Most waits of a step that count; more do not improve its percentile.
_WAITS = 5000


@dataclass
class Counters:
    """Messages since the start of the process.

    Attributes:
        handled: answered by the bot.
        duplicates: answered with the first replies.
        rejected: refused with status 409 or 429.
        errors: failed with status 500 or above.
    """

    handled: int = 0
    duplicates: int = 0
    rejected: int = 0
    errors: int = 0

    def answered(self, status: int) -> None:
        """Count an answer, if it is a refusal or a failure."""
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
        """Count a turn that has ended, with the seconds of its wait and of itself."""
        self._turns += 1
        if len(self._waits) < _WAITS:
            self._waits.append(wait)
            self._durations.append(took)

    def sample(self, waiting: Sequence[float]) -> None:
        """End a step.

        Args:
            waiting: seconds of each wait that goes on; they count in the percentiles, so that
                a queue that does not move shows.
        """
        waits, took = sorted([*self._waits, *waiting]), sorted(self._durations)
        self.samples.append((self._turns, len(waiting), percentile(waits, 99)))
        self.spread.append((percentile(waits, 50), percentile(took, 50), percentile(took, 99)))
        self._turns = 0
        self._waits.clear()
        self._durations.clear()


def percentile(ascending: Sequence[float], percent: int) -> int:
    """A percentile of ascending seconds, in milliseconds; 0 if there are none."""
    if not ascending:
        return 0
    place = math.ceil(percent * len(ascending) / 100) - 1
    return max(0, round(1000 * ascending[max(0, place)]))


#: Line of the chart -> its place in a `spread`.
_SPREAD = {"wait_p50": 0, "turn_p50": 1, "turn_p99": 2}


def merged(processes: Sequence[tuple[float, Mapping[str, Any]]]) -> dict[str, Any]:
    """The charts of several processes, whose samples are aligned by age.

    Args:
        processes: of each the age of its newest sample (seconds), and a mapping with `samples`,
            `spread` and `failed`.

    Returns:
        `step` (seconds), and for each step, oldest first: `turns` per second, `waiting`
        messages, the largest percentile of all replicas (seconds) as `wait_p50`, `wait`,
        `turn_p50` and `turn_p99`, and the number `failed`, by kind; None without a sample.
    """
    samples = _by_step([(age, one["samples"]) for age, one in processes])
    spread = _by_step([(age, one["spread"]) for age, one in processes])
    failed = _by_step([(age, one["failed"]) for age, one in processes])
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
    """The samples of each step, oldest first."""
    steps: list[list[Any]] = [[] for _ in range(SAMPLES)]
    for age, samples in histories:
        newest = SAMPLES - 1 - int(age / STEP)
        for back, sample in enumerate(reversed(samples)):
            if newest - back < 0:
                break
            steps[newest - back].append(sample)
    return steps
