"""The stores that need no server, in the same form as the servers' modules."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any


@contextmanager
def memory_sections() -> Iterator[Callable[[], dict[str, Any]]]:
    yield lambda: {"type": "in_memory"}


@contextmanager
def sqlite_sections() -> Iterator[Callable[[], dict[str, Any]]]:
    numbers = count()
    with tempfile.TemporaryDirectory() as folder:
        yield lambda: {"type": "sql", "db": str(Path(folder) / f"{next(numbers)}.db")}
