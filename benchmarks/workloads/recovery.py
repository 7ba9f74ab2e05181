"""(h) SIGKILL for a holder, and for a waiter who is next: when does the one behind get in?"""

from __future__ import annotations

import random
import time

from ..adapters import ASYNC_PEERS, PEERS, THREAD_PEERS
from ..bench import Bench, Worker, WorkerFailed
from ..rows import Bar, Rows, number, table

TITLE = "recovery from SIGKILL"
KILLED = ("holder", "waiter")


def run(bench: Bench) -> None:
    url = bench.server()
    repeats, patience = bench.pick((2, 6), (5, 75))
    names = [("ticketlock", what, f"{what}{i}") for i in range(repeats) for what in KILLED]
    peers = bench.pick(("redis-fifo-lock",), (*ASYNC_PEERS, *THREAD_PEERS))
    names += [
        (peer, what, f"{peer}-{what}") for peer in peers for what in bench.pick(KILLED[:1], KILLED)
    ]
    # All at once: they only wait.
    crews = [
        [bench.worker(peer, url) for _ in range(3 if w == "waiter" else 2)] for peer, w, _ in names
    ]
    for (_, _, name), crew in zip(names, crews, strict=True):
        crew[0].call("parked:enter", name=name)
    for (_, _, name), crew in zip(names, crews, strict=True):
        crew[1].send("parked:enter", name=name)
    time.sleep(1)
    for (_, _, name), crew in zip(names, crews, strict=True):
        if len(crew) == 3:
            crew[2].send("parked:enter", name=name)
    time.sleep(1)
    ended = []
    for (_, what, name), crew in zip(names, crews, strict=True):
        time.sleep(random.uniform(0, 0.3))  # at whatever moment of their heartbeats
        crew[what == "waiter"].kill()
        ended.append(
            crew[0].call("parked:leave", name=name) if what == "waiter" else time.perf_counter()
        )
    end = time.perf_counter() + patience
    for (peer, what, _), crew, moment in zip(names, crews, ended, strict=True):
        seconds = entered(crew[-1], end - time.perf_counter())
        late = None if seconds is None else seconds - moment
        bench.add(peer, what, seconds=late, patience=patience)


def entered(worker: Worker, timeout: float) -> float | None:
    """When it got in; None if it did not in time, or gave up."""
    try:
        return float(worker.receive(max(0.01, timeout)))
    except WorkerFailed:
        return None


def report(rows: Rows) -> str:
    return table(
        ["seconds until the next one is in", "holder killed", "next waiter killed"],
        [
            [PEERS[p].label, _cell(rows, p, "holder"), _cell(rows, p, "waiter")]
            for p in rows.peers()
        ],
    )


def _cell(rows: Rows, peer: str, what: str) -> str:
    found = rows.values(peer, "seconds", what)
    if not rows.values(peer, "patience", what):
        return "-"
    if not found:
        return f"not within {number(rows.median(peer, 'patience', what))}"
    return " ".join(f"{seconds:.1f}" for seconds in sorted(found))


def bars(rows: Rows) -> list[Bar]:
    worst = {what: _worst(rows, what) for what in ("holder", "waiter")}
    return [
        Bar("seconds after a killed holder, the worst", worst["holder"], 5),
        Bar("seconds after a killed waiter, the worst", worst["waiter"], 3),
    ]


def _worst(rows: Rows, what: str) -> float | None:
    tried = rows.values("ticketlock", "patience", what)
    found = rows.values("ticketlock", "seconds", what)
    return None if not tried else max(found) if len(found) == len(tried) else float("inf")
