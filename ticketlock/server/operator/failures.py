"""What went wrong in this process: counted by kind, in steps for the chart, with the last texts."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

from ...errors import TicketLockError
from ...process import clock
from ..errors import classify
from .meter import SAMPLES

#: Errors whose texts are kept, and characters of a text.
LAST, TEXT = 10, 300


@dataclass
class Failure:
    """An error of one message.

    Attributes:
        at: when, by `clock()`.
        status, reason: as in the answer to the request, whether or not anybody waited for it.
        text: what an operator may read: of an error that is not ours its type alone, for its
            text may hold anything.
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
        totals: reason -> how often since the start.
        steps: the same in each step of the charts, oldest first.
        last: the latest errors, oldest first.
    """

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()
        self.steps: deque[dict[str, int]] = deque(maxlen=SAMPLES)
        self.last: deque[Failure] = deque(maxlen=LAST)
        self._step: Counter[str] = Counter()

    def note(self, error: BaseException, conversation: str, label: str | None = None) -> None:
        """Count an error, unless it is the client's own: those are answered with 400 to 408."""
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

    def told(self) -> dict[str, Any]:
        """What the other replicas are told; ages in seconds."""
        now = clock()
        last = [{**vars(f), "ago": round(now - f.at, 1)} for f in self.last]
        for failure in last:
            del failure["at"]
        return {"reasons": dict(self.totals), "failed": list(self.steps), "errors": last}
