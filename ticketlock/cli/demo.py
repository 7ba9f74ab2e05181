"""`ticketlock demo`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..demo import Options, run
from ..demo.picture import svg
from ..demo.report import Report
from ..demo.screen import print_comparison, print_report
from ..demo.timeline import Span, compare
from ..demo.traffic import generate, read_transcript
from ..demo.verdict import compared, verdict
from ..errors import ConfigurationError
from ..imports import missing, pip_line
from .common import EXIT_FAILED, EXIT_OK, positive

#: The name in the report of a tracker store with one writer at a time.
SQLITE = "sql (sqlite)"
#: Generated traffic by default.
CONVERSATIONS, COUNT = 50, 2000


def add(commands: Any) -> None:
    """Add the command to a parser's subcommands."""
    _options(
        commands.add_parser("demo", help="let replicas share conversations, and check the result")
    )


def _options(demo: argparse.ArgumentParser) -> None:
    demo.set_defaults(command=_demo)
    option = demo.add_argument
    option("--replicas", type=positive, default=3, help="bot servers (%(default)s)")
    option("--conversations", type=positive, help=f"conversations to generate ({CONVERSATIONS})")
    option("--count", type=positive, help=f"messages to generate ({COUNT})")
    option(
        "--messages",
        type=Path,
        metavar="FILE",
        help="send the messages of this JSON-lines file instead",
    )
    option(
        "--in-flight", type=positive, default=64, help="maximum of messages at once (%(default)s)"
    )
    option(
        "--kill", type=positive, nargs="?", const=3, default=0, metavar="TIMES",
        help="kill replicas during the run (%(const)s times)",
    )  # fmt: skip
    option(
        "--async", action="store_true", dest="accepted",
        help="messages are accepted with 202, and answered later; the sender never repeats one after its 202",
    )  # fmt: skip
    option("--seed", type=int, default=1, help="for random numbers (%(default)s)")
    option(
        "--redis",
        metavar="URL",
        help="use this Redis, where the keys expire within 1 h; default: starts one",
    )
    option(
        "--endpoints", type=Path, metavar="FILE",
        help="use its lock_store, tracker_store and event_broker; default: starts a Redis, "
        "and uses SQLite",
    )  # fmt: skip
    option(
        "--events", action="store_true",
        help="publish events to a file, and verify what arrives there",
    )  # fmt: skip
    option(
        "--keep",
        action="store_true",
        help="keep the conversations in the tracker store of --endpoints",
    )
    option("--json", action="store_true", help="print one JSON object instead of the table")
    option(
        "--unlocked", action="store_true", help="run without the lock, and count what goes wrong"
    )
    option(
        "--compare", action="store_true",
        help="run the same messages with and without the lock, and show both side by side",
    )  # fmt: skip
    option(
        "--picture", type=Path, metavar="FILE", help="with --compare: write the timeline as an SVG"
    )


def _demo(args: argparse.Namespace) -> int:
    _check(args)
    _require(args)
    if args.messages is None:
        count = COUNT if args.count is None else args.count
        messages = generate(args.conversations or CONVERSATIONS, count, args.seed)
    elif args.count is None and args.conversations is None:
        messages = read_transcript(args.messages)
    else:
        raise ConfigurationError(
            "--messages: the file says how many there are; leave out --count and --conversations"
        )
    options = Options(
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
        timeline=args.compare,
        accepted=args.accepted,
    )
    return _compare(args, options) if args.compare else _one(args, options)


def _require(args: argparse.Namespace) -> None:
    """Raise ConfigurationError with one pip command for all missing packages."""
    lacking = missing("server")
    if not args.json or sys.stderr.isatty():
        lacking += missing("cli")
    if args.endpoints is None:  # otherwise the file decides
        lacking += missing("sql")
    if lacking:
        extra = "embedded" if args.endpoints is None else "server"  # each includes the others
        raise ConfigurationError(
            f"demo needs {', '.join(sorted(set(lacking)))}: {pip_line([extra])}"
        )


def _one(args: argparse.Namespace, options: Options) -> int:
    report = run(options)
    said = verdict(report, options.unlocked)
    if args.json:
        print(json.dumps({**report.as_json(), "verdict": said}), flush=True)
    else:
        print_report(report, said)
        if not options.unlocked:
            print("The same without the lock, side by side: ticketlock demo --compare")
            if takes_the_time(report):
                print(
                    "The times are mostly those of SQLite and HTTP: to see what the lock adds, "
                    "name a tracker store on Redis (--compare --endpoints FILE)"
                )
    return EXIT_FAILED if report.violations else EXIT_OK


def takes_the_time(report: Report) -> bool:
    """Whether the tracker store takes most of the time: SQLite, but killed replicas cost more."""
    return report.tracker_store == SQLITE and not report.kills


def _compare(args: argparse.Namespace, options: Options) -> int:
    """Run with and without the lock; the exit status is that of the run with it."""
    locked = run(options)
    unlocked = run(replace(options, unlocked=True, events=False))
    said = compared(locked, unlocked)
    found = compare(_turns(locked), _turns(unlocked))
    if args.picture is not None:
        try:
            args.picture.write_text(svg(found, said), encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"--picture: {args.picture}: {error.strerror}") from error
    if args.json:
        acts = {"with_lock": locked.as_json(), "without_lock": unlocked.as_json()}
        print(json.dumps({**acts, "verdict": said}), flush=True)
    else:
        print_comparison(locked, unlocked, found, said)
        if args.picture is not None:
            print(f"Picture: {args.picture}")
    return EXIT_FAILED if locked.violations else EXIT_OK


def _turns(report: Report) -> dict[str, list[Span]]:
    """The turns by conversation, without the prefix of the run."""
    return {name.partition(":")[2]: turns for name, turns in (report.turns or {}).items()}


def _check(args: argparse.Namespace) -> None:
    if args.picture is not None and not args.compare:
        raise ConfigurationError("--picture needs --compare")
    if args.picture is not None and args.picture.suffix != ".svg":
        raise ConfigurationError(
            f"--picture: {args.picture}: the picture is an SVG: its name must end in .svg"
        )
    if args.picture is not None and not args.picture.parent.is_dir():
        raise ConfigurationError(f"--picture: {args.picture}: the folder does not exist")
    if args.accepted and (args.compare or args.unlocked):
        raise ConfigurationError(
            "--async: without the lock there is no inbox; leave out --compare and --unlocked"
        )
    if args.compare and args.unlocked:
        raise ConfigurationError("--compare runs both with and without the lock: drop --unlocked")
    if args.compare and args.keep:
        raise ConfigurationError(
            "--compare does not keep conversations: leave out --compare or --keep"
        )
