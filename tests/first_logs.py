"""The first log of each test that failed, kept in a file that `.ci/tests` prints at the end.

A test that fails beside others and passes alone would leave a name only; its log and its seed
are what explains it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

#: The variable that names the file.
VARIABLE = "TICKETLOCK_FIRST_LOGS"


def keep(report: pytest.TestReport, file: Path) -> None:
    """Append what a failed test has said, under its name and its seed."""
    said = "\n".join(f"--- {name}\n{text}" for name, text in report.sections)
    seed = re.search(r"\bseed[ =:]+(\d+)", f"{said}\n{report.longreprtext}")
    title = f"first log of {report.nodeid} ({report.when}, {report.duration:.1f} s"
    title += f", seed {seed[1]})" if seed else ")"
    with file.open("a") as logs:
        logs.write(f"\n===== {title}\n{report.longreprtext}\n{said}\n")
