"""Small random histories of locks and inboxes: some keep every promise, others break any of them."""

from __future__ import annotations

import itertools
import math
from random import Random

from ticketlock.checker import Fault, History, Operation
from ticketlock.checker.operations import Outcome

#: Seconds from one turn to the next in a history without disorder.
STEP = 10.0


class Small:
    """Makes one history. No two moments of it are equal.

    Args:
        chance: decides everything.
    """

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._apart = itertools.count()
        self._leased, self._fenced = chance.random() < 0.6, chance.random() < 0.6
        self._durable = chance.random() < 0.4
        self._disorder = chance.choice([0.0, 0.0, 3.0, 12.0, 30.0, 30.0])
        self._positions: list[tuple[float, int]] = []
        self.history = History()

    def make(self) -> History:
        chance = self._chance
        for place in range(chance.randint(0, 5)):
            self._turn(place)
        for place in range(chance.choice([0, 0, 2, 4, 5])):
            self._message(place)
        self._place_writes()
        for _ in range(chance.choice([1, 2, 3, 4] if self._durable else [0, 0, 1, 2, 3])):
            self._fault()
        chance.shuffle(self.history.operations)
        return self.history

    def _at(self, moment: float) -> float:
        """About that moment."""
        late = self._chance.uniform(-self._disorder, self._disorder)
        return 100.0 + moment + round(late) + 1e-6 * next(self._apart)

    def _moments(self, *about: float) -> list[float]:
        return sorted(self._at(moment) for moment in about)

    def _lease(self, since: float, *, granted: bool = False) -> float | None:
        if not self._leased or self._chance.random() < 0.25:
            return None
        spans = [0.5, 5, 9, 9, 15]
        if self._durable:  # renewals count
            spans = [0.5, 0.5, 5] if granted else [15, 25]
        return since + self._chance.choice(spans) + 1e-6 * next(self._apart)

    def _outcome(self) -> Outcome:
        return self._chance.choice(["ok", "ok", "ok", "ok", "ok", "fail", "unknown"])

    def _turn(self, place: int) -> None:
        chance, begin = self._chance, STEP * place
        waited = chance.choice([1, 5, 15, 25])
        invoked, arrived, granted, *uses, left, gone = self._moments(
            begin - waited, begin - waited + 0.5, begin,
            *(begin + 1 + i for i in range(4)), begin + 6, begin + 7,
        )  # fmt: skip
        process, conversation = f"p/{chance.choice([place, place, 1])}", chance.choice("ccccd")
        fence = place + chance.choice([1, 1, 1, 1, 1, 0, 2]) if self._fenced else None
        if chance.random() < 0.05:
            fence = None
        known = arrived if chance.random() < 0.8 else None
        outcome = self._outcome()
        happened = outcome == "ok"
        if outcome == "unknown" and chance.random() < 0.5:
            granted = math.inf
        self.history.add(
            Operation(
                "acquire", process, conversation, invoked, granted, outcome, arrived=known,
                fence=fence if happened else None,
                lease_until=self._lease(granted - 0.7, granted=True) if happened else None,
            )
        )  # fmt: skip
        if not happened:
            return
        for called, returned in zip(uses[::2], uses[1::2], strict=True):
            if chance.random() < 0.7:
                outcome, position = self._outcome(), None
                if outcome == "ok":
                    position = len(self.history.operations)
                    self._positions.append((chance.choice([called, returned]), position))
                self.history.add(
                    Operation(
                        "write", process, conversation, called, returned, outcome, fence=fence,
                        lease_until=self._lease(called),
                    )
                )  # fmt: skip
        if chance.random() < 0.8:
            self.history.add(
                Operation(
                    "release", process, conversation, left, gone, self._outcome(),
                    lease_until=self._lease(left),
                )
            )  # fmt: skip

    def _place_writes(self) -> None:
        """Say in which order the store accepted them, or some of them, or do not."""
        share = self._chance.choice([0, 1, 1, 0.5])
        for place, (_, index) in enumerate(sorted(self._positions)):
            if self._chance.random() < share:
                write = self.history.operations[index]
                object.__setattr__(write, "position", place)  # it is frozen

    def _message(self, place: int) -> None:
        chance, begin = self._chance, STEP * place
        submitted, accepted, *finishes = self._moments(
            begin, begin + 1, *(begin + 20 + i for i in range(4))
        )
        name, conversation = str(place), chance.choice("ccccd")
        self.history.add(
            Operation("submit", f"s/{place}", conversation, submitted, accepted,
                      self._outcome(), message=name)
        )  # fmt: skip
        for called, returned in zip(finishes[::2], finishes[1::2], strict=True):
            if chance.random() < 0.6:
                self.history.add(
                    Operation("finish", f"f/{place}", conversation, called, returned,
                              self._outcome(), message=name)
                )  # fmt: skip

    def _fault(self) -> None:
        chance, durable = self._chance, self._durable
        since = self._at(chance.uniform(-20 if durable else 0, 60))
        until = since + chance.choice([0.5, 5, 20, 60]) + 1e-6 * next(self._apart)
        named = chance.choice(["p", "p/0", "p/1", "p/2", *(["s", "f"] if durable else [])])
        process = chance.choice([named, named, named if not durable else None, None])
        loses = chance.random() < (0.7 if process is None else 0.6 * durable)
        about = chance.choice([None, ("c",), ("d",)]) if process is None and loses else None
        durable = durable and process is None and loses
        self.history.faults.append(Fault("fault", since, until, process, loses, about, durable))


def firm_behind_early() -> History:
    """Rare by chance: a turn overlaps one that was told early, and one that was durable."""
    turns = (("p/0", 1.0, 90.0), ("p/1", 2.0, 50.0), ("p/2", 20.0, 30.0))
    operations = []
    for process, granted, left in turns:
        lease = {"fence": int(granted), "lease_until": 99.0}
        operations += [
            Operation("acquire", process, "c", granted - 0.5, granted, "ok", **lease),
            Operation("release", process, "c", left, left + 0.5, "ok", lease_until=99.0),
        ]
    early = Fault("early", 0.1, 1.5, "p/0", loses=True)
    return History(operations, [early, Fault("loss", 0.2, 60.0, loses=True, durable=True)])
