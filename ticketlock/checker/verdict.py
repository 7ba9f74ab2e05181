"""What a checker finds in a history."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from .operations import Operation

#: Every kind of violation, in the order of reports.
VIOLATIONS = {
    "overlap": "a turn was granted while another process held one that was certainly valid",
    "overtaken": "a turn was granted before that of a living process whose place was certain before",
    "fence_order": "a grant's fence is not higher than that of an earlier grant",
    "stale_write": "the store accepted a write after one of a later turn",
    "lost": "a message was submitted and not finished",
    "duplicated": "a message was finished again",
    "out_of_order": "a message was finished after one that was submitted later",
    "long_wait": "a living process waited for longer than the bound",
}


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise.

    Attributes:
        kind: one of `VIOLATIONS`.
        operation: the one that must not be.
        against: the one that forbids it; None: none alone.
        since, until: the time that shows it, seconds of the history's clock.
        why: what is wrong, in words.
    """

    kind: str
    operation: Operation
    against: Operation | None
    since: float
    until: float
    why: str

    @property
    def conversation(self) -> str:
        """The conversation of the operation."""
        return self.operation.conversation

    @property
    def seconds(self) -> float:
        """How long it lasted; 0 where it did not last."""
        return max(0.0, self.until - self.since)

    def __str__(self) -> str:
        return f"{self.kind}: conversation {self.conversation!r}: {self.why}"


@dataclass
class Verdict:
    """The result of `check`.

    Attributes:
        violations: the promises that were broken.
        forgotten: what would be violations, had the servers not forgotten what they had answered.
        operations, grants: how many there were.
        accepted, refused: writes.
        submitted, finished: messages.
        longest_wait: seconds from the call of an acquire to its grant; the longest.
    """

    violations: list[Violation] = field(default_factory=list)
    forgotten: list[Violation] = field(default_factory=list)
    operations: int = 0
    grants: int = 0
    accepted: int = 0
    refused: int = 0
    submitted: int = 0
    finished: int = 0
    longest_wait: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether every promise was kept."""
        return not self.violations

    @property
    def longest_overlap(self) -> float:
        """Seconds of the longest overlap, those of `forgotten` included."""
        found = (*self.violations, *self.forgotten)
        return max((one.seconds for one in found if one.kind == "overlap"), default=0.0)

    def counts(self) -> dict[str, int]:
        """Kind -> violations, all kinds."""
        found = Counter(one.kind for one in self.violations)
        return {kind: found[kind] for kind in VIOLATIONS}

    def as_json(self) -> dict[str, Any]:
        """The figures, and the violations in words, as a JSON object."""
        return {
            "ok": self.ok,
            **{
                name: value for name, value in vars(self).items() if isinstance(value, (int, float))
            },
            "longest_overlap": self.longest_overlap,
            "violations": self.counts(),
            "forgotten": dict(Counter(one.kind for one in self.forgotten)),
            "examples": [str(one) for one in self.violations[:10]],
        }


def moment(seconds: float) -> str:
    """A time of a history, for texts."""
    return "never" if math.isinf(seconds) else f"{seconds:.3f}"
