"""What `ticketlock doctor` has seen: the visits to all servers, their status, and their text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...doctor import Doctor, Finding, Visit
from ...doctor.finding import SECTION, UNREACHABLE, WRONG_SETTING
from ...doctor.redis.durability import CANNOT_WAIT
from ...doctor.redis.rights import LUA, RIGHTS
from ...endpoints.file import read_endpoints
from ..common import EXIT_FAILED, EXIT_OK, EXIT_UNAVAILABLE
from ..config.check import Component, check

#: Severity -> colour of its word, on a terminal.
_COLOURS = {"error": "31", "warning": "33", "note": "36", "accepted": "36", "ok": "32"}
#: In this order a server's findings are shown.
ORDER = ("error", "warning", "note", "accepted")
#: Columns of the text beside a finding's `what`, `why` and `do`: in a file, and at least.
_WIDTH, _NARROW = 100, 20


async def made(path: Path, timeout: float, replicas: int) -> list[Visit]:
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
    causes = (UNREACHABLE.name, LUA.name, RIGHTS.name, CANNOT_WAIT.name)
    found = [other for visit in redis for other in visit.findings]
    return finding.name == UNREACHABLE.name and any(other.name in causes for other in found)


def status(visits: Sequence[Visit]) -> int:
    found = [finding for visit in visits for finding in visit.findings]
    if any(finding.name == UNREACHABLE.name for finding in found):
        return EXIT_UNAVAILABLE
    severe = any(finding.severity in ("error", "warning") for finding in found)
    return EXIT_FAILED if severe else EXIT_OK


def lines(visits: Sequence[Visit], colour: bool, columns: int | None = None) -> Iterator[str]:
    """The visits as text: a head for each server, below it its findings.

    Args:
        columns: of the terminal; None: it is none.
    """
    counts = dict.fromkeys(ORDER, 0)
    for visit in visits:
        seen = f": {visit.seen}" if visit.seen else ""
        yield f"{visit.server} ({', '.join(visit.sections)}){seen}"
        if not visit.findings:
            yield f"  {_word('ok', colour)}"
        for finding in visit.findings:
            counts[finding.severity] += 1
            yield f"  {_word(finding.severity, colour)}  {finding.name}"
            for name, text in (("what", finding.what), ("why", finding.why), ("do", finding.do)):
                yield from _wrapped(name, text, columns)
        yield ""
    told = ", ".join(_count(name, count) for name, count in counts.items() if count)
    yield told or "nothing is wrong"


def _count(severity: str, count: int) -> str:
    return f"{count} {severity}{'s' * (count != 1 and severity != 'accepted')}"


def _word(severity: str, colour: bool) -> str:
    word = f"{severity:8}"
    return f"\x1b[{_COLOURS[severity]}m{word}\x1b[0m" if colour else word


def _wrapped(name: str, text: str, columns: int | None) -> Iterator[str]:
    """A text beside its name. What is to be typed is not broken: it is copied."""
    start = f"            {name:4}  "
    room = _WIDTH if columns is None else max(_NARROW, min(_WIDTH, columns - len(start)))
    if name == "do":
        yield start + text.replace("\n", "\n" + " " * len(start))
        return
    yield from textwrap.wrap(
        text, room + len(start), initial_indent=start, subsequent_indent=" " * len(start),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
