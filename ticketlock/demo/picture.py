"""The timelines as an SVG, without other packages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap
from xml.sax.saxutils import escape

from .timeline import Comparison, Strip

#: Pixels: the picture, the names at its left, the times at its right, a lane, and between strips.
_WIDTH, _LEFT, _RIGHT, _LANE, _GAP = 960, 130, 80, 20, 12
#: Characters per line of the verdict.
_LINE = 130
_ALONE, _OVERLAPS = "#2a7d4f", "#d0342c"


def svg(comparisons: Sequence[Comparison], verdict: str) -> str:
    """The document, as text."""
    body: list[str] = []
    y = 8
    for line in wrap(verdict, _LINE):
        y += 18
        body.append(f'<text x="12" y="{y}">{_text(line)}</text>')
    for one in comparisons:
        y += 20
        body.append(f'<text x="12" y="{y}" font-weight="bold">{_text(one.conversation)}</text>')
        for name, strip in (("with the lock", one.locked), ("without", one.unlocked)):
            y += _GAP
            body.append(f'<text x="24" y="{y + 15}">{name}</text>')
            body += _strip(strip, y)
            y += strip.lanes * _LANE
        y += _GAP
    legend = (
        f'<rect x="12" y="{y + 10}" width="14" height="14" fill="{_ALONE}"/>'
        f'<text x="32" y="{y + 22}">a turn that ran alone</text>'
        f'<rect x="202" y="{y + 10}" width="14" height="14" fill="{_OVERLAPS}"/>'
        f'<text x="222" y="{y + 22}">a turn that overlapped another one; '
        "the numbers are the order of sending</text>"
    )
    height = y + 40
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    font = 'font-family="sans-serif" font-size="13"'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size} {font}>',
        f"<title>{_text(verdict)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
    )
    return "\n".join([*head, *body, legend, "</svg>", ""])


def _strip(strip: Strip, y: int) -> Iterator[str]:
    width = _WIDTH - _LEFT - _RIGHT
    yield (
        f'<rect x="{_LEFT}" y="{y}" width="{width}" height="{strip.lanes * _LANE}" fill="#f2f2f2"/>'
    )
    scale = width / strip.seconds if strip.seconds else 0.0
    for span in strip.spans:
        x, length = _LEFT + span.begin * scale, max(2.0, (span.end - span.begin) * scale)
        top = y + span.lane * _LANE + 1
        color = _OVERLAPS if span.overlaps else _ALONE
        yield (
            f'<rect x="{x:.1f}" y="{top}" width="{length:.1f}" height="{_LANE - 2}" rx="2" '
            f'fill="{color}" stroke="#ffffff"/>'
        )
        if length > 9:
            yield f'<text x="{x + 3:.1f}" y="{top + 14}" fill="#ffffff">{span.label}</text>'
    yield f'<text x="{_WIDTH - _RIGHT + 6}" y="{y + 15}">{1000 * strip.seconds:.0f} ms</text>'


def _text(text: str) -> str:
    """Text of users: without control characters, and with markup escaped."""
    return escape(text if text.isprintable() else ascii(text))
