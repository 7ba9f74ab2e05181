"""Real servers for the tests: started as child processes, ended by process id."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable

import pytest

#: In CI a missing server is a failure, at a desk a skipped test with its reason.
CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")


_ABSENT = "is not installed:"


def missing(what: str, how: str) -> None:
    """A server that a test needs is not here: fail in CI, else skip saying how to get it."""
    message = f"{what} {_ABSENT} {how}"
    if CI:
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def left_out(reports: Iterable[pytest.TestReport]) -> list[str]:
    """A line for each server that skipped tests wanted: how many they are, and how to get it."""
    counts: Counter[str] = Counter()
    for report in reports:
        if found := re.search(rf"Skipped: (.* {_ABSENT} .*)", str(report.longrepr)):
            counts[found[1].rstrip("')\"")] += 1
    return [f"{n} {'test' if n == 1 else 'tests'}: {what}" for what, n in counts.most_common()]
