"""What is kept of a test that failed and is repeated."""

from __future__ import annotations

from pathlib import Path

import pytest
from first_logs import keep


def test_name_seed_and_log_are_kept(tmp_path: Path) -> None:
    """Of each failure, one after the other."""
    for seed in (8855, 17):
        report = pytest.TestReport(
            "tests/faults/test_roll.py::test_a_fleet[many]", ("", 0, ""), {}, "failed",
            "AssertionError: worker 7 is stuck", "call",
            [("Captured stdout call", f"seed {seed}\n")], duration=3,
        )  # fmt: skip
        keep(report, tmp_path / "logs")
    first, second = (tmp_path / "logs").read_text().split("\n===== ")[1:]
    assert first.startswith(
        "first log of tests/faults/test_roll.py::test_a_fleet[many] (call, 3.0 s, seed 8855)\n"
    )
    assert "worker 7 is stuck" in first
    assert "seed 17" in second
