"""(c) From one process's release to the next process's turn, with more and more waiting."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ..adapters import ASYNC_PEERS, PEERS
from ..rows import Bar, Rows, number, table
from .contention import contest, percentile

if TYPE_CHECKING:
    from ..bench import Bench, Worker

TITLE = "hand-off between processes, 1 to 10,000 waiting"
OURS = ("ticketlock", "floor", "ticketlock-uvloop")
#: Seconds a turn is held.
HOLD = 0.001


async def listen(adapter: Any, name: str) -> None:
    """Subscribe to a channel; the floor's adapter. What comes has the time it was sent at."""
    received = adapter.received = asyncio.Queue()
    now = time.perf_counter
    adapter.on_message = lambda text: received.put_nowait(now() - float(text))
    await adapter.call("SUBSCRIBE", name)


async def trips(adapter: Any, to: str, count: int, first: bool) -> list[float]:
    """Receive a message, wait as long as a turn is held, send one back.

    Returns the seconds from before PUBLISH in the other process to the message here.
    """
    now, found = time.perf_counter, []
    if first:
        adapter.call("PUBLISH", to, repr(now()))
    for _ in range(count):
        found.append(await adapter.received.get())
        await asyncio.sleep(HOLD)
        adapter.call("PUBLISH", to, repr(now()))
    await asyncio.sleep(0.05)
    return found


def run(bench: Bench) -> None:
    url = bench.server("--maxclients", "20000")
    ours = bench.pick(OURS[:2], OURS)
    peers = (*ours, *ASYNC_PEERS, "python-redis-lock")
    with ExitStack() as stack:
        crews = {p: stack.enter_context(bench.crew(p, url, 2)) for p in peers}
        crews["trip"] = stack.enter_context(bench.crew("floor", url, 2))
        for waiting in bench.pick((10, 1000, 10000), (1, 10, 100, 1000, 10000)):
            for round_, peer in bench.turns(("trip", *peers), bench.pick(1, 5)):
                if peer == "trip":
                    trip(bench, crews[peer], round_, waiting)
                elif peer in OURS or (waiting <= bench.pick(10, 1000) and round_ < 2):
                    hand_off(bench, crews[peer], peer, round_, waiting)


def trip(bench: Bench, crew: list[Worker], round_: int, waiting: int) -> None:
    count = bench.pick(150, 300)
    for i, worker in enumerate(crew):
        worker.call("handoff:listen", name=f"t{i}")
    for i, worker in enumerate(crew):
        worker.send("handoff:trips", to=f"t{1 - i}", count=count, first=i == 0)
    found = [seconds for worker in crew for seconds in worker.receive()]
    bench.add("trip", waiting, round=round_, **_percentiles(found))


def hand_off(bench: Bench, crew: list[Worker], peer: str, round_: int, waiting: int) -> None:
    slow = peer not in OURS
    seen = contest(
        crew,
        f"c{waiting}-{round_}",
        waiting + 1,
        hold=HOLD,
        grants=bench.pick(100, 300),
        seconds=bench.pick(1, 3) if slow else 8,
        gap=0.002 if waiting <= 1000 else 0.0004,
    )
    bench.add(
        peer,
        waiting,
        round=round_,
        **_percentiles(seen.handoffs()),
        inversions=seen.inversions(),
        grants=len(seen.served),
        errors=len(seen.errors),
    )


def _percentiles(seconds: list[float]) -> dict[str, Any]:
    found = {"p50": percentile(seconds, 0.5), "p99": percentile(seconds, 0.99)}
    return {k: None if v is None else 1e6 * v for k, v in found.items()}


def report(rows: Rows) -> str:
    xs = rows.xs()
    lines = []
    for peer in rows.peers():
        label = "PUBLISH to subscriber alone" if peer == "trip" else PEERS[peer].label
        cells = [f"{rows.cell(peer, 'p50', x)} / {rows.cell(peer, 'p99', x)}" for x in xs]
        late = sum(sum(rows.values(peer, "inversions", x)) for x in xs)
        grants = sum(sum(rows.values(peer, "grants", x)) for x in xs)
        order = f"{number(late)} of {number(grants)}" if grants else "-"
        lines.append([label, *cells, order])
    head = ["µs, p50 / p99", *(f"{x:,} waiting" for x in xs), "turns out of order"]
    return table(head, lines)


def bars(rows: Rows) -> list[Bar]:
    found = []
    for x in rows.xs():
        for key, limit in (("p50", 1.5), ("p99", 4.0)):
            text = f"{x:,} waiting: {key} by that of a bare message"
            found.append(Bar(text, rows.ratio("ticketlock", "trip", key, x), limit))
    same = rows.ratio("ticketlock", "ticketlock", "p50", 10000, 10)
    found.append(Bar("p50 with 10,000 waiting by that with 10", same, 1.2))
    late = [sum(rows.values("ticketlock", "inversions", x)) for x in rows.xs()]
    found.append(Bar("turns out of order", float(sum(late)) if late else None, 0))
    return found
