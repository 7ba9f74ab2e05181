"""The errors of this process: counted by kind, per step for the charts, and the last ones."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

from ...errors import TicketLockError
from ...process import clock
from ..errors import classify
from .meter import SAMPLES

#: How many errors are kept, and most characters of a text.
LAST, TEXT = 10, 300


@dataclass
class Failure:
    """An error of one message.

    Attributes:
        at: moment of `clock()`.
        status, reason: as in the answer, even if the client had disconnected.
        text: the text for operators; only the type of an error that is not a TicketLockError,
            because its text may contain anything.
    """

    at: float
    status: int
    reason: str
    conversation: str
    label: str | None
    text: str


class Failures:
    """Counts errors by their reason.

    Attributes:
        totals: reason -> number since the start.
        steps: the same for each step of the charts, oldest first.
        last: the last errors, oldest first.
    """

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()
        self.steps: deque[dict[str, int]] = deque(maxlen=SAMPLES)
        self.last: deque[Failure] = deque(maxlen=LAST)
        self._step: Counter[str] = Counter()

    def note(self, error: BaseException, conversation: str, label: str | None = None) -> None:
        """Count an error, unless it is a mistake of the client (status 400 to 408)."""
        if not isinstance(error, Exception):
            return
        status, reason, _ = classify(error)
        if status < 500 and status not in (409, 429):
            return
        self.totals[reason] += 1
        self._step[reason] += 1
        text = str(error) if isinstance(error, TicketLockError) else type(error).__name__
        self.last.append(
            Failure(clock(), status, reason, conversation, label, text[:TEXT].rstrip())
        )

    def sample(self) -> None:
        """End a step."""
        self.steps.append(dict(self._step))
        self._step.clear()

    def report(self) -> dict[str, Any]:
        """The part for the report of this process; ages in seconds."""
        now = clock()
        last = [{**vars(f), "ago": round(now - f.at, 1)} for f in self.last]
        for failure in last:
            del failure["at"]
        return {"reasons": dict(self.totals), "failed": list(self.steps), "errors": last}
