"""(e) What a cycle and what waiting ask of Redis."""

from __future__ import annotations

import time

from ..adapters import ASYNC_PEERS, PEERS, THREAD_PEERS
from ..bench import Bench, Usage
from ..rows import Bar, Rows, table

TITLE = "commands and server time a cycle, cost of waiting"
PEOPLE = ("ticketlock", "ticketlock-sync", "floor", *ASYNC_PEERS, *THREAD_PEERS)
WAITERS = 100


def run(bench: Bench) -> None:
    urls = {peer: bench.server() for peer in PEOPLE}
    workers = {peer: bench.worker(peer, url) for peer, url in urls.items()}
    usages = {peer: Usage(url) for peer, url in urls.items()}
    for round_, peer in bench.turns(PEOPLE, bench.pick(2, 7)):
        worker, usage = workers[peer], usages[peer]
        worker.call("cycles:cycles", seconds=0)
        for tasks in (1, 100):
            usage.look()
            found = worker.call("cycles:cycles", tasks=tasks, seconds=bench.pick(0.1, 0.5))
            seen, cycles = usage.look(), found["cycles"] + tasks  # with the first of each task
            bench.add(
                peer,
                tasks,
                round=round_,
                commands=seen["commands"] / cycles,
                server_us=1e6 * seen["cpu"] / cycles,
                client_us=1e6 * worker.cpu / cycles,
            )
    # Waiting is for doing nothing: all at once, each on its own server.
    seconds = bench.pick(3, 10)
    for worker in workers.values():
        worker.send("parked:enter", name="idle")
    for worker in workers.values():
        worker.receive()
        worker.send("parked:wait", name="idle", count=WAITERS)
    for worker in workers.values():
        worker.receive()
    for peer, usage in usages.items():
        usage.look()
        workers[peer].send("parked:rest", seconds=seconds)
    time.sleep(seconds)
    for peer, usage in usages.items():
        workers[peer].receive()
        seen = usage.look()
        bench.add(
            peer,
            f"{WAITERS} waiting",
            commands_per_s=seen["commands"] / seen["wall"],
            scripts_per_s=seen["scripts"] / seen["wall"],
            client_share=workers[peer].cpu / seconds,
            connections=usage.connections,
        )


def report(rows: Rows) -> str:
    waiting = f"{WAITERS} waiting"
    head = [
        "lock", "commands a cycle", "server µs a cycle, 1 task", "100 tasks",
        "client µs a cycle, 100 tasks", f"commands/s, {waiting}", "client's processor, %",
        "connections",
    ]  # fmt: skip
    lines = []
    for peer in rows.peers():
        share = rows.median(peer, "client_share", waiting) or 0
        lines.append(
            [
                PEERS[peer].label,
                rows.cell(peer, "commands", 1),
                rows.cell(peer, "server_us", 1),
                rows.cell(peer, "server_us", 100),
                rows.cell(peer, "client_us", 100),
                rows.cell(peer, "commands_per_s", waiting),
                f"{100 * share:.2g}",
                rows.cell(peer, "connections", waiting),
            ]
        )
    return table(head, lines)


def bars(rows: Rows) -> list[Bar]:
    idle = rows.median("ticketlock", "scripts_per_s", f"{WAITERS} waiting")
    return [
        Bar("commands a cycle, in scripts too", _commands(rows), 10),
        # One for the turn that the same process holds, one for all that wait; a beat may fall on
        # the edge of the time.
        Bar("calls a second, one held and 100 waiting", idle, 2.4),
    ]


def _commands(rows: Rows) -> float | None:
    found = rows.median("ticketlock", "commands", 1)
    return None if found is None else round(found, 1)  # a heartbeat may fall between
