"""(n) Good clients of a bot server, alone and beside clients that would hurt it."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..bench import Bench
from ..rows import Bar, Rows, number, table
from ..stores import of_tests
from .contention import percentile

TITLE = "good clients of a bot server under attack"
ATTACKS = {
    "none": "none",
    "bodies": "400 unfinished bodies",
    "lists": "one client storing 1 MB of lists",
    "events": "one client posting 70,000 events",
}
#: Good conversations, and seconds between two messages of one.
CONVERSATIONS, GAP = 8, 0.2
#: Seconds that an attack goes on before it counts, and that are left between two.
AHEAD, SETTLE = 1.5, 2.0
#: Where the database is: else it would be the disk, and whoever else uses it, that is measured.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # a folder of our own in it


def run(bench: Bench) -> None:
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2:
        return  # not measured here
    seconds = bench.pick(3, 12)  # bodies are given up, and come again, after 10
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=MEMORY)))
        with on(cores[0]):
            url = bench.server()
            servers = of_tests("servers.bot_server")
            servers.write_files(folder, url)
            echo = ["--bot", "ticketlock.server.bot:echo"]
            [server] = stack.enter_context(servers.replicas(folder, echo))
            good = bench.worker("floor", url)
        with on(cores[1]):
            bad = bench.worker("floor", url)
        for round_, kind in bench.turns(tuple(ATTACKS), bench.pick(1, 5)):
            name = f"{kind}{round_}"
            if kind != "none":
                bad.send(
                    "crowd:attack", kind=kind, port=server.port, name=f"bad-{name}",
                    seconds=AHEAD + seconds + 0.5,
                )  # fmt: skip
                time.sleep(AHEAD)
            took = good.call(
                "crowd:talk", port=server.port, name=f"good-{name}", conversations=CONVERSATIONS,
                gap=GAP, seconds=seconds, timeout=120,
            )  # fmt: skip
            statuses = bad.receive(120) if kind != "none" else {}
            time.sleep(SETTLE)
            values = {
                key: 1e3 * (percentile(took, x) or 0) for key, x in (("p50", 0.5), ("p99", 0.99))
            }
            load = os.getloadavg()[0]
            bench.add(
                kind, round=round_, **values, worst=1e3 * max(took), statuses=statuses, load=load
            )


@contextmanager
def on(core: int) -> Iterator[None]:
    """Processes that are started in the block run on that core alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def report(rows: Rows) -> str:
    lines = [
        [
            label,
            *(rows.cell(kind, key, spread=True) for key in ("p50", "p99", "worst")),
            number(rows.ratio(kind, "none", "p99")),
            rows.cell(kind, "load"),
        ]
        for kind, label in ATTACKS.items()
        if kind in rows.peers()
    ]
    head = ["attack", "p50 ms", "p99 ms", "worst ms", "p99 by that without attack", "load"]
    return table(head, lines)


def bars(rows: Rows) -> list[Bar]:
    return [
        Bar(f"{label}: p99 by that without attack", rows.ratio(kind, "none", "p99"), 3)
        for kind, label in ATTACKS.items()
        if kind != "none"
    ]
