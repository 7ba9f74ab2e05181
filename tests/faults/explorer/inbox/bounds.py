"""How far a search goes: the small bounds of the test suite, the large ones of `make explore`."""

from __future__ import annotations

from typing import Any, NamedTuple

from .search import Search
from .state import Budget, Message


class Bound(NamedTuple):
    """Messages, what can happen to them, and the options of `Search`."""

    messages: tuple[Message, ...]
    budget: Budget
    options: dict[str, Any] = {}  # noqa: RUF012  # nobody changes it

    def search(self, **options: Any) -> Search:
        return Search(self.messages, self.budget, **{**self.options, **options})


A, B, SAME = Message("a"), Message("b", 1), Message("b")
COALESCED = Message("b", 0, "coalesce")
REJECTED = Message("b", 1, "enqueue", 0)
ALONE: dict[str, Any] = {"rooms": (1,)}
CLUSTER: dict[str, Any] = {"cluster": True}

#: Each is searched to its end, in seconds.
SMALL = {
    "a lost reply": Bound((A, SAME), Budget(drops=2, lates=1), {**ALONE, "within": 0}),
    "a lost reply, and time": Bound((A,), Budget(ticks=2, drops=1, lates=1, looks=1)),
    "a crash": Bound((A, B), Budget(ticks=2, crashes=1)),
    "no room": Bound((A, B), Budget(ticks=1, looks=1), {"rooms": (0, 1)}),
    "failures": Bound((A, SAME), Budget(ticks=1, faults=2, looks=1), ALONE),
    "withdrawn": Bound((A, SAME), Budget(ticks=1, revokes=1, looks=1, crashes=1), ALONE),
    "carried": Bound((A, COALESCED), Budget(ticks=2, carries=1, looks=1, crashes=1), ALONE),
    "interrupted": Bound((A, Message("b", 1, "interrupt")), Budget(ticks=1, looks=1, beats=1)),
    "rejected": Bound((A, REJECTED), Budget(ticks=1, crashes=1)),
    "beside plain tickets": Bound((A,), Budget(ticks=1, plains=1, beats=1)),
    "fences raised": Bound((A, B), Budget(ticks=1, raises=1, looks=1)),
    "broken": Bound((A, SAME), Budget(breaks=1, looks=1), ALONE),
    "hours": Bound((A,), Budget(looks=1, crashes=2, longs=1, plains=1)),
    "the version before": Bound((A, SAME), Budget(ticks=1, olds=2, looks=1), ALONE),
    "a key is evicted": Bound((A, SAME), Budget(ticks=1, evicts=1, looks=1), ALONE),
    "a cluster": Bound((A, B), Budget(looks=2), {**CLUSTER, "rooms": (1, 0)}),
}  # fmt: skip

LARGE = {
    "late": Bound((A, B), Budget(ticks=2, drops=1, lates=1, looks=1)),
    "crashes and looks": Bound((A, B), Budget(ticks=2, crashes=1, looks=1, beats=1)),
    "among three": Bound(
        (A, B, Message("x", 2)), Budget(ticks=1, crashes=1, looks=1), {"rooms": (1, 1, 1)}
    ),
    "failures, late, withdrawn": Bound(
        (A, B), Budget(ticks=1, faults=1, looks=1, revokes=1, drops=1, lates=1)
    ),
    "carried, withdrawn, failed": Bound(
        (A, COALESCED, Message("x", 1, "coalesce")),
        Budget(ticks=1, carries=1, crashes=1, looks=1, revokes=1, faults=1),
    ),
    "stops withdrawn": Bound(
        (A, Message("b", 1, "interrupt"), Message("x", 0, "rollback")),
        Budget(ticks=1, crashes=1, looks=1, beats=1, revokes=1, faults=1),
    ),
    "rejected late": Bound((A, REJECTED), Budget(ticks=2, looks=1, crashes=1, drops=1)),
    "plain tickets and a crash": Bound(
        (A, B), Budget(ticks=2, plains=1, beats=2, looks=1, crashes=1)
    ),
    "broken beside plain tickets": Bound(
        (A, B), Budget(ticks=1, breaks=2, looks=1, plains=1, beats=1)
    ),
    "hours, all dead": Bound((A, B), Budget(ticks=1, looks=1, crashes=2, longs=1, plains=1)),
    "the version before, and a crash": Bound((A, B), Budget(ticks=2, olds=3, looks=1, crashes=1)),
    "keys are evicted": Bound((A, B), Budget(ticks=2, evicts=2, looks=1, crashes=1)),
    "a cluster, late": Bound((A, B), Budget(ticks=1, looks=3, drops=1, lates=1), CLUSTER),
    "a cluster, withdrawn": Bound((A, B), Budget(ticks=1, looks=2, revokes=1, drops=1), CLUSTER),
    "a cluster, and a crash": Bound((A, B), Budget(ticks=2, looks=2, crashes=1), CLUSTER),
}
