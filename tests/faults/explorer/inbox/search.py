"""Going through all states breadth first, with a fair continuation of some of them."""

from __future__ import annotations

import time
from array import array
from collections import deque
from collections.abc import Callable
from typing import Any

from ..search import Found, Result
from .invariants import Data, Violation, left_behind, violations
from .state import LEASE, Budget, Message, Process, State, Step
from .world import World

#: Milliseconds between two rounds of a fair continuation, and after which all must be over.
ROUND, LONGEST = 500, 20_000


class Search:
    """One search.

    Args:
        sample: one in so many states is continued fairly, and each that has no next step.
        within: milliseconds within which a fair continuation has finished all.
    """

    def __init__(
        self,
        messages: tuple[Message, ...],
        budget: Budget,
        *,
        rooms: tuple[int, ...] = (1, 1),
        sample: int = 50,
        cluster: bool = False,
        within: int = 6000,
    ) -> None:
        self.within = within
        self.world = World(cluster=cluster)
        self.sample = sample
        self._parents, self._labels = array("l", [-1]), [("begin",)]
        self._first = self.world.begin(messages, budget, rooms)
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
        while frontier and not self.found and len(known) < states and time.monotonic() < end:
            state, number = frontier.popleft()
            last = True
            for step in self.world.steps(state):
                self.transitions += 1
                last = False
                key = hash(step.state)
                if key in known:
                    continue
                known.add(key)
                self._parents.append(number)
                self._labels.append(step.label)
                after = len(self._parents) - 1
                frontier.append((step.state, after))
                self._judge(violations(self.world, state, step), after)
            if last or number % self.sample == 0:
                self._continue(state, number)
            if number % 1000 == 0:
                progress(len(known), len(frontier))
        return Result(
            len(known), self.transitions, not frontier, self.continued, self.slowest,
            tuple(self.found.values()),
        )  # fmt: skip

    def _judge(self, wrong: Any, number: int, more: tuple[Any, ...] = ()) -> None:
        for name, what in wrong:
            if name not in self.found:
                self.found[name] = Found(name, what, (*self._trace(number), *more))

    def _trace(self, number: int) -> tuple[Any, ...]:
        labels = []
        while number:
            labels.append(self._labels[number])
            number = self._parents[number]
        return tuple(reversed(labels))

    # -- a fair continuation -----------------------------------------------------------------------

    def _continue(self, state: State, number: int) -> None:
        """Go on fairly: all is executed and heard, turns end, heartbeats and looks come on time."""
        self.continued += 1
        went: list[Any] = []
        state = state._replace(budget=Budget())
        if not any(process.up and process.room for process in state.processes):
            fresh = Process("fresh", 1)
            state = state._replace(processes=(*state.processes, fresh))
        start, over = state.now, 0
        while not self.found and state.now - start <= LONGEST:
            for each in (self._settled, self._beats, self._settled, self._looks, self._settled):
                state = each(state, number, went)
            if self._busy(state):
                over = 0
                self.slowest = max(self.slowest, state.now - start)
            over += not self._busy(state)
            if over * ROUND > 3 * LEASE + 2000:
                break
            state = self.world.tick(state, ROUND)
            went.append(("tick", ROUND))
        if self.found:
            return
        wrong: list[Violation] = []
        if self._busy(state) or self.slowest > self.within:
            data = Data(self.world, state)
            wrong = [("all is finished in time", f"{data.waiting}, {data.queue}, {data.member}")]
        else:
            wrong = [*left_behind(self.world, state)]
        self._judge(wrong, number, ("... and fairly on:", *went))

    def _busy(self, state: State) -> bool:
        data = Data(self.world, state)
        asked = any(
            process.out or process.back or process.turns or process.plain
            for process in state.processes
            if process.up
        )
        late = any(process.late for process in state.processes)
        return bool(data.waiting) or late or asked

    def _after(self, state: State, step: Step, number: int, went: list[Any]) -> State:
        went.append(step.label)
        self._judge(violations(self.world, state, step), number, ("... and fairly on:", *went))
        return step.state

    def _settled(self, state: State, number: int, went: list[Any]) -> State:
        for _ in range(300):
            step = self._fair(state)
            if step is None or self.found:
                return state
            state = self._after(state, step, number, went)
        self._judge(
            [("all comes to rest", "there is always more")], number,
            ("... and fairly on:", *went),
        )  # fmt: skip
        return state

    def _fair(self, state: State) -> Step | None:
        world = self.world
        for i, process in enumerate(state.processes):
            if process.late:
                return world.execute_late(state, i, 0)
            if not process.up:
                continue
            if process.out:
                return world.execute(state, i)
            if process.back:
                return world.hear(state, i)
            if process.submits:
                return world.submit(state, i)
            for number, turn in enumerate(process.turns):
                for step in world.turn_steps(state, i, number, turn):
                    return step
        return None

    def _beats(self, state: State, number: int, went: list[Any]) -> State:
        for i, process in enumerate(state.processes):
            if process.up and (process.turns or process.plain) and not self.found:
                state = self._after(state, self.world.beat(state, i), number, went)
        return state

    def _looks(self, state: State, number: int, went: list[Any]) -> State:
        for i, process in enumerate(state.processes):
            if process.up and process.free > 0 and not self.found:
                state = self._after(state, self.world.look(state, i), number, went)
                state = self._settled(state, number, went)
        return state
