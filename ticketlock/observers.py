"""Who is told what becomes of turns, messages and events: the mechanism, below all that tells.

`Observer` declares the methods. Here they are known by their names, so that the lock core, the
relay and the server can tell without importing what is above them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

C = TypeVar("C", bound=Callable[..., Any])

log = logging.getLogger("ticketlock")

#: What takes part in each turn: an observer that overrides one of these is told of all turns.
OF_TURNS = ("on_wait", "on_no_turn", "on_turn", "on_turn_end", "on_claim", "on_commit", "mark")


def hook(method: C) -> C:
    """Declare a method of `Observer`: one that is not overridden is not called."""
    method.hook = True  # type: ignore[attr-defined]
    return method


class BaseObserver:
    """The base of `Observer`, for those who pass observers on without knowing what they hear.

    Attributes:
        asgi: an ASGI middleware that the bot server puts around its requests; None: none.
    """

    asgi: Callable[[Any], Any] | None = None


@dataclass
class Observers:
    """The observers of a lock store, and of what uses it.

    Attributes:
        of_turns: whether one of them is told of all turns.
    """

    each: list[BaseObserver] = field(default_factory=list)
    of_turns: bool = False
    _told: dict[str, Sequence[Callable[..., Any]]] = field(default_factory=dict)

    def add(self, observer: BaseObserver) -> None:
        """Tell one more `Observer` of what happens from now on."""
        self.each.append(observer)
        self._told = {}
        for each in self.each:
            for name in _overridden(each):
                self._told[name] = [*self._told.get(name, ()), getattr(each, name)]
        self.of_turns = any(map(self.has, OF_TURNS))

    def has(self, name: str) -> bool:
        """Whether one of them overrides this method."""
        return name in self._told

    def tell(self, name: str, *args: Any) -> None:
        """Call that method of all observers; what they raise is logged, and nothing else fails."""
        for _ in self._answers(name, *args):
            pass

    def ask(self, name: str, *args: Any) -> Any:
        """The first answer to that method that is not None."""
        return next((answer for answer in self._answers(name, *args) if answer is not None), None)

    def _answers(self, name: str, *args: Any) -> Iterator[Any]:
        for method in self._told.get(name, ()):
            try:
                answer = method(*args)
            except Exception:
                log.exception("an observer failed: %s", getattr(method, "__qualname__", method))
            else:
                yield answer


def _overridden(observer: BaseObserver) -> list[str]:
    """The hooks of its class that are not those of `Observer`."""
    bases = type(observer).__mro__
    hooks = {name for base in bases for name, own in vars(base).items() if hasattr(own, "hook")}
    return [name for name in hooks if not hasattr(getattr(type(observer), name), "hook")]
