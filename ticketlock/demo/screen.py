"""The output of a demo: the table and the timelines. Needs the extra `cli`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from .judge.turns import KINDS
from .report import SHOWN, Report
from .timeline import Comparison, Strip

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

#: Characters of a timeline.
_WIDTH = 52
_LEGEND = (
    "A number begins a turn: the order of sending. \N{FULL BLOCK} it ran alone, "
    "\N{MEDIUM SHADE} it overlapped another."
)


def require_rich() -> None:
    """Raise ConfigurationError with the pip command if rich is not installed."""
    try:
        import rich  # noqa: F401  # only to see whether it is installed
    except ImportError:
        raise ConfigurationError('this command needs rich: pip install "ticketlock[cli]"') from None


def show(*parts: RenderableType) -> None:
    """Print objects of rich by `print`, so that a closed pipe raises BrokenPipeError."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    with console.capture() as capture:
        for part in parts:
            # A line of text is one line for `grep`, whatever the width of no terminal is.
            console.print(part, soft_wrap=isinstance(part, Text) and not console.is_terminal)
    print(capture.get(), end="")


def print_report(report: Report, verdict: str) -> None:
    """Print the table, the first violations and the verdict."""
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for title, value in report.rows():
        table.add_row(title, value)
    show(table)
    print_violations(report)
    show(Text(verdict, "bold red" if report.violations else "bold green"))


def print_violations(report: Report) -> None:
    """Print the first violations to stderr."""
    sys.stdout.flush()
    for violation in report.violations[:SHOWN]:
        print(violation, file=sys.stderr)
    if (hidden := len(report.violations) - SHOWN) > 0:
        print(f"... and {hidden} more", file=sys.stderr)


def print_comparison(
    locked: Report, unlocked: Report, comparisons: Sequence[Comparison], verdict: str
) -> None:
    """Print both tables side by side, the timelines and the verdict."""
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column(style="bold")
    table.add_column("with the lock", justify="right")
    table.add_column("without", justify="right")
    without = dict(unlocked.rows())
    broken = {kind.replace("_", " ") for kind in KINDS}
    for title, value in locked.rows():
        other = without.get(title, "")
        red = "red" if title in broken and other != "0" else ""
        table.add_row(title, value, Text("no lock" if title == "lock store" else other, red))
    show(table, *(line for one in comparisons for line in timeline(one)))
    print(_LEGEND)
    print_violations(locked)
    show(Text(verdict, "bold red" if locked.violations else "bold green"))


def timeline(one: Comparison) -> list[Text]:
    """The timeline of a conversation; turns that overlap get lines of their own."""
    from rich.text import Text

    lines = [
        Text(f"conversation {one.conversation!r}", "bold")
    ]  # quoted, without control characters
    for title, strip in (("with the lock", one.locked), ("without", one.unlocked)):
        for lane in range(strip.lanes):
            head = title if lane == 0 else ""
            tail = f"{1000 * strip.seconds:>6.0f} ms" if lane == 0 else ""
            lines.append(Text(f"  {head:<14}") + _lane(strip, lane) + Text(f" {tail}"))
    return [*lines, Text("")]


def _lane(strip: Strip, lane: int) -> Text:
    """A number at the begin of each turn; overlaps are red, and dotted without colours."""
    from rich.text import Text

    text = Text()
    for span in strip.spans:
        if span.lane == lane:
            scale = (_WIDTH - 1) / strip.seconds if strip.seconds else 0.0
            begin = max(len(text), round(span.begin * scale))
            length = max(1, round(span.end * scale) - begin)
            text.append(" " * (begin - len(text)))
            bar = str(span.label) + ("\N{MEDIUM SHADE}" if span.overlaps else "\N{FULL BLOCK}") * (
                length - 1
            )
            text.append(bar, "red" if span.overlaps else "green")
    text.append(" " * (_WIDTH - len(text)))
    return text
