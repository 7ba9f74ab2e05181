"""Judges of small histories by brute force, for the checker to be checked against.

`by_pairs` applies the definition of each violation to every pair of operations. `possible` does not
know the definitions: it tries all orders in which turns can have been granted and messages finished.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

from ticketlock.checker import Fault, History, Operation

Found = set[tuple[str, int]]


class Turn:
    """A granted turn with what its process did in it."""

    def __init__(self, grant: Operation, operations: list[Operation]) -> None:
        self.grant = grant
        mine = [one for one in operations if one.process == grant.process]
        later = [one for one in mine if one.invoked > grant.invoked]
        ends = [
            one.invoked
            for one in later
            if one.kind in ("acquire", "begin", "release", "finish")
        ]  # fmt: skip
        end = min(ends, default=math.inf)
        uses = [one for one in later if one.kind not in ("acquire", "begin", "submit")]
        uses = [one for one in uses if one.invoked <= end]
        leases = [one.lease_until for one in (grant, *uses) if one.lease_until is not None]
        lease = grant.lease_until if grant.lease_until is not None else math.inf
        self.since = max(grant.invoked, min(grant.completed, lease))
        used = max([grant.completed, *(one.invoked for one in uses)])
        self.until = min(used, max(leases, default=math.inf))


def _turns(operations: list[Operation]) -> list[Turn]:
    found = [
        Turn(one, operations)
        for one in operations
        if one.kind in ("acquire", "begin") and one.outcome == "ok"
    ]
    if all(turn.grant.fence is not None for turn in found):
        return sorted(found, key=lambda turn: (turn.grant.fence, turn.since))
    return sorted(found, key=lambda turn: turn.since)


def _troubled(history: History, one: Operation) -> bool:
    names = one.process, one.process.split("/")[0]
    return any(
        fault.process in names and not fault.loses
        and fault.since <= one.completed
        and one.invoked <= fault.until
        for fault in history.faults
    )  # fmt: skip


def _unconfirmed(history: History, one: Operation) -> bool:
    told = [fault for fault in history.faults if fault.process is not None and fault.loses]
    troubled = History([], [replace(fault, loses=False) for fault in told])
    return _troubled(troubled, one)


def _losses(history: History, conversation: str, *, durable: bool) -> list[Fault]:
    """Those of the servers; without `durable` those that lose what is durable too."""
    faults = [f for f in history.faults if f.process is None and f.loses]
    faults = [f for f in faults if f.conversations is None or conversation in f.conversations]
    return [f for f in faults if durable or not f.durable]


def _lost_data(
    history: History, one: Operation, since: float, until: float, *, durable: bool = False
) -> bool:
    found = _losses(history, one.conversation, durable=durable)
    return any(f.since <= until and since <= f.until for f in found)


def _end(history: History) -> float:
    moments = [x for one in history.operations for x in (one.invoked, one.completed)]
    return max((x for x in moments if x < math.inf), default=0.0)


def by_pairs(history: History, lease: float, bound: float) -> tuple[Found, Found]:
    """The violations, and those that a loss of data excuses: kind and `id` of the operation."""
    broken, excused = Found(), Found()
    for conversation in {one.conversation for one in history.operations}:
        mine = [one for one in history.operations if one.conversation == conversation]
        for kind, one, forgotten in itertools.chain(
            _of_turns(history, mine, lease, bound), _of_writes(mine), _of_messages(history, mine)
        ):
            (excused if forgotten else broken).add((kind, id(one)))
    return broken, excused - broken


def _of_turns(
    history: History, operations: list[Operation], lease: float, bound: float
) -> Iterator[tuple[str, Operation, bool]]:
    for a, b in itertools.combinations(_turns(operations), 2):  # a before b
        if a.until > b.since:
            until, known = min(a.until, b.until), a.grant.lease_until
            early = (known is not None and known < b.since) or _unconfirmed(history, a.grant)
            yield (
                "overlap",
                b.grant,
                any(
                    f.since <= b.since and until <= f.until + lease
                    for f in _losses(history, b.grant.conversation, durable=early)
                ),
            )
        place = b.grant.arrived
        if b.grant.kind == a.grant.kind == "acquire" and place is not None:  # noqa: SIM102
            if place < a.grant.invoked and not _troubled(history, b.grant):
                within = b.grant.invoked, b.grant.completed
                yield "overtaken", b.grant, _lost_data(history, b.grant, *within, durable=True)
    for a, b in itertools.permutations((turn.grant for turn in _turns(operations)), 2):
        if a.fence is None or b.fence is None:
            continue
        again = a.fence == b.fence and (a.completed, a.invoked) < (b.completed, b.invoked)
        if again or (a.completed < b.invoked and a.fence > b.fence):
            yield "fence_order", b, False
    end = _end(history)
    for one in operations:
        if one.kind == "acquire" and min(one.completed, end) - one.invoked > bound:  # noqa: SIM102
            if not _troubled(history, one):
                yield "long_wait", one, False


def _of_writes(operations: list[Operation]) -> Iterator[tuple[str, Operation, bool]]:
    writes = [one for one in operations if one.kind == "write" and one.outcome == "ok"]
    ranks: dict[int, float | None] = {id(one): one.fence for one in writes}
    if None in ranks.values():
        for write in writes:
            begun = [
                (one.invoked, one)
                for one in operations
                if one.process == write.process
                and one.kind in ("acquire", "begin")
                and one.invoked < write.invoked
            ]
            last = max(begun, default=(0, None), key=lambda pair: pair[0])[1]
            places = [turn.grant for turn in _turns(operations)]
            ranks[id(write)] = places.index(last) if last in places else None
        writes = [write for write in writes if ranks[id(write)] is not None]
    placed = all(write.position is not None for write in writes)
    for a, b in itertools.permutations(writes, 2):
        before = a.position < b.position if placed else a.completed < b.invoked
        if before and ranks[id(a)] > ranks[id(b)]:
            yield "stale_write", b, False


def _of_messages(
    history: History, operations: list[Operation]
) -> Iterator[tuple[str, Operation, bool]]:
    end = _end(history)
    known = {one.message for one in operations if one.message is not None}
    submits, finishes, doubt = dict[str, list[Operation]](), dict[str, list[Operation]](), set()
    for name in known:
        mine = [one for one in operations if one.message == name]
        submits[name] = [x for x in mine if x.kind == "submit" and x.outcome != "fail"]
        done = [x for x in mine if x.kind == "finish"]
        finishes[name] = sorted((x for x in done if x.outcome == "ok"), key=lambda x: x.completed)
        if any(x.outcome == "unknown" for x in done):
            doubt.add(name)
    for name in known:
        accepted = [x for x in submits[name] if x.outcome == "ok"]
        accepted = sorted(accepted, key=lambda x: x.completed)[:1]
        done = finishes[name]
        if accepted and not done and name not in doubt:
            early = _unconfirmed(history, accepted[0])
            within = accepted[0].invoked, end
            yield "lost", accepted[0], _lost_data(history, accepted[0], *within, durable=early)
        for again in done[1:]:
            within = done[0].invoked, again.completed
            early = any(
                f.process is not None and f.loses and f.since <= within[1] and within[0] <= f.until
                for f in history.faults
            )
            yield "duplicated", again, _lost_data(history, again, *within, durable=early)
        if not accepted or not done or name in doubt:
            continue
        for other in known - {name}:
            if not finishes[other] or not submits[other]:
                continue
            later = min(x.invoked for x in submits[other]) > accepted[0].completed
            if later and finishes[other][0].completed < done[0].invoked:
                since, until = accepted[0].invoked, done[0].completed
                yield "out_of_order", done[0], _lost_data(history, done[0], since, until)


def possible(history: History) -> tuple[bool, bool]:
    """Whether some order of the grants, and some order of the finished messages, explains it all.

    Faults excuse nothing, and nothing is asked of writes and waits.
    """
    turns, queues = True, True
    for conversation in {one.conversation for one in history.operations}:
        mine = [one for one in history.operations if one.conversation == conversation]
        turns &= any(map(_explains, itertools.permutations(_turns(mine))))
        queues &= _queue_possible(mine)
    return turns, queues


def _explains(order: tuple[Turn, ...]) -> bool:
    """Whether turns can have been granted in this order."""
    fenced = all(turn.grant.fence is not None for turn in order)
    for a, b in itertools.combinations(order, 2):
        if b.grant.completed < a.grant.invoked or a.until > b.since:
            return False
        if fenced and (a.grant.fence or 0) >= (b.grant.fence or 0):
            return False
        place = b.grant.arrived
        if b.grant.kind == a.grant.kind == "acquire" and place is not None:  # noqa: SIM102
            if place < a.grant.invoked:
                return False
    return True


def _queue_possible(operations: list[Operation]) -> bool:
    """Whether messages can have been finished in some order, each after those before it."""
    done: dict[str, tuple[float, float, float, float]] = {}
    for name in {one.message for one in operations if one.message is not None}:
        mine = [one for one in operations if one.message == name]
        finish = [x for x in mine if x.kind == "finish" and x.outcome != "fail"]
        submit = [x for x in mine if x.kind == "submit" and x.outcome != "fail"]
        certain = [x for x in finish if x.outcome == "ok"]
        if not certain or not submit:
            continue
        first = min(certain, key=lambda x: x.completed)
        (sent,) = submit  # `Small` submits once
        # What was finished was accepted; where its submission got no answer, at any time after it.
        accepted = sent.completed if sent.outcome == "ok" else math.inf
        began = first.invoked if len(certain) == len(finish) else -math.inf
        done[name] = sent.invoked, accepted, began, first.completed
    for order in itertools.permutations(done.values()):
        if all(
            not (b[1] < a[0]) and not (b[3] < a[2]) for a, b in itertools.combinations(order, 2)
        ):
            return True
    return not done
