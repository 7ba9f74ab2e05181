"""Going through all states breadth first, with a fair continuation of some of them."""

from __future__ import annotations

import time
from array import array
from collections import deque
from collections.abc import Callable
from itertools import groupby
from typing import Any, NamedTuple

from .invariants import Violation, left_behind, violations
from .world import Budget, State, Step, World

#: Milliseconds that a body runs in a fair continuation: longer than a lease.
HOLD = 5000
#: The states of turns that are over.
OVER = {"done", "lost", "gave up", "answered"}
#: Milliseconds between two rounds of a fair continuation, and after which all must be over.
ROUND, LONGEST = 500, 60_000


class Found(NamedTuple):
    """A violation, and the steps that lead to it."""

    name: str
    what: str
    trace: tuple[tuple[Any, ...], ...]

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.what}"]
        for label, group in groupby(self.trace):
            times = len([*group])
            lines.append(f"    {label}" + (f" {times} times" if times > 1 else ""))
        return "\n".join(lines)


class Result(NamedTuple):
    """What a search has seen.

    Attributes:
        complete: whether it came to every state within the budget.
        continued: how many states were continued fairly to their end.
        slowest: milliseconds that the longest of these took.
    """

    states: int
    transitions: int
    complete: bool
    continued: int
    slowest: int
    found: tuple[Found, ...]


class Search:
    """One search.

    Args:
        sample: one in so many states is continued fairly, and each that has no next step.
    """

    def __init__(self, clients: int, budget: Budget, *, sample: int = 100, **options: Any) -> None:
        self.world = World(**options)
        self.sample = sample
        self._parents, self._labels = array("l", [-1]), [("begin",)]
        self._label_numbers: dict[Any, int] = {}
        self._by = array("l", [0])
        self._first = self.world.begin(clients, budget)
        self.transitions = self.continued = self.slowest = 0
        self.found: dict[str, Found] = {}

    def run(
        self,
        *,
        seconds: float = float("inf"),
        states: int = 10_000_000,
        progress: Callable[[int, int], None] = lambda states, waiting: None,
    ) -> Result:
        """Search until everything is seen, or one of the bounds, or a violation is found."""
        known, end = {hash(self._first)}, time.monotonic() + seconds
        frontier = deque([(self._first, 0)])
        while frontier and not self.found and len(known) < states:
            state, number = frontier.popleft()
            last = True
            for step in self.world.steps(state):
                self.transitions += 1
                last = False
                key = hash(step.state)
                if key in known:
                    continue
                known.add(key)
                after = self._note(number, step)
                frontier.append((step.state, after))
                self._judge(violations(self.world, state, step), after)
            if last or number % self.sample == 0:
                self._continue(state, number)
            if number % 1000 == 0:
                progress(len(known), len(frontier))
                if time.monotonic() > end:
                    break
        return Result(
            len(known), self.transitions, not frontier, self.continued, self.slowest,
            tuple(self.found.values()),
        )  # fmt: skip

    def _note(self, parent: int, step: Step) -> int:
        label = self._label_numbers.setdefault(step.label, len(self._labels))
        if label == len(self._labels):
            self._labels.append(step.label)
        self._parents.append(parent)
        self._by.append(label)
        return len(self._parents) - 1

    def _judge(self, wrong: Any, number: int, more: tuple[Any, ...] = ()) -> None:
        for name, what in wrong:
            if name not in self.found:
                self.found[name] = Found(name, what, (*self._trace(number), *more))

    def _trace(self, number: int) -> tuple[Any, ...]:
        labels = []
        while number:
            labels.append(self._labels[self._by[number]])
            number = self._parents[number]
        return tuple(reversed(labels))

    def _continue(self, state: State, number: int) -> None:
        """Go on fairly: all is executed and heard, bodies end, heartbeats come on time."""
        self.continued += 1
        went: list[Any] = []
        start = state.now
        state = state._replace(budget=Budget(turns=0))
        over_since: int | None = None
        while state.now - start <= LONGEST and not self.found:
            state = self._settled(state, number, went)
            if any(self._busy(state)):
                over_since = None
            elif over_since is None:
                over_since = state.now
                self.slowest = max(self.slowest, state.now - start)
            elif state.now - over_since > 6000:  # longer than a lease: what lapses has lapsed
                break
            state = self.world.tick(state, ROUND)
            went.append(("tick", ROUND))
        wrong: list[Violation] = []
        if self.found:
            return
        if stuck := [i for i, busy in enumerate(self._busy(state)) if busy]:
            views = [self.world.view(state.nodes[i]).turns for i in stuck]
            wrong.append(("no stranded waiter", f"after {LONGEST} ms {stuck} are in {views}"))
        else:
            wrong += left_behind(self.world, state)
        self._judge(wrong, number, ("... and fairly on:", *went))

    def _busy(self, state: State) -> list[bool]:
        return [
            bool(
                node.late
                or (
                    node.up
                    and (
                        node.out
                        or node.back
                        or self.world.view(node).heard
                        or set(self.world.view(node).turns) - OVER
                    )
                )
            )
            for node in state.nodes
        ]

    def _settled(self, state: State, number: int, went: list[Any]) -> State:
        """All that can happen at this moment has happened."""
        for _ in range(200):
            step = self._fair_step(state)
            if step is None:
                return state
            went.append(step.label)
            wrong = [*violations(self.world, state, step)]
            self._judge(wrong, number, ("... and fairly on:", *went))
            state = step.state
        wrong = [("all comes to rest", "there is always more to do at once")]
        self._judge(wrong, number, ("... and fairly on:", *went))
        return state

    def _fair_step(self, state: State) -> Step | None:
        world = self.world
        for i, node in enumerate(state.nodes):
            if node.late:
                return world.execute_late(state, i)
        for i, node in enumerate(state.nodes):
            view = world.view(node)
            if not node.up:
                continue
            if node.out:
                return world.execute(state, i)
            if node.back:
                return world.hear(state, i, 1)
            if view.heard:
                return world.event(state, i, "told")
            if 1000 * view.timer <= state.now:
                return world.event(state, i, "timers")
            if 1000 * view.beat <= state.now:
                return world.beat(state, i)
            for turn, what in enumerate(view.turns):
                if what == "lingers":
                    return world.event(state, i, "linger", turn)
                if what == "inside" and not any(
                    state.now < each.since + HOLD for each in view.inside
                ):
                    return world.event(state, i, "leave", turn)
        return None
