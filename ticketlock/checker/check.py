"""The checker: which promises a history breaks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from . import messages, turns
from .history import History
from .operations import Fault, Operation
from .verdict import Verdict, Violation

#: Seconds; the default lease of the lock stores.
LEASE = 5.0


def check(history: History, *, lease: float = LEASE, wait_bound: float | None = None) -> Verdict:
    """Judge a history of any lock, fences and messages optional. Takes n log n steps.

    Only what is certain counts, whatever happened between the call of an operation and its
    return. What servers can have caused that lost data (`Fault.loses`) is not among `violations`,
    but in `forgotten`: order and messages of the time in which they did, and overlaps that end
    within a lease after it. Stale writes and fences have no excuse. A loss of what did not have to be
    durable (`Fault.durable`) explains less: that a waiting ticket was overtaken, an overlap with a
    turn that only renewals had kept, and what was answered to a process that waited for nothing.

    Args:
        lease: seconds for which a turn is believed after a loss of data.
        wait_bound: seconds that a living process may wait; None: for ever.
    """
    verdict, end = Verdict(), history.until
    excuses = _Excuses(history.faults, lease)
    conversations: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in history.operations:
        _count(verdict, operation)
        conversations[operation.conversation].append(operation)
    for operations in conversations.values():
        operations.sort(key=lambda one: one.invoked)
        for violation in _found(operations, excuses, wait_bound, end):
            excused = excuses.forgot(violation)
            (verdict.forgotten if excused else verdict.violations).append(violation)
    return verdict


def _count(verdict: Verdict, operation: Operation) -> None:
    verdict.operations += 1
    kind, happened = operation.kind, operation.outcome == "ok"
    if kind == "acquire" and happened:
        waited = operation.completed - operation.invoked
        verdict.longest_wait = max(verdict.longest_wait, waited)
    verdict.grants += happened and kind in ("acquire", "begin")
    verdict.accepted += happened and kind == "write"
    verdict.refused += kind == "write" and operation.outcome == "fail"
    verdict.submitted += happened and kind == "submit"
    verdict.finished += happened and kind == "finish"


def _found(
    operations: list[Operation], excuses: _Excuses, wait_bound: float | None, end: float
) -> Iterator[Violation]:
    ordered = turns.holdings(operations)
    yield from turns.overlaps(ordered, excuses.unconfirmed, excuses.forgot)
    yield from turns.overtaken(ordered, excuses.living)
    yield from turns.fences(ordered)
    yield from turns.stale_writes(operations, ordered)
    if wait_bound is not None:
        yield from turns.long_waits(operations, wait_bound, end, excuses.living)
    found = messages.messages(operations)
    yield from messages.lost(found, end)
    yield from messages.duplicated(found)
    yield from messages.out_of_order(found)


class _Excuses:
    """The faults of processes and servers."""

    def __init__(self, faults: list[Fault], lease: float) -> None:
        self._lease = lease
        self._losses = [fault for fault in faults if fault.process is None and fault.loses]
        self._served = [fault for fault in faults if fault.process is not None and fault.loses]
        self._of: defaultdict[tuple[str, bool], list[Fault]] = defaultdict(list)
        for fault in faults:
            if fault.process is not None:
                self._of[fault.process, fault.loses].append(fault)

    def living(self, wait: Operation) -> bool:
        """Whether its process was not troubled while it waited."""
        return not self._beside(wait, loses=False)

    def _beside(self, one: Operation, *, loses: bool) -> bool:
        """Whether the process of an operation had a fault meanwhile."""
        worker = one.process.partition("/")[0]
        return any(
            fault.since <= one.completed and fault.until >= one.invoked
            for name in {one.process, worker}
            for fault in self._of.get((name, loses), ())
        )

    def forgot(self, violation: Violation) -> bool:
        """Whether a loss of data explains it."""
        if violation.kind in ("fence_order", "stale_write", "long_wait"):
            return False
        losses = [
            loss
            for loss in self._losses
            if loss.conversations is None or violation.conversation in loss.conversations
        ]
        if not self._unwaited(violation):
            losses = [loss for loss in losses if not loss.durable]
        if violation.kind == "overlap":
            return any(
                loss.since <= violation.since and violation.until <= loss.until + self._lease
                for loss in losses
            )
        return any(
            loss.since <= violation.until and loss.until >= violation.since for loss in losses
        )

    def _unwaited(self, violation: Violation) -> bool:
        """Whether it shows the loss of something that nothing has waited for to be durable."""
        kind, against = violation.kind, violation.against
        if kind == "overlap" and against is not None:
            return self.unconfirmed(against) or turns.lease(against) < violation.since
        if kind == "lost":
            return self.unconfirmed(violation.operation)
        if kind == "duplicated":  # its end was lost, and a turn behind it did not wait
            return any(
                fault.since <= violation.until and fault.until >= violation.since
                for fault in self._served
            )
        return kind == "overtaken"

    def unconfirmed(self, one: Operation) -> bool:
        """Whether the process of an operation was told of it before it was durable."""
        return self._beside(one, loses=True)
