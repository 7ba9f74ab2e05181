"""The servers of the test suite, for workloads that need a tracker store or a broker."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any

from .environments import ROOT

Section = Callable[[], dict[str, Any]]


def of_tests(module: str) -> Any:
    """A module of the tests."""
    if (tests := str(ROOT / "tests")) not in sys.path:
        sys.path.insert(0, tests)
    return import_module(module)


def tracker_sections(backend: str) -> AbstractContextManager[Section]:
    """Starts a server; what it gives makes a section of `tracker_store`, each a new database."""
    table = of_tests("servers.tracker_stores").TRACKER_STORES
    module, _, name = table[backend].partition(":")
    found: AbstractContextManager[Section] = getattr(import_module(module), name)()
    return found


def events(text: str) -> list[dict[str, Any]]:
    """What a turn adds: a message and an answer."""
    return [
        {"event": "user", "timestamp": 1.0, "text": text, "parse_data": {}, "metadata": {}},
        {"event": "bot", "timestamp": 1.0, "text": f"you said {text}", "data": {}, "metadata": {}},
    ]
