"""(b) Many conversations at once in one process."""

from __future__ import annotations

from ..adapters import ASYNC_PEERS, PEERS, THREAD_PEERS
from ..bench import Bench, Usage, WorkerFailed
from ..rows import Bar, Rows, number, table

TITLE = "1 to 10,000 conversations at once in one process"
OURS = ("ticketlock", "floor", "ticketlock-uvloop", "floor-uvloop")


def run(bench: Bench) -> None:
    url = bench.server("--maxclients", "20000")
    peers = (*OURS, *ASYNC_PEERS, *bench.pick((), (*THREAD_PEERS, "ticketlock-sync")))
    workers = bench.workers(peers, url)
    usage = Usage(url)
    for tasks in bench.pick((100, 1000, 10000), (1, 10, 100, 1000, 10000)):
        # A connection for each task: the peers' limit is the system's, not worth the wait.
        here = bench.pick(OURS[:2], OURS) if tasks > 1000 else peers
        rounds = bench.pick(2 if tasks > 1000 else 3, 5)
        seconds = bench.pick(0.2, 0.7)
        for round_, peer in bench.turns(here, rounds):
            if peer not in OURS and tasks >= 1000 and round_ >= rounds // 2:
                continue  # seconds each, and an order of magnitude away
            usage.look()
            try:
                found = workers[peer].call("cycles:cycles", tasks=tasks, seconds=seconds)
            except WorkerFailed as error:
                if peer in OURS:
                    raise
                # On a busy machine their drivers' own timeouts end a thousand commands at once.
                bench.add(peer, tasks, failed=str(error))
                workers[peer] = bench.worker(peer, url)
                continue
            server, cycles = usage.look(), found["cycles"]
            bench.add(
                peer,
                tasks,
                round=round_,
                per_s=cycles / found["seconds"],
                server_share=server["cpu"] / server["wall"],
                client_us=1e6 * workers[peer].cpu / (cycles + tasks),
            )


def report(rows: Rows) -> str:
    xs = rows.xs()
    head = ["cycles a second", *(f"{x:,} tasks" for x in xs), "by floor's at 1,000"]
    lines = []
    for peer in rows.peers():
        floor = "floor-uvloop" if PEERS[peer].uvloop else "floor"
        ratio = number(rows.ratio(peer, floor, "per_s", 1000))
        cells = [rows.cell(peer, "per_s", x, spread=x == 1000) for x in xs]
        lines.append([PEERS[peer].label, *cells, ratio])
    return table(head, lines)


def bars(rows: Rows) -> list[Bar]:
    best = rows.best((*ASYNC_PEERS, *THREAD_PEERS), "per_s", 1000, least=False)
    by_best = rows.ratio("ticketlock", best, "per_s", 1000) if best else None
    drop = rows.ratio("ticketlock", "ticketlock", "per_s", 10000, 100)
    return [
        Bar(f"1,000: throughput by the best peer's ({best})", by_best, 10, at_most=False),
        Bar("1,000: by the floor's", rows.ratio("ticketlock", "floor", "per_s", 1000), 0.7, False),
        Bar(
            "1,000, uvloop: by the floor's",
            rows.ratio("ticketlock-uvloop", "floor-uvloop", "per_s", 1000),
            0.7,
            at_most=False,
        ),
        Bar("throughput at 10,000 by that at 100", drop, 1.0, at_most=False),
    ]
