"""`ticketlock doctor`: look at every server of an `endpoints.yml`."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...settings.section import hint
from ..common import ENDPOINTS, EXIT_OK, between, positive


def add(commands: Any) -> None:
    """Add the command to a parser's subcommands."""
    command = commands.add_parser(
        "doctor",
        help="examine every server that endpoints.yml names",
        description="Connects to every server that the file names. For each fault it says what is wrong, "
        "why it matters and what to do. It changes no setting. The status is 1 if there are errors or "
        "warnings that are not accepted, 3 if a server cannot be used.",
    )
    command.set_defaults(command=_doctor)
    command.add_argument(
        "--endpoints",
        type=Path,
        metavar="FILE",
        default=ENDPOINTS,
        help="file that names the servers (%(default)s)",
    )
    command.add_argument(
        "--timeout", type=between(0.05, 600), metavar="SECONDS", default=10.0,
        help="seconds for each question to a server (%(default)g)",
    )  # fmt: skip
    command.add_argument(
        "--replicas", type=positive, metavar="N", default=2,
        help="how many processes use the file, for limits of connections (%(default)s)",
    )  # fmt: skip
    command.add_argument(
        "--accept", action="append", type=_name, metavar="FINDING", default=[],
        help="a finding that is known and does not change the status; may be given several times",
    )  # fmt: skip
    command.add_argument("--json", action="store_true", help="print one JSON object")


def _name(text: str) -> str:
    from ...doctor import FAULTS
    from ...doctor.finding import UNREACHABLE

    if text == UNREACHABLE.name:
        raise argparse.ArgumentTypeError(f"{text} cannot be accepted: replicas need that server")
    if text not in FAULTS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a finding; {hint(text, FAULTS)}")
    return text


@contextmanager
def _quiet() -> Iterator[None]:
    """Log errors alone: what a store warns of when it is opened is a finding."""
    log = logging.getLogger("ticketlock")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _doctor(args: argparse.Namespace) -> int:
    from .visits import ORDER, lines, made, status

    with _quiet():
        visits = asyncio.run(made(args.endpoints, args.timeout, args.replicas))
    for visit in visits:
        known = (replace(one, severity="accepted") if one.name in args.accept else one
                 for one in visit.findings)  # fmt: skip
        visit.findings = sorted(known, key=lambda one: ORDER.index(one.severity))
    code = status(visits)
    if args.json:
        shown = {"status": code, "visits": [visit.as_dict() for visit in visits]}
        print(json.dumps({"ok": code == EXIT_OK, **shown}))
    else:
        terminal = sys.stdout.isatty()
        plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        columns = shutil.get_terminal_size().columns if terminal else None
        print("\n".join(lines(visits, terminal and not plain, columns)))
    return code
