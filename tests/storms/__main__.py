"""`python -m storms`: storms of minutes, on one server, a cluster, or a Sentinel set."""

from __future__ import annotations

import argparse
import json
import random
import sys

from ticketlock.stress.targets import TARGETS

from .course import default_names, run
from .fleet import Load


def main() -> int:
    parser = argparse.ArgumentParser(prog="make storms", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2, help="of each (%(default)s)")
    parser.add_argument("--on", choices=TARGETS, help="only there")
    parser.add_argument("--processes", type=int, default=4, help="workers (%(default)s)")
    parser.add_argument("--tasks", type=int, default=25, help="of each worker (%(default)s)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--json", action="store_true", help="print one JSON object a storm")
    args = parser.parse_args()
    load = Load(args.processes, args.tasks, default_names())
    broken = 0
    for on in [args.on] if args.on else TARGETS:
        print(f"on {on}, seed {args.seed}", file=sys.stderr, flush=True)
        found = run(on, 60 * args.minutes, args.seed, load)
        broken += found["broken"]
        if args.json:
            print(json.dumps(found), flush=True)
        else:
            examples = found.pop("examples")
            width = max(map(len, found))
            print("\n".join(f"{key:{width}}  {value}" for key, value in found.items()))
            print(*examples, sep="\n", flush=True)
    return 1 if broken else 0


sys.exit(main())
