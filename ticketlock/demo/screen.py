"""What a demo shows: its progress on stderr, its table on stdout. Needs the `cli` extra."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from .report import SHOWN, Report

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


def require_rich() -> None:
    """Raise ConfigurationError, which is the command to type, unless rich is installed."""
    try:
        import rich  # noqa: F401  # only asked whether it is there
    except ImportError:
        raise ConfigurationError(
            'this command needs rich; install it with: pip install "ticketlock[cli]"'
        ) from None


class Screen:
    """Live progress; plain lines where stderr is no terminal."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Screen:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            self._progress = Progress(console=Console(stderr=True), transient=True)
            self._progress.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def phase(self, what: str, total: int) -> None:
        """Begin a bar for something of which there are `total`."""
        if self._progress is not None:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task(what, total=total)

    def show(self, done: int) -> None:
        """Move the bar."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if self._progress is not None:
            self._progress.console.print(text, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)


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
