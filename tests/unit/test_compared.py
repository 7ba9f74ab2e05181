"""The figures of README and of the comparison are those of the published benchmarks."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: The columns of both tables, as the tables of the benchmarks name the locks.
LOCKS = ("ticketlock", "redis-py", "python-redis-lock, threads", "redis-fifo-lock")

#: The start of a row -> workload, column, and the unit behind its figures.
ROWS = {
    "worst wait, 16 contenders": ("d", "worst ms", " ms"),
    "cycles a second, 1,000 conversations": ("b", "1,000 tasks", ""),
    "hand-off with 100 waiting": ("c", "100 waiting", " µs"),
    "one cycle without waiters": ("a", "µs a cycle", " µs"),
    "Redis commands a cycle": ("e", "commands a cycle", ""),
}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def published(letter: str, column: str) -> dict[str, str]:
    """Lock -> its median in the last column of that name."""
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    table = text.partition(f"\n### ({letter}) ")[2].partition("\n\n")[2].partition("\n\n")[0]
    head, _, *lines = map(cells, table.splitlines())
    at = len(head) - 1 - head[::-1].index(column)
    return {line[0]: line[at].partition(" [")[0] for line in lines}


@pytest.mark.parametrize("page", ["README.md", "docs/comparison.md"])
def test_figures_are_those_of_the_benchmarks(page: str) -> None:
    found = 0
    for line in (ROOT / page).read_text().splitlines():
        for start, (letter, column, unit) in ROWS.items():
            if line.startswith(f"| {start}"):
                figures = published(letter, column)
                told = [cell.removesuffix(" (threads)") for cell in cells(line)[1:5]]
                assert told == [figures[lock] + unit for lock in LOCKS], line
                found += 1
    assert found >= 3
