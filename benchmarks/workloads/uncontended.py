"""(a) One task on one conversation that nobody else wants."""

from __future__ import annotations

from typing import Any

from ..adapters import ASYNC_PEERS, PEERS
from ..bench import Bench
from ..rows import Bar, Rows, number, table

TITLE = "uncontended cycle"
FLOORS = ("floor", "floor-uvloop")


def run(bench: Bench) -> None:
    url = bench.server()
    workers = bench.workers(list(PEERS), url)
    for round_, peer in bench.turns(list(PEERS), bench.pick(4, 11)):
        found = workers[peer].call("cycles:cycles", seconds=bench.pick(0.1, 0.6))
        each = 1e6 * found["seconds"] / found["cycles"]
        bench.add(peer, round=round_, us=each, client_us=1e6 * workers[peer].cpu / found["cycles"])


def report(rows: Rows) -> str:
    lines = []
    for peer in rows.peers():
        floor = "floor-uvloop" if PEERS[peer].uvloop else "floor"
        lines.append(
            [
                PEERS[peer].label,
                rows.cell(peer, "us", spread=True),
                number(rows.ratio(peer, floor, "us")),
                "yes" if PEERS[peer].fifo else "no",
                "yes" if PEERS[peer].fence else "no",
            ]
        )
    return table(["lock", "µs a cycle", "by floor's of its loop", "in order", "fence"], lines)


def bars(rows: Rows) -> list[Bar]:
    best = rows.best(ASYNC_PEERS, "us") or ""
    return [
        Bar("cycle by the floor's", rows.ratio("ticketlock", "floor", "us"), 1.25),
        Bar("the same on uvloop", rows.ratio("ticketlock-uvloop", "floor-uvloop", "us"), 1.25),
        Bar(f"cycle by that of the fastest asyncio peer ({best})", _by(rows, best), 1.0),
        Bar(
            "threads: cycle by redis-py's",
            rows.ratio("ticketlock-sync", "redis-py-sync", "us"),
            1.5,
        ),
    ]


def _by(rows: Rows, best: str) -> Any:
    return rows.ratio("ticketlock", best, "us") if best else None
