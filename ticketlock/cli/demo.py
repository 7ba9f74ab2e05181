"""`ticketlock demo`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ..demo import Options, run
from ..demo.screen import print_report, require_rich
from ..demo.traffic import generate, read_transcript
from ..errors import ConfigurationError
from .common import EXIT_FAILED, EXIT_OK, positive

#: Generated traffic, when the options say nothing else.
CONVERSATIONS, COUNT = 50, 2000


def add(commands: Any) -> None:
    """Add the command to a parser's subcommands."""
    _options(commands.add_parser("demo", help="see replicas share conversations, and judge"))


def _options(demo: argparse.ArgumentParser) -> None:
    demo.set_defaults(command=_demo)
    option = demo.add_argument
    option("--replicas", type=positive, default=3, help="bot servers (%(default)s)")
    option("--conversations", type=positive, help=f"of generated traffic ({CONVERSATIONS})")
    option("--count", type=positive, help=f"messages of generated traffic ({COUNT})")
    option("--messages", type=Path, metavar="FILE", help="replay this JSON-lines file instead")
    option("--in-flight", type=positive, default=64, help="most messages at once (%(default)s)")
    option(
        "--kill", type=positive, nargs="?", const=3, default=0, metavar="TIMES",
        help="kill replicas during the run (%(const)s times)",
    )  # fmt: skip
    option("--seed", type=int, default=1, help="of all chance (%(default)s)")
    option(
        "--redis", metavar="URL", help="default: one of its own; in yours, its keys go within 1 h"
    )
    option(
        "--endpoints", type=Path, metavar="FILE",
        help="use its lock_store, tracker_store and event_broker; default: a Redis and an SQLite "
        "of its own",
    )  # fmt: skip
    option(
        "--events", action="store_true",
        help="publish to a file of its own, and verify what arrives there",
    )  # fmt: skip
    option("--keep", action="store_true", help="leave the conversations in that tracker store")
    option("--json", action="store_true", help="print one JSON object instead of the table")
    option("--unlocked", action="store_true", help=argparse.SUPPRESS)


def _demo(args: argparse.Namespace) -> int:
    if not args.json or sys.stderr.isatty():
        require_rich()
    if args.messages is None:
        count = COUNT if args.count is None else args.count
        messages = generate(args.conversations or CONVERSATIONS, count, args.seed)
    elif args.count is None and args.conversations is None:
        messages = read_transcript(args.messages)
    else:
        raise ConfigurationError("--messages brings its own --count and --conversations")
    report = run(
        Options(
            messages,
            replicas=args.replicas,
            redis=args.redis,
            endpoints=args.endpoints,
            events=args.events,
            keep=args.keep,
            in_flight=args.in_flight,
            kills=args.kill,
            seed=args.seed,
            unlocked=args.unlocked,
        )
    )
    if args.json:
        print(json.dumps(report.as_json()), flush=True)
    else:
        print_report(report)
    return EXIT_FAILED if report.violations else EXIT_OK
