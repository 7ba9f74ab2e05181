"""How soon conversations went on after a fault, as a history shows it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..checker import Fault, History, Operation

#: The kind of a fault that lasts as long as a shard has no master.
NO_MASTER = "no master"


def after_kills(history: History) -> float:
    """Seconds from the kill of a worker to the next grant in a conversation that it held, without
    the time in which no process waited there; the longest."""
    killed = {f.process: f.since for f in history.faults if f.kind == "kill"}
    held: dict[str, tuple[str, float]] = {}
    for one in history.operations:
        worker = one.process.partition("/")[0]
        if worker in killed and one.kind == "acquire" and one.outcome == "ok":
            held[one.process] = one.conversation, one.invoked
    for one in history.operations:
        if one.kind == "release" and one.invoked > held.get(one.process, ("", math.inf))[1]:
            del held[one.process]
    found = (
        _waited(history, conversation, killed[process.partition("/")[0]])
        for process, (conversation, _) in held.items()
    )
    return max(found, default=0.0)


def takeovers(history: History) -> list[float]:
    """Seconds for which shards had no master."""
    return [fault.until - fault.since for fault in _takeovers(history)]


def after_takeovers(history: History) -> float:
    """Seconds from the moment at which a shard had a master again to the next grant in each of its
    conversations, without the time in which no process waited there; the longest.

    Conversations in which a process was troubled meanwhile do not count.
    """
    longest = 0.0
    for fault in _takeovers(history):
        for name in fault.conversations or ():
            waited = _waited(history, name, fault.until)
            if not _troubled(history, fault, fault.until + waited):
                longest = max(longest, waited)
    return longest


def _takeovers(history: History) -> Iterator[Fault]:
    for fault in history.faults:
        if fault.kind == NO_MASTER and math.isfinite(fault.until):
            yield fault


def _troubled(history: History, fault: Fault, until: float) -> bool:
    """Whether processes were troubled between the begin of a fault and a moment."""
    return any(
        one.process is not None
        and not one.loses
        and one.since <= until
        and one.until >= fault.since
        for one in history.faults
    )


def _waited(history: History, conversation: str, since: float) -> float:
    """Seconds from a moment to the next grant of a conversation, or from its call if that is later."""
    later = [
        one
        for one in history.operations
        if one.conversation == conversation and _granted(one) and one.completed > since
    ]
    first = min(later, key=lambda one: one.completed, default=None)
    return 0.0 if first is None else first.completed - max(since, first.invoked)


def _granted(one: Operation) -> bool:
    return one.kind == "acquire" and one.outcome == "ok"
