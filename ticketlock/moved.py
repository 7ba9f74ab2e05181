"""Old names of modules and classes: usable for one more version, with a DeprecationWarning.

An old module is a module of its own that returns the names of the new one: the classes are the
same.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

#: Old module -> where its public names are. Since 0.4.0; gone in 0.6.0.
MOVED = {
    "ticketlock.concurrent_lock_store": "ticketlock.locks.concurrent.store",
    "ticketlock.embedded": "ticketlock.redis.embedded",
    "ticketlock.event_broker": "ticketlock.publishing.broker",
    "ticketlock.event_export": "ticketlock.endpoints.export",
    "ticketlock.export_state": "ticketlock.publishing.export.state",
    "ticketlock.lock": "ticketlock.locks.lock",
    "ticketlock.lock_store": "ticketlock.locks.store",
    "ticketlock.log_observer": "ticketlock.server.access_log",
    "ticketlock.memory_lock_store": "ticketlock.locks.memory",
    "ticketlock.otel": "ticketlock.telemetry.otel",
    "ticketlock.prometheus": "ticketlock.telemetry.prometheus",
    "ticketlock.redis_lock_store": "ticketlock.locks.redis",
    "ticketlock.registry": "ticketlock.endpoints.registry",
    "ticketlock.sync": "ticketlock.locks.store",
    "ticketlock.tickets": "ticketlock.locks.tickets",
    "ticketlock.tracker_store": "ticketlock.tracker.store",
}


#: Where names are that were in an old module, and are elsewhere now.
ELSEWHERE = {
    "ticketlock.event_broker": "ticketlock.publishing.message",
    "ticketlock.lock": "ticketlock.locks.waiter",
    "ticketlock.registry": "ticketlock.demo.listeners",
    "ticketlock.sync": "ticketlock.locks.sync",
    "ticketlock.tracker_store": "ticketlock.tracker.tracker",
}
#: Old module -> the package that its classes are imported from, where that is not `ticketlock`.
PLACES = {
    "ticketlock.embedded": "ticketlock.redis.embedded",
    "ticketlock.log_observer": "ticketlock.server.access_log",
    "ticketlock.otel": "ticketlock.telemetry",
    "ticketlock.prometheus": "ticketlock.telemetry",
    "ticketlock.registry": "ticketlock.endpoints.registry",
}

#: Old name in `ticketlock` -> its new name. Since 0.4.0; gone in 0.6.0.
RENAMED = {"Message": "BrokerMessage"}


def new_name(name: str) -> str:
    """The present name of a class in `ticketlock`; a DeprecationWarning for an old one."""
    if name not in RENAMED:
        return name
    warnings.warn(
        f"ticketlock.{name} is now ticketlock.{RENAMED[name]}; the old name is gone in "
        "ticketlock 0.6.0",
        DeprecationWarning,
        stacklevel=3,  # the line that uses it, behind __getattr__ of the package
    )
    return RENAMED[name]


class _Moved(MetaPathFinder, Loader):
    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        old = module.__name__
        warnings.warn(
            f"{old} has moved: import its names from {PLACES.get(old, 'ticketlock')}; the old "
            "module is gone in ticketlock 0.6.0",
            DeprecationWarning,
            stacklevel=2,  # the importing line: the frames of the import system are left out
        )
        found = import_module(MOVED[old])

        def all_names() -> list[str]:
            places = [found]
            if old in ELSEWHERE:
                places.append(import_module(ELSEWHERE[old]))
            return sorted({n for place in places for n in vars(place) if not n.startswith("_")})

        def get(name: str) -> Any:
            if name == "__all__":
                return all_names()
            name = RENAMED.get(name, name)
            # The import system asks for __path__ and the like.
            there = hasattr(found, name) or name.startswith("__") or old not in ELSEWHERE
            place = found if there else import_module(ELSEWHERE[old])  # late: it may be large
            if not hasattr(place, name):
                raise AttributeError(f"module {old!r} has no attribute {name!r}")
            return getattr(place, name)

        module.__doc__ = found.__doc__
        module.__getattr__ = get  # type: ignore[method-assign]
        module.__dir__ = all_names  # type: ignore[method-assign]


def install() -> None:
    """Make the old addresses importable; once in a process."""
    # By name: the package may have been imported anew.
    if not any(type(finder).__name__ == _Moved.__name__ for finder in sys.meta_path):
        sys.meta_path.append(_Moved())
