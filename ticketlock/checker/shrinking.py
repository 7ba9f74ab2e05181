"""The part of a history that shows a violation."""

from __future__ import annotations

from collections.abc import Sequence

from .history import History
from .operations import Operation
from .verdict import Violation

#: Of the time that shows a violation: how much more is kept before and behind it.
_MARGIN = 0.1

Turn = list[Operation]


def shrunk(history: History, violation: Violation) -> History:
    """The turns and messages of the conversation in the time that shows the violation."""
    since, until = window(violation)
    mine = [one for one in history.operations if one.conversation == violation.conversation]
    kept = [
        one
        for turn in turns(mine)
        if turn[0].invoked <= until and _end(turn) >= since
        for one in turn
    ]
    faults = [fault for fault in history.faults if fault.since <= until and fault.until >= since]
    return History(kept, faults, limit=max(history.limit, len(kept)))


def window(violation: Violation) -> tuple[float, float]:
    """The time that shows a violation, and a margin."""
    involved = [one for one in (violation.operation, violation.against) if one is not None]
    since = min(violation.since, violation.until)
    until = max(violation.since, violation.until, *(one.invoked for one in involved))
    margin = max(0.001, _MARGIN * (until - since))
    return since - margin, until + margin


def turns(operations: Sequence[Operation]) -> list[Turn]:
    """The operations of each turn; each submission of a message is one of its own."""
    found: list[Turn] = []
    current: dict[str, Turn] = {}
    for one in sorted(operations, key=lambda one: one.invoked):
        if one.kind in ("acquire", "begin", "submit") or one.process not in current:
            found.append([one])
            if one.kind != "submit":
                current[one.process] = found[-1]
        else:
            current[one.process].append(one)
    return found


def _end(turn: Turn) -> float:
    return max(one.completed for one in turn)
