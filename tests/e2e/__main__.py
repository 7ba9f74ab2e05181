"""`python -m e2e`: the whole deployment, with all messages, once with each broker.

The replicas begin with the version before; each roll leads to the other version. With --async
messages are accepted, not awaited.
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

from .accepted_course import run_accepted
from .course import run
from .outages import Plan


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
    parser.add_argument("--rolls", type=int, help="rolling restarts (2; 10 with --async)")
    parser.add_argument(
        "--async", dest="accepted", action="store_true",
        help="the sender wants its 202 and never sends again; replies are called back; Redis and "
        "all replicas at once are killed too; this version alone, one broker (rabbit)",
    )  # fmt: skip
    parser.add_argument(
        "--actions", action="store_true",
        help="with --async: a worker and an action server too, which are killed; the bots call "
        "actions and schedule reminders",
    )  # fmt: skip
    parser.add_argument(
        "--rate", type=float, default=25, help="with --async: messages a second (%(default)s)"
    )
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
    before = versions.before(args.before) if args.before and not args.accepted else None
    both = ["rabbit"] if args.accepted else ["rabbit", "kafka"]
    broken = 0
    for broker in [args.broker] if args.broker else both:
        if args.accepted:
            plan = Plan(kills=args.kills, rolls=10 if args.rolls is None else args.rolls)
            found = run_accepted(
                messages, broker, plan, rate=args.rate, seed=args.seed, acting=args.actions
            )
        else:
            rolls = 2 if args.rolls is None else args.rolls
            found = run(
                messages, broker, kills=args.kills, rolls=rolls, seed=args.seed, before=before
            )
        broken += found["broken"]
        if args.json:
            print(json.dumps(found), flush=True)
        else:
            width = max(map(len, found))
            print("\n".join(f"{key:{width}}  {value}" for key, value in found.items()), flush=True)
    return 1 if broken else 0


sys.exit(main())
