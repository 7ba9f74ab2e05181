"""The tables of docs/reliability.md, made of the results of runs.

`python tests/reliability_page.py` writes them anew; `unit/test_reliability_page.py` fails while the
page says something else.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from reliability.results import FAILOVERS, KINDS, read

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
PEERS = ROOT / "benchmarks" / "results" / "judged.json"
COMMAND = f"python tests/{Path(__file__).name}"


def tables() -> dict[str, str]:
    """Name of a mark in the page -> the table that follows it."""
    found = {kind.replace(", ", "-"): _of_kind(kind) for kind in KINDS}
    found["durable"] = _durable()
    found["faults"] = _faults()
    found["peers"] = _peers()
    return found


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(line)} |\n" for line in (head, *rows)]
    lines.insert(1, "|---" * len(head) + "|\n")
    return "".join(lines)


def _turned(titles: list[str], columns: list[list[str]]) -> str:
    """A table with a column for each run."""
    head, *rows = zip(titles, *columns, strict=True)
    return _table(list(head), [list(row) for row in rows])


def _of_kind(kind: str) -> str:
    runs = [run for run in read() if run["kind"] == kind]
    if not runs:
        return ""
    messages, losing = "messages" in kind, kind == "losing"
    titles = ["", "date, load", "seconds, seed", "faults, kinds"]
    titles += ["messages stored" if messages else "turns", "overlaps, overtaken"]
    titles += ["stale writes stored; fences out of order"]
    titles += ["messages lost, twice, out of order"] if messages else ["waits above 60 s"]
    if losing:
        titles += ["overlaps after a loss, the longest", "overtaken after a loss"]
        titles += ["writes refused", "longest without a master", "longest wait after that"]
    elif not messages:
        titles += ["longest wait", "longest recovery from a kill, beside other faults"]
    return _turned(titles, [_column(run, messages=messages, losing=losing) for run in runs])


def _column(run: dict[str, Any], *, messages: bool, losing: bool) -> list[str]:
    bad, forgotten = run["violations"], run["forgotten"]
    found = [
        _short(run["server"]),
        f"{run['date']}, {run['load']:g}",
        f"{run['seconds']:g}, {run['seed']}",
        f"{sum(run['faults'].values())}, {len(run['faults'])}",
        f"{run['finished'] if messages else run['grants']:,}",
        f"{bad['overlap']}, {bad['overtaken']}",
        f"{bad['stale_write']}; {bad['fence_order']}",
    ]
    if messages:
        found.append(f"{bad['lost']}, {bad['duplicated']}, {bad['out_of_order']}")
    else:
        found.append(f"{bad['long_wait']}")
    if losing:
        found.append(f"{forgotten.get('overlap', 0)}, {run['longest_overlap']:.3f} s")
        found.append(f"{forgotten.get('overtaken', 0)}")
        found.append(f"{run['refused']}")
        found += [_or_none(run[k]) for k in ("longest_without_master", "longest_after_takeover")]
    elif not messages:
        found += [f"{run[name]:.1f} s" for name in ("longest_wait", "longest_recovery")]
    return found


def _durable() -> str:
    """Failovers without and with `durability`, of which nothing is set apart."""
    titles = ["", "`durability`", "date, load", "seconds, seed"]
    titles += ["masters killed, stopped, cut off", "of these with replicas that lagged behind"]
    titles += ["messages accepted, not answered", "messages lost, stored twice, out of order"]
    titles += ["turns", "overlaps; stale writes stored", "overtaken after a loss"]
    runs = [run for kind in FAILOVERS for run in read() if run["kind"] == kind]
    return _turned(titles, [_of_failovers(run) for run in runs]) if runs else ""


def _of_failovers(run: dict[str, Any]) -> list[str]:
    def broken(kind: str) -> int:
        return int(run["violations"][kind]) + int(run["forgotten"].get(kind, 0))

    def faults(*words: str) -> int:
        counts = run["faults"].items()
        return sum(count for kind, count in counts if all(word in kind for word in words))

    asked = run["durability"]
    count = asked.get("durability_replicas")
    messages = [f"{run['submitted']:,}, {run['unanswered']}"]
    messages.append(", ".join(str(broken(kind)) for kind in ("lost", "duplicated", "out_of_order")))
    if "messages" not in run["kind"]:
        messages = ["-", "-"]
    return [
        _short(run["server"]),
        f"`{asked['durability']}`" + (f": {count}" if count else ""),
        f"{run['date']}, {run['load']:g}",
        f"{run['seconds']:g}, {run['seed']}",
        f"{faults('(killed)')}, {faults('(stopped)')}, {faults('partition')}",
        f"{faults('lagging')}",
        *messages,
        f"{run['grants']:,}",
        f"{broken('overlap')}; {broken('stale_write')}",
        f"{broken('overtaken')}",
    ]


def _or_none(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds else "-"


def _short(server: str) -> str:
    kind, _, program = server.rpartition(", ")
    return {"c": f"3+3 cluster, {program}", "a": f"Sentinel trio, {program}"}.get(
        "c" if "cluster" in kind else "a" if "sentinels" in kind else "", program
    )


def _faults() -> str:
    """Each kind of fault, and how many of it in all runs."""
    counts: dict[str, int] = {}
    for run in read():
        for kind, count in run["faults"].items():
            counts[kind] = counts.get(kind, 0) + count
    return _table(["fault", "times"], [[kind, f"{n:,}"] for kind, n in sorted(counts.items())])


def _peers() -> str:
    head = [
        "lock",
        "turns",
        "faults",
        "overlaps",
        "stale writes",
        "longest overlap",
        "of 10 conversations, stuck",
    ]
    rows = []
    for run in json.loads(PEERS.read_text(encoding="utf-8")):
        bad = run["violations"]
        rows.append([
            run["peer"], f"{run['grants']:,}", f"{run['faults']}", f"{bad['overlap']}",
            f"{bad['stale_write']}", f"{run['longest_overlap']:.1f} s", f"{run['stuck']}",
        ])  # fmt: skip
    return _table(head, rows)


def page() -> str:
    """The page with its tables written anew."""
    text = PAGE.read_text(encoding="utf-8")
    for name, table in tables().items():
        mark = f"<!-- {name} -->\n"
        assert mark in text, f"{PAGE} has no {mark}"
        before, _, after = text.partition(mark)
        after = re.sub(r"\A\n(\|.*\n)*\n*", "", after)
        text = f"{before}{mark}\n{table}\n{after}"
    return text


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
