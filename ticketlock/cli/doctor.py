"""`ticketlock doctor`: look at every server of an `endpoints.yml`."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..doctor import FAULTS, Doctor, Finding, Visit
from ..doctor.finding import SECTION, UNREACHABLE, WRONG_SETTING
from ..doctor.redis.rights import LUA, RIGHTS
from ..endpoints.file import read_endpoints
from ..settings.section import hint
from .common import ENDPOINTS, EXIT_FAILED, EXIT_OK, EXIT_UNAVAILABLE, positive
from .config.check import Component, check

#: Severity -> colour of its word, on a terminal.
_COLOURS = {"error": "31", "warning": "33", "note": "36", "accepted": "36", "ok": "32"}
#: In this order a server's findings are shown.
_ORDER = ("error", "warning", "note", "accepted")
#: Columns of the text beside a finding's `what`, `why` and `do`.
_WIDTH = 100


def add(commands: Any) -> None:
    """Add the command to a parser's subcommands."""
    command = commands.add_parser(
        "doctor", help="look at every server that endpoints.yml names, and say what is wrong"
    )
    command.set_defaults(command=_doctor)
    command.add_argument(
        "--endpoints", type=Path, metavar="FILE", default=ENDPOINTS, help="%(default)s"
    )
    command.add_argument(
        "--timeout", type=_seconds, metavar="SECONDS", default=10.0,
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


def _seconds(text: str) -> float:
    number = float(text)
    if not 0.05 <= number <= 600:
        raise argparse.ArgumentTypeError(f"{text} is not from 0.05 to 600")
    return number


_seconds.__name__ = "number"  # argparse shows it: invalid number value


def _name(text: str) -> str:
    if text not in FAULTS or text == UNREACHABLE.name:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be accepted; {hint(text, FAULTS)}")
    return text


def _doctor(args: argparse.Namespace) -> int:
    logging.getLogger("ticketlock").setLevel(
        logging.ERROR
    )  # what is logged at a start is a finding
    visits = asyncio.run(_visits(args.endpoints, args.timeout, args.replicas))
    for visit in visits:
        known = (replace(one, severity="accepted") if one.name in args.accept else one
                 for one in visit.findings)  # fmt: skip
        visit.findings = sorted(known, key=lambda one: _ORDER.index(one.severity))
    status = _status(visits)
    if args.json:
        shown = {"status": status, "visits": [visit.as_dict() for visit in visits]}
        print(json.dumps({"ok": status == EXIT_OK, **shown}))
    else:
        print("\n".join(_lines(visits, sys.stdout.isatty())))
    return status


async def _visits(path: Path, timeout: float, replicas: int) -> list[Visit]:
    """What the check of the file says of each section, with what was seen of its server."""
    endpoints = read_endpoints(path)
    report = await check(path, timeout)
    visits = await Doctor(endpoints, timeout=timeout, replicas=replicas).visits()
    for component in report.components:
        finding = _judged(component)
        beside = [visit for visit in visits if component.section in visit.sections]
        if finding is None or _known(finding, beside):
            continue
        if not beside:
            beside = [Visit(component.where, (component.section,))]
            visits += beside
        beside[0].findings.insert(0, finding)
    return visits


def _judged(component: Component) -> Finding | None:
    """What the check of a section has found."""
    if component.problem is not None:
        correct = "correct that, and run the doctor again"
        fault = WRONG_SETTING if component.mistaken else UNREACHABLE
        return fault.found(component.problem, correct)
    if component.warning is not None:
        return SECTION.found(
            f"{component.section}: {component.warning}", "see docs/guides/configure.md"
        )
    return None


def _known(finding: Finding, visits: Sequence[Visit]) -> bool:
    """Whether the visits to a Redis have found why a section does not work, or what it warns of."""
    redis = [visit for visit in visits if visit.server.startswith("Redis at ")]
    if finding.name == SECTION.name:
        return bool(redis)
    causes = (UNREACHABLE.name, LUA.name, RIGHTS.name)
    found = [other for visit in redis for other in visit.findings]
    return finding.name == UNREACHABLE.name and any(other.name in causes for other in found)


def _status(visits: Sequence[Visit]) -> int:
    found = [finding for visit in visits for finding in visit.findings]
    if any(finding.name == UNREACHABLE.name for finding in found):
        return EXIT_UNAVAILABLE
    severe = any(finding.severity in ("error", "warning") for finding in found)
    return EXIT_FAILED if severe else EXIT_OK


def _lines(visits: Sequence[Visit], colour: bool) -> Iterator[str]:
    """The visits as text: a head for each server, below it its findings."""
    counts = dict.fromkeys(_ORDER, 0)
    for visit in visits:
        seen = f": {visit.seen}" if visit.seen else ""
        yield f"{visit.server} ({', '.join(visit.sections)}){seen}"
        if not visit.findings:
            yield f"  {_word('ok', colour)}"
        for finding in visit.findings:
            counts[finding.severity] += 1
            yield f"  {_word(finding.severity, colour)}  {finding.name}"
            for name, text in (("what", finding.what), ("why", finding.why), ("do", finding.do)):
                yield from _wrapped(name, text)
        yield ""
    told = ", ".join(_count(name, count) for name, count in counts.items() if count)
    yield told or "nothing is wrong"


def _count(severity: str, count: int) -> str:
    return f"{count} {severity}{'s' * (count != 1 and severity != 'accepted')}"


def _word(severity: str, colour: bool) -> str:
    word = f"{severity:8}"
    return f"\x1b[{_COLOURS[severity]}m{word}\x1b[0m" if colour else word


def _wrapped(name: str, text: str) -> Iterator[str]:
    """A text beside its name. What is to be typed is not broken: it is copied."""
    start = f"            {name:4}  "
    if name == "do":
        yield start + text
        return
    yield from textwrap.wrap(
        text, _WIDTH + len(start), initial_indent=start, subsequent_indent=" " * len(start),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
