"""`python -m benchmarks [a b ...]`: run workloads, keep the rows as JSON, say what they mean."""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from . import charts, report
from .bench import Bench
from .catalogue import WORKLOADS
from .environments import ROOT, describe


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    letters = ", ".join(f"{letter} {module.TITLE}" for letter, module in WORKLOADS.items())
    parser.add_argument("workloads", nargs="*", metavar="LETTER", help=f"default all: {letters}")
    parser.add_argument("--quick", action="store_true", help="under 3 minutes (the default)")
    parser.add_argument("--full", action="store_true", help="the form that is published")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where rows are kept; runs of")
    parser.add_argument("--report", action="store_true", help="only tables and charts of FILE")
    parser.add_argument("--publish", action="store_true", help="write into docs/benchmarks.md")
    options = parser.parse_args()
    options.json = options.json or ROOT / "benchmarks" / "results" / (
        "full.json" if options.full else "quick.json"
    )
    unknown = set(options.workloads) - set(WORKLOADS)
    if unknown:
        parser.error(f"no such workload: {', '.join(sorted(unknown))}")
    options.workloads = options.workloads or list(WORKLOADS)
    return options


def measure(letter: str, full: bool) -> dict[str, Any]:
    """One workload: its rows, and what they were measured on."""
    bench = Bench(full)
    environment, start = describe(), time.monotonic()
    try:
        WORKLOADS[letter].run(bench)
    finally:
        bench.close()
    return {
        "form": "full" if full else "quick",
        "day": time.strftime("%Y-%m-%d"),
        "seconds": round(time.monotonic() - start, 1),
        "environment": environment,
        "rows": bench.rows,
    }


def main() -> int:
    options = arguments()
    options.json.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(options.json.read_text()) if options.json.exists() else {}
    failed = []
    for letter in () if options.report else options.workloads:
        print(f"({letter}) {WORKLOADS[letter].TITLE} ...", file=sys.stderr, end=" ", flush=True)
        try:
            results[letter] = measure(letter, options.full)
        except Exception:  # noqa: BLE001  # the others are measured still; the status tells
            traceback.print_exc()
            failed.append(letter)
            continue
        print(f"{results[letter]['seconds']:.0f} s", file=sys.stderr)
        options.json.write_text(report.compact(dict(sorted(results.items()))) + "\n")
    shown = {letter: results[letter] for letter in WORKLOADS if letter in results}
    if not options.report and not options.publish:
        shown = {letter: run for letter, run in shown.items() if letter in options.workloads}
    text = report.markdown(shown)
    print(text)
    if options.publish:
        report.publish(text)
        charts.draw(shown, ROOT / "docs" / "benchmarks")
    else:
        charts.draw(shown, options.json.parent)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
