"""`ticketlock stress`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checker import History, Verdict, check, picture, png, timeline
from ..endpoints.file import read_endpoints
from ..errors import ConfigurationError, TicketLockError
from ..imports import missing, needs
from ..stress.nemeses import ALL, NEMESES
from ..stress.plan import Options
from .common import EXIT_FAILED, EXIT_OK, above_zero, positive

if TYPE_CHECKING:
    from ..stress.report import Report

#: Violations that are printed; the others are only counted.
SHOWN = 10
#: Options that `--check` goes with; the others are of a run.
OF_CHECK = ("check", "wait_bound", "timeline", "json")
#: What the name of a timeline may end in.
PICTURES = (".html", ".svg", ".png")


def add(commands: Any) -> None:
    """Add the command to a parser's subcommands."""
    stress = commands.add_parser(
        "stress", help="let processes take turns on a lock store, and check the history",
        description="Worker processes take turns on a lock store, on a Redis of their own or, with "
        "--endpoints, on yours, and record what they do; then the history is judged. The status is 0 "
        "if every promise was kept.",
    )  # fmt: skip
    stress.set_defaults(command=partial(_stress, stress))
    option = stress.add_argument
    option(
        "--endpoints", type=Path, metavar="FILE",
        help="stress its lock_store, with keys of its own; default: starts a Redis",
    )  # fmt: skip
    option(
        "--key-prefix", metavar="PREFIX",
        help="with --endpoints: prefix of its keys, letters and digits, for a user who may use "
        "only such keys; default: another one for each run",
    )  # fmt: skip
    for name, kind, default, text in (
        ("--seconds", above_zero, 10, "for how long new turns are begun"),
        ("--processes", positive, 3, "worker processes"),
        ("--tasks", positive, 8, "tasks in each worker that take turns"),
        ("--conversations", positive, 10, "conversations that the turns share; fewer make longer queues"),
        ("--rate", above_zero, 200, "turns a second at most, all workers together"),
    ):  # fmt: skip
        unit = "SECONDS" if name == "--seconds" else "N"
        option(name, type=kind, default=default, metavar=unit, help=f"{text} (%(default)s)")
    option(
        "--wait-bound", type=above_zero, default=60, metavar="SECONDS",
        help="it is a violation if a living process waits for longer (%(default)s)",
    )  # fmt: skip
    option(
        "--seed", type=int, default=1, metavar="N", help="seed of the random numbers (%(default)s)"
    )
    option(
        "--messages", action="store_true",
        help="submit messages to the inbox, which all workers serve, instead of taking turns",
    )  # fmt: skip
    option(
        "--nemesis", metavar="NAME[,NAME]", default="",
        help="faults to inject, without --endpoints: "
        f"{', '.join(NEMESES)}; keeping: all that keep data; losing: all that lose data, except clock",
    )  # fmt: skip
    option(
        "--topology", choices=ALL, default="server",
        help="what is started without --endpoints: one server, a cluster of 3 masters with a replica "
        "each, or a master with 2 replicas and 3 sentinels (%(default)s)",
    )  # fmt: skip
    option(
        "--server-program", metavar="FILE",
        help="the redis-server or valkey-server that is started; default: what is installed",
    )  # fmt: skip
    option(
        "--min-replicas", type=int, metavar="N",
        help="min-replicas-to-write of what is started; default: 1 under Sentinel, else 0",
    )  # fmt: skip
    option(
        "--durability", choices=("none", "replicas", "majority", "aof"),
        help="durability of the lock store on the servers that are started; it is a violation if a failover "
        "loses what each replica has acknowledged",
    )  # fmt: skip
    option(
        "--durability-replicas",
        type=positive,
        metavar="N",
        help="with --durability replicas: how many must acknowledge (1)",
    )
    option(
        "--durability-degraded", choices=("serve", "refuse"),
        help="while acknowledgements are missing: serve turns, which a failover may lose, or refuse them (serve)",
    )  # fmt: skip
    option("--yes", action="store_true", help="do not ask before a server of yours is stressed")
    option("--history", type=Path, metavar="FILE", help="write the history, as JSON lines")
    option(
        "--timeline", type=Path, metavar="FILE",
        help="draw the violations, or if there are none what a loss of data excuses: all as .html, or the "
        "first one as .svg or .png",
    )  # fmt: skip
    option(
        "--check", type=Path, nargs="+", metavar="FILE",
        help="only judge the history in these files, of this lock or of another one; goes with "
        "--wait-bound, --timeline and --json",
    )  # fmt: skip
    option("--json", action="store_true", help="print one JSON object instead of the table")


