"""Violations as timelines that a person can read: a page that needs nothing else."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from textwrap import wrap
from xml.sax.saxutils import escape

from .history import History
from .operations import Fault, Operation
from .shrinking import Turn, shrunk, turns, window
from .turns import holdings
from .verdict import VIOLATIONS, Violation

#: Violations that are drawn, and processes of each.
MOST, ROWS = 12, 16
#: Pixels: the picture, the names at its left, a row, and the scale above the rows.
_WIDTH, _LEFT, _ROW, _TOP = 1100, 150, 28, 30
#: By name: what makes a PNG does not know which font of the machine is meant by `sans-serif`.
_FONT = 'font-family="Arial, DejaVu Sans, Liberation Sans, Noto Sans, Helvetica, sans-serif"'
#: Characters of a line of text.
_LINE = 150
_HELD, _WAITED, _FAULT, _WRONG = "#2a7d4f", "#c8c8c8", "#f3d9a4", "#d0342c"

_HEAD = """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Violations</title><style>
body { font: 14px sans-serif; margin: 24px; max-width: 1100px }
p.wrong { color: #d0342c } svg { background: #fafafa }
</style></head><body>
<h1>Violations</h1>
<p>Grey: a process waits, with a line where its place was certain. Green: it certainly holds the turn;
dashed: its lease has ended, or its release is under way. Dots are writes, hollow ones were refused. Yellow: a fault.
Red: what must not be.</p>
"""


def timeline(history: History, violations: Sequence[Violation]) -> str:
    """An HTML page with a picture of each violation: first one of each kind, then others."""
    first = {one.kind: one for one in reversed(violations)}
    order = [first[kind] for kind in VIOLATIONS if kind in first]
    order += [one for one in violations if one not in order]
    parts = [part for one in order[:MOST] for part in _section(history, one)]
    hidden = len(order) - MOST
    parts += [f"<p>and {hidden} more</p>"] if hidden > 0 else []
    return "\n".join([_HEAD, *parts, "</body></html>", ""])


def picture(history: History, violation: Violation) -> str:
    """An SVG document that shows a violation, with the sentence that says what is wrong."""
    drawn = list(_Picture(shrunk(history, violation), violation).svg())
    lines = wrap(_shown(str(violation)), _LINE)
    below = 22 + 16 * len(lines)
    found = re.search(r'height="(\d+)"', drawn[0])
    assert found is not None  # each has one
    height = int(found[1]) + below
    said = (
        f'<text x="6" y="{18 + 16 * place}" fill="{_WRONG}">{escape(line)}</text>'
        for place, line in enumerate(lines)
    )
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} {_FONT} font-size="13">',
            f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
            *said,
            f'<g transform="translate(0 {below})">',
            *drawn,
            "</g>",
            "</svg>",
            "",
        )
    )


def png(history: History, violation: Violation) -> bytes:
    """The same as a PNG, by resvg, which the extra `pictures` has."""
    from resvg_py import svg_to_bytes

    return bytes(svg_to_bytes(svg_string=picture(history, violation)))


def _section(history: History, violation: Violation) -> Iterator[str]:
    yield f"<h2>{_text(violation.kind.replace('_', ' '))}</h2>"
    yield f'<p class="wrong">{_text(str(violation))}</p>'
    yield from _Picture(shrunk(history, violation), violation).svg()


class _Picture:
    """One violation: a row for each process."""

    def __init__(self, history: History, violation: Violation) -> None:
        self._history, self._violation = history, violation
        self._since, self._until = window(violation)
        self._wrong = [one for one in (violation.operation, violation.against) if one is not None]
        names = dict.fromkeys(one.process for one in (*self._wrong, *history.operations))
        self._rows = {name: row for row, name in enumerate(list(names)[:ROWS])}
        self._hidden = len(names) - len(self._rows)
        self._certain = {id(one.grant): one for one in holdings(history.operations)}

    def svg(self) -> Iterator[str]:
        height = _TOP + _ROW * len(self._rows) + 24
        font = f'{_FONT} font-size="12"'
        size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" {font}'
        yield f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
        for fault in self._history.faults:
            yield from self._fault(fault)
        yield from self._scale(height - 24)
        for name, row in self._rows.items():
            color = _WRONG if any(one.process == name for one in self._wrong) else "#000"
            y = _TOP + row * _ROW + 18
            yield f'<text x="6" y="{y}" fill="{color}">{_text(name[:22])}</text>'
        for turn in turns(self._history.operations):
            if turn[0].process in self._rows:
                yield from self._turn(turn)
        if self._violation.seconds:
            x, width = self._span(self._violation.since, self._violation.until)
            yield self._box(x, _TOP - 6, width, height - _TOP - 18, _WRONG, "fill-opacity='.12'")
        if self._hidden:
            yield f'<text x="6" y="{height - 6}">and {self._hidden} more processes</text>'
        yield "</svg>"

    def _x(self, moment: float) -> float:
        within = min(max(moment, self._since), self._until) - self._since
        return _LEFT + (_WIDTH - _LEFT - 20) * within / (self._until - self._since)

    def _span(self, since: float, until: float) -> tuple[float, float]:
        return self._x(since), max(2.0, self._x(until) - self._x(since))

    def _box(
        self, x: float, y: float, width: float, height: float, fill: str, more: str = ""
    ) -> str:
        return (
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
            f'fill="{fill}" {more}/>'
        )

    def _scale(self, bottom: float) -> Iterator[str]:
        """Seconds of the history's clock, as in the sentence about the violation."""
        span = self._until - self._since
        decimals = 3 if span > 0.01 else 6
        for part in range(6):
            moment = self._since + span * part / 5
            x = self._x(moment)
            yield f'<line x1="{x:.1f}" y1="{_TOP - 8}" x2="{x:.1f}" y2="{bottom}" stroke="#ddd"/>'
            anchor = "end" if part == 5 else "middle"
            yield (
                f'<text x="{x:.1f}" y="14" fill="#555" text-anchor="{anchor}">'
                f"{moment:.{decimals}f} s</text>"
            )

    def _fault(self, fault: Fault) -> Iterator[str]:
        x, width = self._span(fault.since, fault.until)
        said = f"<title>{_text(fault.kind)}</title>"
        rows = [
            row
            for name, row in self._rows.items()
            if fault.process in (None, name, name.partition("/")[0])
        ]
        for row in rows:
            box = self._box(x, _TOP + row * _ROW + 1, width, _ROW - 2, _FAULT)
            yield f"{box.removesuffix('/>')}>{said}</rect>"
        if rows and fault.process is None:
            yield f'<text x="{x:.1f}" y="26" fill="#a06a00">{_text(fault.kind)}</text>'

    def _turn(self, turn: Turn) -> Iterator[str]:
        first, last = turn[0], turn[-1]
        y = _TOP + self._rows[first.process] * _ROW + 5
        wrong = any(one is bad for one in turn for bad in self._wrong)
        stroke = f'stroke="{_WRONG}" stroke-width="2"' if wrong else 'stroke="#fff"'
        if first.kind == "acquire":
            yield self._bar(first.invoked, first.completed, y + 6, 6, _WAITED)
            if first.arrived is not None:
                yield self._bar(first.arrived, first.arrived, y + 3, 12, "#555")
        if (holding := self._certain.get(id(first))) is not None:
            end = last.completed if math.isfinite(last.completed) else last.invoked
            if end > holding.until:
                dashed = f'stroke="{_HELD}" stroke-dasharray="3 3"'
                yield self._bar(holding.until, end, y, 18, "none", dashed)
            yield self._bar(holding.since, holding.until, y, 18, _HELD, stroke)
            if first.fence is not None and holding.until > self._since:
                x, tail = self._x(holding.since) + 4, str(first.fence)[-6:]
                yield f'<text x="{x:.1f}" y="{y + 13}" fill="#fff">{tail}</text>'
        for one in turn:
            yield from self._mark(one, y)

    def _bar(
        self, since: float, until: float, y: float, height: float, fill: str, more: str = ""
    ) -> str:
        """What is in the window; empty if nothing is."""
        if until < self._since or since > self._until:
            return ""
        x, width = self._span(since, until)
        return self._box(x, y, width, height, fill, more)

    def _mark(self, one: Operation, y: float) -> Iterator[str]:
        """A write, or what was done with a message."""
        if one.kind in ("acquire", "release", "begin"):
            return
        moment = one.completed if math.isfinite(one.completed) else one.invoked
        if not self._since <= moment <= self._until:
            return
        x = self._x(moment)
        color = _WRONG if any(one is bad for bad in self._wrong) else "#1f4e9e"
        fill = color if one.outcome == "ok" else "#fff"
        about = "" if one.message is None else f" {one.message}"
        said = _text(f"{one.kind}{about}: {one.outcome}")
        yield (
            f'<circle cx="{x:.1f}" cy="{y + 9}" r="4" fill="{fill}" stroke="{color}">'
            f"<title>{said}</title></circle>"
        )
        if one.message is not None:
            yield f'<text x="{x + 6:.1f}" y="{y + 13}" fill="{color}">{said}</text>'


def _text(text: str) -> str:
    """Text of users: without control characters, and with markup escaped."""
    return escape(_shown(text))


def _shown(text: str) -> str:
    return text if text.isprintable() else ascii(text)
