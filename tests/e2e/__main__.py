"""`python -m e2e`: the whole deployment, with all messages, once with each broker.

The replicas begin with the version before; each roll leads to the other version.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from pathlib import Path

from servers import versions

from ticketlock.demo.traffic import generate, read_transcript

from .course import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="make e2e", description=__doc__)
    parser.add_argument(
        "--messages", type=Path, metavar="FILE",
        default=os.environ.get("TICKETLOCK_E2E_MESSAGES") or None,
        help='lines of {"sender_id": ..., "text": ...} (TICKETLOCK_E2E_MESSAGES); else generated',
    )  # fmt: skip
    parser.add_argument("--count", type=int, help="messages (24000, or all of the file)")
    parser.add_argument("--broker", choices=("rabbit", "kafka"), help="only with this one")
    parser.add_argument("--kills", type=int, default=8, help="replicas to kill (%(default)s)")
    parser.add_argument("--rolls", type=int, default=2, help="rolling restarts (%(default)s)")
    parser.add_argument(
        "--before", default=versions.BEFORE, metavar="COMMIT",
        help="the version that is rolled to this one and back (%(default)s); '': this one alone",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--json", action="store_true", help="print one JSON object a run")
    args = parser.parse_args()
    if args.messages:
        messages = read_transcript(args.messages)[: args.count]
    else:
        messages = generate(1500, args.count or 24_000, args.seed)
    before = versions.before(args.before) if args.before else None
    broken = 0
    for broker in [args.broker] if args.broker else ["rabbit", "kafka"]:
        found = run(
            messages, broker, kills=args.kills, rolls=args.rolls, seed=args.seed, before=before
        )
        broken += found["broken"]
        if args.json:
            print(json.dumps(found), flush=True)
        else:
            width = max(map(len, found))
            print("\n".join(f"{key:{width}}  {value}" for key, value in found.items()), flush=True)
    return 1 if broken else 0


sys.exit(main())
