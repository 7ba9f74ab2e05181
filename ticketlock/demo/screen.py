"""What a demo shows at its end: the table. Needs the `cli` extra."""

from __future__ import annotations

import sys

from ..errors import ConfigurationError
from .report import SHOWN, Report


def require_rich() -> None:
    """Raise ConfigurationError, which is the command to type, unless rich is installed."""
    try:
        import rich  # noqa: F401  # only asked whether it is there
    except ImportError:
        raise ConfigurationError(
            'this command needs rich; install it with: pip install "ticketlock[cli]"'
        ) from None


def print_report(report: Report) -> None:
    """The table, the first violations under it."""
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for title, value in report.rows():
        table.add_row(title, value)
    Console().print(table)
    for violation in report.violations[:SHOWN]:
        print(violation, file=sys.stderr)
    if (hidden := len(report.violations) - SHOWN) > 0:
        print(f"... and {hidden} more", file=sys.stderr)
