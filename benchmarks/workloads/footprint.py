"""(m) What a process pays before its first turn, and for each of its waiters."""

from __future__ import annotations

import subprocess
import sys

from ..adapters import PEERS
from ..bench import Bench
from ..environments import ROOT
from ..rows import Bar, Rows, number, table

TITLE = "start-up, import, client memory"
PEOPLE = ("ticketlock", "floor", "redis-py", "redis-fifo-lock", "redis-lock-py")
IMPORT = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
FIRST_TURN = """
import time; t = time.perf_counter()
import asyncio, sys
from ticketlock import ConcurrentRedisLockStore
async def main():
    async with ConcurrentRedisLockStore(url=sys.argv[1]) as store:
        async with store.lock("first"):
            print(time.perf_counter() - t)
asyncio.run(main())
"""
STARTS = {
    "import ticketlock": IMPORT.format("ticketlock"),
    "import redis.asyncio": IMPORT.format("redis.asyncio"),
    "import ticketlock, connect, first turn": FIRST_TURN,
}


def run(bench: Bench) -> None:
    url = bench.server("--maxclients", "20000")
    for round_, what in bench.turns(list(STARTS), bench.pick(3, 11)):
        command = [sys.executable, "-c", STARTS[what], url]
        said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        bench.add(what, round=round_, ms=1000 * float(said))
    count = bench.pick(500, 1000)
    workers = bench.workers(PEOPLE, url)
    for worker in workers.values():
        worker.send("parked:footprint", name=f"m-{worker.peer}", count=count)
    for peer, worker in workers.items():
        bench.add(peer, "memory", **worker.receive())


def report(rows: Rows) -> str:
    starts = table(
        ["", "ms"],
        [
            [f"`{what}`" if "," not in what else what, rows.cell(what, "ms", spread=True)]
            for what in STARTS
        ],
    )
    memory = table(
        ["bytes of Python memory for a waiter", "in all", "beyond a task on a future"],
        [
            [PEERS[p].label, rows.cell(p, "waiter", "memory"), number(_beyond(rows, p))]
            for p in PEOPLE
        ],
    )
    return f"{starts}\n\n{memory}"


def _beyond(rows: Rows, peer: str) -> float | None:
    waiter, task = (rows.median(peer, key, "memory") for key in ("waiter", "task"))
    return None if waiter is None or task is None else waiter - task


def bars(rows: Rows) -> list[Bar]:
    return [
        Bar("ms to import ticketlock", rows.median("import ticketlock", "ms"), 100),
        Bar("bytes for a waiter beyond its task", _beyond(rows, "ticketlock"), 2000),
    ]
