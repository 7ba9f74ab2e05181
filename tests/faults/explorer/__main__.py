"""`make explore`: the large bounds, one after the other. ARGS="--seconds 600" for each."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

from .bounds import LARGE, SMALL
from .client import modelled
from .inbox import bounds as inbox_bounds
from .search import Result


def main() -> int:
    parser = argparse.ArgumentParser(prog="make explore", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120, help="at most for each bound")
    parser.add_argument("--states", type=int, default=5_000_000, help="at most for each bound")
    parser.add_argument("--only", default="", help="bounds with that text in their name")
    arguments = parser.parse_args()
    bad = states = transitions = 0
    locks = {name: bound.search for name, bound in {**SMALL, **LARGE}.items()}
    messages = {**inbox_bounds.SMALL, **inbox_bounds.LARGE}
    inbox = {f"inbox: {name}": bound.search for name, bound in messages.items()}
    for name, search in {**locks, **inbox}.items():
        if arguments.only not in name:
            continue
        result = explored(name, search, arguments.seconds, arguments.states)
        bad += bool(result.found)
        states, transitions = states + result.states, transitions + result.transitions
    print(f"in all {states:,} states, {transitions:,} transitions, {bad} bounds with violations")
    return 1 if bad else 0


def explored(name: str, search: Callable[[], Any], seconds: float, states: int) -> Result:
    """Search within a bound, and tell of it."""
    start = time.monotonic()

    def progress(known: int, waiting: int) -> None:
        if sys.stderr.isatty():
            took = time.monotonic() - start
            print(f"\r{name}: {known:,} states, {waiting:,} to look at, {took:.0f} s  ",
                  end="", file=sys.stderr, flush=True)  # fmt: skip

    with modelled():
        result = search().run(seconds=seconds, states=states, progress=progress)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    print(
        f"{name}: {result.states:,} states, {result.transitions:,} transitions, "
        f"{'all of them' if result.complete else 'not all of them'}; {result.continued:,} "
        f"continued fairly, the slowest over after {result.slowest / 1000:g} s; "
        f"{time.monotonic() - start:.0f} s",
        flush=True,
    )
    for found in result.found:
        print(found, flush=True)
    return result


sys.exit(main())