def _stress(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    if args.check is not None:
        _of_check(parser, args)
    if args.timeline is not None and args.timeline.suffix not in PICTURES:
        raise ConfigurationError(
            f"--timeline: {args.timeline} does not end in {', '.join(PICTURES)}"
        )
    if args.timeline is not None and args.timeline.suffix == ".png" and missing("pictures"):
        raise ConfigurationError(f"--timeline: a PNG {needs({'pictures': missing('pictures')})}")
    if args.check is not None:
        return _check(args)
    options = _options(args)
    if options.lock_store is not None and not args.yes:
        _ask(options)
    report = _run(args, options)
    if args.json:
        print(json.dumps(report.as_json()), flush=True)
    else:
        _table(dict(report.rows()))
        _violations(report.verdict)
        print(report.said, flush=True)
    # Behind the verdict, which is not lost where a file cannot be written.
    if args.history is not None:
        _write("--history", args.history, report.history.write)
    _draw(args, report.history, report.verdict)
    return EXIT_OK if report.ok else EXIT_FAILED


def _run(args: argparse.Namespace, options: Options) -> Report:
    from ..stress.course import run

    try:
        return run(options)
    except TicketLockError as error:
        prefix = (options.lock_store or {}).get("key_prefix")
        if args.key_prefix is not None or not prefix or prefix not in str(error):
            raise
        # The rights that it asks for would be those of this run alone.
        raise type(error)(
            f"{error}; the next run would have another prefix: choose one with --key-prefix (letters and "
            "digits), and grant the rights for it"
        ) from error


def _options(args: argparse.Namespace) -> Options:
    """Raises ConfigurationError."""
    from ..stress.course import stressed

    section, where = None, "lock_store"
    if args.key_prefix is not None and args.endpoints is None:
        raise ConfigurationError("--key-prefix is for the server of --endpoints")
    if args.endpoints is not None:
        endpoints = read_endpoints(args.endpoints)
        where, found = endpoints.where("lock_store"), endpoints.section("lock_store")
        if found is None:
            raise ConfigurationError(f"{where}: is missing: name the lock store to stress")
        url = {} if found.url is None else {"url": found.url}
        section = stressed({"type": found.type, **url, **found.kwargs}, where, args.key_prefix)
    for name, path in (("--history", args.history), ("--timeline", args.timeline)):
        if path is not None and not path.parent.is_dir():
            raise ConfigurationError(f"{name}: {path}: the folder does not exist")
    return Options(
        section, where, args.seconds, args.processes, args.tasks, args.conversations, args.rate,
        topology=args.topology, program=args.server_program, min_replicas=args.min_replicas,
        durability=args.durability, durability_replicas=args.durability_replicas,
        durability_degraded=args.durability_degraded,
        nemeses=tuple(filter(None, args.nemesis.split(","))), messages=args.messages,
        wait_bound=args.wait_bound, seed=args.seed,
    )  # fmt: skip


def _ask(options: Options) -> None:
    """Say what other clients of the server will feel. Raises ConfigurationError without a yes."""
    section = options.lock_store or {}
    print(
        f"{options.where}: {options.processes} processes will {_load(options)} for {options.seconds:g} s. "
        f"All keys of the run begin with {section['key_prefix']}: and the keys of locks are removed at "
        f"the end{'; those of messages and histories stay' if options.messages else ''}.",
        file=sys.stderr,
    )
    if not sys.stdin.isatty():
        raise ConfigurationError(
            "standard input is not a terminal: add --yes to run without the question"
        )
    print("Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise ConfigurationError("nothing was done")


def _load(options: Options) -> str:
    """What a run does to a server."""
    if options.messages:
        return f"submit and handle up to {options.rate:g} messages a second"
    return f"take up to {options.rate:g} turns a second (about 20 Redis commands each)"


def _of_check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Raises ConfigurationError for options of a run, which would have no effect."""
    given = [
        action.option_strings[0]
        for action in parser._actions  # noqa: SLF001  # argparse has no public list of them
        if action.dest not in OF_CHECK
        and getattr(args, action.dest, action.default) != action.default
    ]
    if given:
        raise ConfigurationError(f"--check only reads files: leave out {', '.join(given)}")


def _check(args: argparse.Namespace) -> int:
    """Judge the history in files."""
    history = History.read(*args.check)
    if not history.operations:  # a verdict about nothing would look like a proof
        raise ConfigurationError(f"--check: no operations in {', '.join(map(str, args.check))}")
    verdict = check(history, wait_bound=args.wait_bound)
    _draw(args, history, verdict)
    if args.json:
        print(json.dumps(verdict.as_json()), flush=True)
    else:
        rows = {kind.replace("_", " "): str(count) for kind, count in verdict.counts().items()}
        _table({"operations": str(verdict.operations), **rows})
        _violations(verdict)
    return EXIT_OK if verdict.ok else EXIT_FAILED


def _write(option: str, path: Path, write: Callable[[Path], object]) -> None:
    try:
        write(path)
    except OSError as error:
        raise ConfigurationError(f"{option}: {path}: {error.strerror}") from error


def _draw(args: argparse.Namespace, history: History, verdict: Verdict) -> None:
    """Draw the violations where that is wanted; what servers forgot if there are no others."""
    found = verdict.violations or verdict.forgotten
    if args.timeline is None or not found:
        return
    if args.timeline.suffix == ".png":
        drawn = png(history, found[0])
    elif args.timeline.suffix == ".svg":
        drawn = picture(history, found[0]).encode()
    else:
        drawn = timeline(history, found).encode()
    _write("--timeline", args.timeline, lambda path: path.write_bytes(drawn))
    print(f"Timeline: {args.timeline}", file=sys.stderr)


def _table(rows: dict[str, str]) -> None:
    width = max(map(len, rows))
    print("\n".join(f"{title:{width}}  {value}" for title, value in rows.items()))


def _violations(verdict: Verdict) -> None:
    """Print the first ones to standard error."""
    sys.stdout.flush()
    for violation in verdict.violations[:SHOWN]:
        print(violation, file=sys.stderr)
    if (hidden := len(verdict.violations) - SHOWN) > 0:
        print(f"... and {hidden} more", file=sys.stderr)
