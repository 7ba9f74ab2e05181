"""The page of the doctor says what the code does, and each fault has its tests."""

from __future__ import annotations

import re
from pathlib import Path

from doctor_reference import COMMAND, PAGE, page

from ticketlock.doctor import FAULTS

TESTS = Path(__file__).parents[1]


def test_the_table_is_that_of_the_code() -> None:
    """Names, severities, reasons and sources."""
    assert PAGE.read_text() == page(), f"write it anew: {COMMAND}"
    assert len(FAULTS) == page().count("\n| `")


def test_each_fault_is_found_in_a_test() -> None:
    """By its name: on a server that has it, or in the table of what no server here can have."""
    files = [*TESTS.glob("integration/test_doctor_*.py"), TESTS / "unit" / "test_doctor.py"]
    named = set(
        re.findall(r'"([a-z]+(?:-[a-z]+)+|unreachable)"', "".join(map(Path.read_text, files)))
    )
    assert FAULTS.keys() - named == {"redis-version"}  # whose test names the faults instead
