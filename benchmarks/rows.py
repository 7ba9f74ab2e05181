"""What the rows of a workload say: medians, spreads, and ratios within the same round."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple


class Bar(NamedTuple):
    """A promise with a number, and what was measured; None: not measured here."""

    text: str
    value: float | None
    limit: float
    at_most: bool = True

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        met = self.value <= self.limit if self.at_most else self.value >= self.limit
        return "met" if met else "**missed**"


class Rows:
    """The rows of one workload's run."""

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self._rows = rows

    def peers(self) -> list[str]:
        """In the order in which they were first measured."""
        return list(dict.fromkeys(row["peer"] for row in self._rows))

    def xs(self) -> list[Any]:
        return sorted({row["x"] for row in self._rows if row["x"] is not None})

    def values(self, peer: str, key: str, x: Any = None) -> list[Any]:
        """One value a round."""
        return [
            row[key]
            for row in self._rows
            if row["peer"] == peer and row["x"] == x and row.get(key) is not None
        ]

    def median(self, peer: str, key: str, x: Any = None) -> float | None:
        values = self.values(peer, key, x)
        return statistics.median(values) if values else None

    def ratio(
        self, peer: str, other: str, key: str, x: Any = None, other_x: Any = "the same"
    ) -> float | None:
        """Median over the rounds of peer's value by the other's in the same round."""
        mine = self.values(peer, key, x)
        others = self.values(other, key, x if other_x == "the same" else other_x)
        ratios = [a / b for a, b in zip(mine, others, strict=False) if b]
        return statistics.median(ratios) if ratios else None

    def best(self, peers: Sequence[str], key: str, x: Any = None, least: bool = True) -> str | None:
        """The peer whose median is best."""
        found = {p: m for p in peers if (m := self.median(p, key, x)) is not None}
        return (min if least else max)(found, key=found.__getitem__) if found else None

    def cell(self, peer: str, key: str, x: Any = None, spread: bool = False) -> str:
        """A median for a table, with its spread; a dash where nothing was measured."""
        values = self.values(peer, key, x)
        if not values:
            return "-"
        if isinstance(values[0], str):
            return str(values[0])
        text = number(statistics.median(values))
        if spread and len(values) > 1:
            text += f" [{number(min(values))} to {number(max(values))}]"
        return text


def number(value: float | None) -> str:
    """Three significant digits, readable."""
    if value is None:
        return "-"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    rule = "|".join(["---"] * len(head))
    body = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([f"| {' | '.join(head)} |", f"|{rule}|", *body])
