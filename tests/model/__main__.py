"""`make model`: every state of the protocol within each bound, small and large."""

from __future__ import annotations

import argparse
import sys

from .bounds import LARGE, SMALL
from .spin import SpinFailed, check


def main() -> int:
    parser = argparse.ArgumentParser(prog="make model", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800, help="at most for each bound")
    parser.add_argument("--only", default="", help="bounds with that text in their name")
    arguments = parser.parse_args()
    bad = states = 0
    for name, bounds in {**SMALL, **LARGE}.items():
        if arguments.only not in name:
            continue
        try:
            verdict = check(bounds, seconds=arguments.seconds, large=name in LARGE)
        except SpinFailed as error:
            bad += 1
            print(f"{name}: {error}", flush=True)
            continue
        states += verdict.states
        how = "all of them" if verdict.complete else "not all of them"
        print(f"{name}: {verdict.states:,} states, {how}; {verdict.seconds:.0f} s", flush=True)
        if verdict.broken or not verdict.complete:
            bad += 1
            print("\n    ".join([verdict.broken, *map(str, verdict.trace)]), flush=True)
    print(f"in all {states:,} states, {bad} bounds that fail")
    return 1 if bad else 0


sys.exit(main())
