"""The promises of a lock, judged in one conversation.

Only what is certain is a violation. A turn is certainly held from the moment at which its grant had
returned to the last moment at which its process used it, and not beyond its lease; a grant that
returned after its lease was given within it. Turns are ordered by fence where each grant has one,
otherwise by these first moments.
Each search keeps the extreme of what came before, so that it takes one pass over a sorted list.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .operations import Operation
from .verdict import Violation, moment


@dataclass(slots=True)
class Holding:
    """A turn that was granted.

    Attributes:
        used: the last moment at which its process took it for its own.
        lease: the last moment up to which that was known to be true.
    """

    grant: Operation
    used: float
    lease: float

    @property
    def since(self) -> float:
        """The moment by which it was certainly granted."""
        grant = self.grant
        return max(grant.invoked, min(grant.completed, lease(grant)))

    @property
    def until(self) -> float:
        """The end of the time in which it was certainly held."""
        return min(self.used, self.lease)


def holdings(operations: Sequence[Operation]) -> list[Holding]:
    """The turns of a conversation, in the order of their grants.

    Args:
        operations: in the order of their calls.
    """
    found, current = list[Holding](), dict[str, Holding]()
    for one in operations:
        if one.kind in ("acquire", "begin"):
            current.pop(one.process, None)
            if one.outcome == "ok":
                holding = Holding(one, one.completed, lease(one))
                current[one.process] = holding
                found.append(holding)
        elif one.kind in ("write", "release", "finish") and one.process in current:
            holding = current[one.process]
            holding.used = max(holding.used, one.invoked)
            if one.lease_until is not None:
                known = -math.inf if math.isinf(holding.lease) else holding.lease
                holding.lease = max(known, one.lease_until)
            if one.kind != "write":
                del current[one.process]
    fenced = all(holding.grant.fence is not None for holding in found)
    return sorted(found, key=_by_fence if fenced else _by_time)


def lease(grant: Operation) -> float:
    """Up to when a grant alone, without a renewal, is known to be one."""
    return math.inf if grant.lease_until is None else grant.lease_until


def _by_time(holding: Holding) -> tuple[float, ...]:
    return holding.since, holding.grant.invoked


def _by_fence(holding: Holding) -> tuple[float, ...]:
    return holding.grant.fence or 0, *_by_time(holding)


def overlaps(
    ordered: Sequence[Holding], unconfirmed: Callable[[Operation], bool],
    forgot: Callable[[Violation], bool],
) -> Iterator[Violation]:  # fmt: skip
    """Grants beside a turn that was granted before, and was certainly held after them.

    Args:
        unconfirmed: whether a process was told of a grant before it was durable.
        forgot: whether a loss of data explains an overlap; of several it is one that none explains.
    """

    def firm(holding: Holding) -> float:
        """The end of the time in which it is held though all renewals are lost."""
        grant = holding.grant
        return -math.inf if unconfirmed(grant) else min(holding.until, lease(grant))

    longest: Holding | None = None
    firmest, firmly = longest, -math.inf
    for holding in ordered:
        before = (one for one in (longest, firmest) if one is not None)
        found = [_overlap(holding, one) for one in before if one.until > holding.since]
        if found:
            yield next((one for one in found if not forgot(one)), found[0])
        if longest is None or holding.until > longest.until:
            longest = holding
        if (until := firm(holding)) > firmly:
            firmest, firmly = holding, until


def _overlap(holding: Holding, other: Holding) -> Violation:
    grant, since = holding.grant, holding.since
    return Violation(
        "overlap", grant, other.grant, since, min(holding.until, other.until),
        f"{_turn(grant)} was granted at {moment(since)}, and {_turn(other.grant)} was held until "
        f"{moment(other.until)}",
    )  # fmt: skip


def overtaken(
    ordered: Sequence[Holding], living: Callable[[Operation], bool]
) -> Iterator[Violation]:
    """Grants after that of a process which asked when the place of this one was certain."""
    latest: Operation | None = None
    for holding in ordered:
        grant = holding.grant
        if grant.kind != "acquire":  # a message has its place since it was submitted
            continue
        if (
            latest is not None
            and grant.arrived is not None
            and latest.invoked > grant.arrived
            and living(grant)
        ):
            yield Violation(
                "overtaken", grant, latest, grant.invoked, grant.completed,
                f"{_turn(grant)} had its place at {moment(grant.arrived)}; {_turn(latest)} asked at "
                f"{moment(latest.invoked)} and was granted before it",
            )  # fmt: skip
        if latest is None or grant.invoked > latest.invoked:
            latest = grant


def fences(ordered: Sequence[Holding]) -> Iterator[Violation]:
    """Grants whose fence is no higher than that of a grant which had returned before."""
    grants = [one.grant for one in ordered if one.grant.fence is not None and _dated(one.grant)]
    first: dict[int, Operation] = {}
    for grant in sorted(grants, key=lambda one: (one.completed, one.invoked)):
        first.setdefault(grant.fence or 0, grant)
    for grant, highest in _before(grants, lambda one: one.fence or 0):
        same = first[grant.fence or 0]
        if highest is not None and (highest.fence or 0) > (grant.fence or 0):
            same = highest
        if same is not grant:
            yield Violation(
                "fence_order", grant, same, same.completed, grant.completed,
                f"{_turn(grant)} was granted after {_turn(same)}",
            )  # fmt: skip


def _dated(grant: Operation) -> bool:
    """Whether it was granted after it was called: a message may begin long after its grant, as in a
    process that was stopped between them, but in a valid lease no other turn is granted."""
    return grant.kind != "begin" or grant.lease_until is None or grant.lease_until >= grant.invoked


def stale_writes(
    operations: Sequence[Operation], ordered: Sequence[Holding]
) -> Iterator[Violation]:
    """Writes that the store accepted after one of a later turn.

    Turns are ordered by the fences of their writes, or by their grants where a write has none.
    """
    writes = [one for one in operations if one.kind == "write" and one.outcome == "ok"]
    if all(write.fence is not None for write in writes):
        ranks = {id(write): float(write.fence or 0) for write in writes}
    else:
        ranks = _ranks(operations, ordered)
        writes = [write for write in writes if id(write) in ranks]
    positioned = all(write.position is not None for write in writes)
    before = _in_store if positioned else _before
    for write, highest in before(writes, lambda one: ranks[id(one)]):
        if highest is not None and ranks[id(highest)] > ranks[id(write)]:
            since = min(highest.invoked, write.invoked)
            until = max(highest.completed, write.completed)
            yield Violation(
                "stale_write", write, highest, since, until,
                f"a write of {_turn(write)} was accepted after one of {_turn(highest)}",
            )  # fmt: skip


def _ranks(operations: Sequence[Operation], ordered: Sequence[Holding]) -> dict[int, float]:
    """Write -> the place of its turn; without those that belong to none."""
    places = {id(holding.grant): place for place, holding in enumerate(ordered)}
    turn: dict[str, int] = {}
    found: dict[int, float] = {}
    for one in operations:
        if one.kind in ("acquire", "begin"):
            turn.pop(one.process, None)
            if id(one) in places:
                turn[one.process] = places[id(one)]
        elif one.kind == "write" and one.process in turn:
            found[id(one)] = turn[one.process]
    return found


Before = Iterator[tuple[Operation, "Operation | None"]]


def _before(operations: Sequence[Operation], rank: Callable[[Operation], float]) -> Before:
    """Each operation, and the highest one of those that had completed before it was called."""
    ended = iter(sorted(operations, key=lambda one: one.completed))
    highest, following = None, next(ended, None)
    for one in sorted(operations, key=lambda one: one.invoked):
        while following is not None and following.completed < one.invoked:
            if highest is None or rank(following) > rank(highest):
                highest = following
            following = next(ended, None)
        yield one, highest


def _in_store(operations: Sequence[Operation], rank: Callable[[Operation], float]) -> Before:
    """Each write, and the highest one of those that the store accepted before it."""
    highest = None
    for one in sorted(operations, key=lambda one: one.position or 0):
        yield one, highest
        if highest is None or rank(one) > rank(highest):
            highest = one


def long_waits(
    operations: Sequence[Operation], bound: float, end: float,
    living: Callable[[Operation], bool],
) -> Iterator[Violation]:  # fmt: skip
    """Waits of living processes for longer than `bound`; one without an end lasts to `end`."""
    for one in operations:
        until = min(one.completed, end)
        if one.kind == "acquire" and until - one.invoked > bound and living(one):
            yield Violation(
                "long_wait", one, None, one.invoked, until,
                f"process {one.process} waited for {until - one.invoked:.3f} s, above the bound of "
                f"{bound:g} s",
            )  # fmt: skip


def _turn(one: Operation) -> str:
    fence = "" if one.fence is None else f" under fence {one.fence}"
    return f"the turn of process {one.process}{fence}"
