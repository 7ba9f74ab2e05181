"""How observers are notified of turns, messages and events.

`Observer` declares the methods. Here they are called by name, so that the lock core, the relay
and the server can notify observers without importing the modules above them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

C = TypeVar("C", bound=Callable[..., Any])

log = logging.getLogger("ticketlock")

#: Methods that belong to each turn: turns are observed if an observer overrides one of these.
OF_TURNS = ("on_wait", "on_no_turn", "on_turn", "on_turn_end", "on_claim", "on_commit", "mark")


#: The methods of `Observer` by name, as it declares them: one that is not overridden is not called.
HOOKS: dict[str, Callable[..., Any]] = {}


def hook(method: C) -> C:
    """Declare a method of `Observer`."""
    HOOKS[method.__name__] = method
    return method


class BaseObserver:
    """The base of `Observer`, for code that passes observers on without calling them.

    Attributes:
        asgi: an ASGI middleware that the bot server puts around its requests; None: none.
    """

    asgi: Callable[[Any], Any] | None = None


@dataclass
class Observers:
    """The observers of a lock store and of everything that uses it.

    Attributes:
        of_turns: whether one of them observes turns.
    """

    each: list[BaseObserver] = field(default_factory=list)
    of_turns: bool = False
    _methods: dict[str, Sequence[Callable[..., Any]]] = field(default_factory=dict)

    def add(self, observer: BaseObserver) -> None:
        """Notify one more `Observer` from now on."""
        self.each.append(observer)
        self._methods = {}
        for each in self.each:
            for name in _overridden(each):
                self._methods[name] = [*self._methods.get(name, ()), getattr(each, name)]
        self.of_turns = any(map(self.has, OF_TURNS))

    def has(self, name: str) -> bool:
        """Whether one of them overrides this method."""
        return name in self._methods

    def notify(self, name: str, *args: Any) -> None:
        """Call a method of all observers. Their errors are logged, and affect nothing else."""
        for method in self._methods.get(name, ()):
            try:
                method(*args)
            except Exception:  # noqa: BLE001  # logged
                _failed(method)

    def ask(self, name: str, *args: Any) -> Any:
        """The first result of a method that is not None."""
        answers = (_answer(method, args) for method in self._methods.get(name, ()))
        return next((answer for answer in answers if answer is not None), None)


def _answer(method: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    try:
        return method(*args)
    except Exception:  # noqa: BLE001  # logged
        _failed(method)
        return None


def _failed(method: Callable[..., Any]) -> None:
    log.exception("an observer failed: %s", getattr(method, "__qualname__", method))


def _overridden(observer: object) -> list[str]:
    """The hooks of its class that are not those of `Observer`."""
    found = {name: getattr(type(observer), name, own) for name, own in HOOKS.items()}
    return [name for name, method in found.items() if method is not HOOKS[name]]
