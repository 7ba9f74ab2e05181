"""A walk of the explorer's world from a seed, far beyond what a search can see all of.

The same seed makes the same walk: clocks, names, the network and the heartbeats are the model's.
A walk that breaks a promise is shrunk: steps are left out as long as the promise still breaks.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any, NamedTuple

from .invariants import violations
from .search import Found, Search
from .world import Budget, State, Step

#: What a step is known by where others were left out before it: who does what, not with which data.
Choice = tuple[Any, ...]
#: Steps of which there is always one, and which are to be rare.
RARE = {"tick", "beat", "drop", "crash", "cancel", "close"}


class Walked(NamedTuple):
    """Where a walk has led.

    Attributes:
        choices: its steps; of a broken promise those that are left.
        found: the promise that is broken, if one is.
    """

    choices: tuple[Choice, ...]
    found: Found | None


def walk(seed: int, clients: int, budget: Budget, *, steps: int = 300, **options: Any) -> Walked:
    """Go so many steps at random, and then fairly to the end; shrink what breaks a promise.

    Args:
        options: of the clients; see `Client`.
    """
    chance = random.Random(seed)
    path = _Path(clients, budget, options)
    for _ in range(steps):
        ahead = [*path.search.world.steps(path.state)]
        usual = [step for step in ahead if step.label[0] not in RARE]
        if not ahead or path.search.found:
            break
        path.go(chance.choice(usual if usual and chance.random() < 0.8 else ahead))
    path.end()
    if not path.search.found:
        return Walked(tuple(path.choices), None)
    [name] = path.search.found
    choices = _shrunk(tuple(path.choices), name, clients, budget, options)
    return Walked(choices, _again(choices, clients, budget, options).search.found.get(name))


class _Path:
    """A way through the world, one step after the other."""

    def __init__(self, clients: int, budget: Budget, options: dict[str, Any]) -> None:
        self.search = Search(clients, budget, **options)
        self.state: State = self.search.world.begin(clients, budget)
        self.choices: list[Choice] = []
        self._labels: list[Any] = []

    def go(self, step: Step) -> None:
        self.choices.append(_choice(step))
        self._labels.append(step.label)
        wrong = [*violations(self.search.world, self.state, step)][:1]
        self.search._judge(wrong, 0, tuple(self._labels))
        self.state = step.state

    def end(self) -> None:
        """Go on fairly, until all is over."""
        if not self.search.found:
            self.search._continue(self.state, 0)


def _choice(step: Step) -> Choice:
    return tuple(word for word in step.label[:3] if isinstance(word, (str, int)))


def _again(
    choices: Iterable[Choice], clients: int, budget: Budget, options: dict[str, Any]
) -> _Path:
    """The same choices, but for those that are not there any more."""
    path = _Path(clients, budget, options)
    for choice in choices:
        ahead = (step for step in path.search.world.steps(path.state) if _choice(step) == choice)
        step = next(ahead, None)
        if step is not None:
            path.go(step)
        if path.search.found:
            return path
    path.end()
    return path


def _shrunk(
    choices: tuple[Choice, ...], name: str, clients: int, budget: Budget, options: dict[str, Any]
) -> tuple[Choice, ...]:
    """Those without which the promise does not break, by leaving out ever smaller parts."""
    size = len(choices) // 2
    while size:
        start = 0
        while start < len(choices):
            fewer = choices[:start] + choices[start + size :]
            path = _again(fewer, clients, budget, options)
            if name in path.search.found:
                choices = tuple(path.choices)
            else:
                start += size
        size //= 2
    return choices
