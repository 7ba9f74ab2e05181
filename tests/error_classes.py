"""All error classes of the package."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import ticketlock
from ticketlock import TicketLockError


def every_error() -> Iterator[type[TicketLockError]]:
    """All error classes of the package."""
    folder = Path(ticketlock.__file__).parent
    for path in folder.rglob("*.py"):
        names = path.relative_to(folder).with_suffix("").parts
        if "Error)" in path.read_text() and names[-1] != "__init__":
            import_module(".".join(("ticketlock", *names)))
    found: list[type[TicketLockError]] = [TicketLockError]
    for kind in found:
        found += [sub for sub in kind.__subclasses__() if sub not in found]
    return (kind for kind in found if kind.__module__.startswith("ticketlock"))
