"""What is imported at its first use: it costs nothing until then."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any


def late(
    package: str, places: Mapping[str, str], extras: Mapping[str, str] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package.

    Args:
        places: name -> the module in the package that has it.
        extras: name -> the extra that it needs; without it the name raises ModuleNotFoundError
            with the command to type.
    """
    extra_of = extras or {}

    def __getattr__(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if name in extra_of:
            _require(f"{package}.{name}", extra_of[name])
        found = getattr(import_module(f".{places[name]}", package), name)
        setattr(sys.modules[package], name, found)
        return found

    def __dir__() -> list[str]:
        return sorted({*vars(sys.modules[package]), *places})

    return __getattr__, __dir__


def registry() -> ModuleType:
    """The registry, for the `create` of an interface.

    It is named as text, as the registry itself names the backends: it knows all interfaces, so
    none of them may import it.
    """
    return import_module("ticketlock.registry")


def _require(name: str, extra: str) -> None:
    from .extras import missing, needs

    if modules := missing(extra):
        raise ModuleNotFoundError(f"{name} {needs({extra: modules})}", name=modules[0])
