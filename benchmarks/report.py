"""Results as Markdown: tables, and each bar met or missed."""

from __future__ import annotations

import json
from typing import Any

from .catalogue import WORKLOADS
from .environments import ROOT
from .rows import Rows, number, table

BEGIN, END = "<!-- results -->", "<!-- end of results -->"


def compact(results: dict[str, Any]) -> str:
    """JSON with a line for each row."""
    runs = []
    for letter, run in results.items():
        rest = json.dumps({k: v for k, v in run.items() if k != "rows"})[:-1]
        rows = ",\n".join(json.dumps(row, separators=(",", ":")) for row in run["rows"])
        runs.append(f'"{letter}": {rest}, "rows": [\n{rows}\n]}}')
    return "{\n" + ",\n".join(runs) + "\n}"


def markdown(results: dict[str, Any]) -> str:
    """The bars of all workloads, then a section for each."""
    verdicts, sections = [], []
    for letter, run in results.items():
        module, rows = WORKLOADS[letter], Rows(run["rows"])
        for bar in module.bars(rows):
            sign = "≤" if bar.at_most else "≥"
            wanted = f"{sign} {number(bar.limit)}"
            verdicts.append([f"({letter})", bar.text, wanted, number(bar.value), bar.verdict])
        sections.append(f"### ({letter}) {module.TITLE}\n\n{module.report(rows)}\n")
    head = ["", "what", "bar", "measured", ""]
    return "\n".join(["### Bars\n", table(head, verdicts), "", *sections, surroundings(results)])


def surroundings(results: dict[str, Any]) -> str:
    """What it was measured on, and when: a line for those that were measured together."""
    together: dict[str, list[str]] = {}
    for letter, run in results.items():
        here = run["environment"]
        versions = ", ".join(
            f"{name} {version}" for name, version in sorted(here["packages"].items())
        )
        made = (
            f"{run['form']} form, {run['day']}, commit {here['commit']}; "
            f"{here['cores']} cores of {here['processor']}, {here['system']}, "
            f"Python {here['python']}, {versions}; {here['server']}"
        )
        together.setdefault(made, []).append(letter)
    lines = []
    for made, letters in together.items():
        seconds = sum(results[letter]["seconds"] for letter in letters)
        loads = [results[letter]["environment"]["load"][0] for letter in letters]
        named = ", ".join(f"({letter})" for letter in letters)
        lines.append(f"{named}: {made}. Load {min(loads)} to {max(loads)}; {seconds:.0f} s.\n")
    return "\n".join(lines)


def publish(text: str) -> None:
    """Put the results into docs/benchmarks.md, between its marks."""
    path = ROOT / "docs" / "benchmarks.md"
    before, _, rest = path.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")
