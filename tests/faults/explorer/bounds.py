"""How far a search goes: the small bounds of the test suite, the large ones of `make explore`."""

from __future__ import annotations

from typing import Any, NamedTuple

from .search import Search
from .world import Budget


class Bound(NamedTuple):
    """So many clients, and what can happen to them.

    Attributes:
        options: of the clients; see `Client`.
    """

    clients: int
    budget: Budget
    options: dict[str, Any] = {}  # noqa: RUF012  # nobody changes it

    def search(self) -> Search:
        return Search(self.clients, self.budget, **self.options)


#: A lease that is over after one tick, so that few ticks say much.
SHORT: dict[str, Any] = {"lease": 1.0}

#: All turns are for one message: one of them handles it.
MESSAGE = {**SHORT, "message": True}

#: Each is searched to its end, in seconds.
SMALL = {
    "a broken connection": Bound(2, Budget(drops=1, lates=1, cancels=1)),
    "a broken connection among three": Bound(3, Budget(drops=1)),
    "time and heartbeats": Bound(2, Budget(ticks=1, beats=1), SHORT),
    "answers read late": Bound(2, Budget(ticks=2), SHORT),
    "a lost reply, and time": Bound(2, Budget(ticks=1, drops=1), SHORT),
    "a crash": Bound(2, Budget(ticks=2, crashes=1), SHORT),
    "one message": Bound(2, Budget(drops=1, cancels=1), MESSAGE),
    "one message, and time": Bound(2, Budget(ticks=1), MESSAGE),
    "two turns each": Bound(2, Budget(turns=2)),
    "closed and used again": Bound(1, Budget(turns=2, cancels=1, closes=1), {"slow": True}),
}

LARGE = {
    "time and a heartbeat": Bound(2, Budget(ticks=2, beats=1)),
    "time and two heartbeats": Bound(2, Budget(ticks=1, beats=2), SHORT),
    "late answers, and heartbeats": Bound(2, Budget(ticks=4, drops=1, beats=1)),
    "short leases": Bound(2, Budget(ticks=3, drops=1, beats=2, cancels=1), SHORT),
    "a broken connection and time": Bound(2, Budget(ticks=2, drops=1, lates=1, cancels=1)),
    "a broken connection among three, late": Bound(3, Budget(drops=1, lates=1, cancels=1)),
    "two broken connections": Bound(2, Budget(drops=2, lates=2, cancels=1)),
    "more heartbeats": Bound(2, Budget(ticks=4, beats=2)),
    "tickets taken first": Bound(2, Budget(ticks=3, beats=1, drops=1), {"queue_first": True}),
    "two turns each, and some given up": Bound(2, Budget(turns=2, cancels=1)),
    "one message, time and a heartbeat": Bound(2, Budget(ticks=1, beats=1), MESSAGE),
    "one message, and a crash": Bound(2, Budget(ticks=3, crashes=1, beats=1), MESSAGE),
    "one message among three": Bound(3, Budget(ticks=2, crashes=1, drops=1), MESSAGE),
    "crashes": Bound(2, Budget(ticks=4, crashes=1, beats=2, drops=1)),
    "a crash among three": Bound(3, Budget(ticks=3, crashes=1, beats=1)),
    "two closed and used again": Bound(2, Budget(turns=2, cancels=1, closes=1), {"slow": True}),
    "closed and used again in time": Bound(
        2, Budget(turns=2, closes=1, cancels=1, ticks=4, beats=2), {"slow": True}
    ),
    "everything": Bound(
        2, Budget(turns=2, ticks=5, drops=2, lates=1, crashes=1, cancels=1, beats=3)
    ),
}
