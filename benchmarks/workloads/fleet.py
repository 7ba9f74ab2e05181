"""(i) One server and more and more processes, and what the server can do at all."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any
from urllib.parse import urlsplit

from ..adapters import PEERS
from ..bench import Bench, Usage, Worker
from ..rows import Bar, Rows, number, table

TITLE = "a fleet: 1 to 8 processes on one server"
TASKS = 250
KINDS = ("ticketlock", "floor", "limit", "shared-limit", "floor-limit")
LABELS = {
    "limit": "server's limit, our scripts, each in a call of its own",
    "shared-limit": "server's limit, our scripts, 32 in a call",
    "floor-limit": "server's limit, floor's scripts",
}
FORMS = {"limit": "alone", "shared-limit": "shared", "floor-limit": "floor"}


def limit_sync(adapter: Any, seconds: float, form: str) -> dict[str, float]:
    found: dict[str, float] = adapter.run(seconds, form)
    return found


def run(bench: Bench) -> None:
    url = bench.server()
    counts, seconds = bench.pick((1, 2, 4), (1, 2, 4, 8)), bench.pick(0.4, 2)
    crews = {peer: [bench.worker(peer, url) for _ in range(counts[-1])] for peer in KINDS[:2]}
    pipeline, usage = bench.worker("pipeline", url), Usage(url)
    for round_ in range(bench.pick(2, 3)):
        for count in counts:
            for kind in KINDS:
                if kind in crews:
                    crew = crews[kind][:count]
                elif count == counts[-1]:
                    crew = [pipeline]
                else:
                    continue
                usage.look()
                total = together(crew, kind, seconds)
                seen = usage.look()
                bench.add(
                    kind,
                    count if kind in crews else None,
                    round=round_,
                    per_s=total,
                    server_share=seen["cpu"] / seen["wall"],
                    client_share=sum(worker.cpu for worker in crew) / seen["wall"],
                )
    if tool := shutil.which("redis-benchmark"):
        for name, rate in redis_benchmark(tool, url).items():
            bench.add(name, "redis-benchmark", per_s=rate)


def together(crew: list[Worker], kind: str, seconds: float) -> float:
    """Cycles a second of all of them."""
    for i, worker in enumerate(crew):
        if kind in LABELS:
            worker.send("fleet:limit", seconds=seconds, form=FORMS[kind])
        else:
            worker.send("cycles:cycles", tasks=TASKS, seconds=seconds, prefix=f"{kind}{i}.")
    answers = [worker.receive() for worker in crew]
    return float(sum(found["cycles"] / found["seconds"] for found in answers))


def redis_benchmark(tool: str, url: str) -> dict[str, float]:
    """Requests a second, as Redis' own tool sees them: 50 connections, 16 in a pipeline."""
    port, found = str(urlsplit(url).port), {}
    return_one = ["EVAL", "return 1", "0"]
    for name, words in {"PING": ["PING"], "EVAL 'return 1'": return_one}.items():
        command = [tool, "-p", port, "-n", "100000", "-c", "50", "-P", "16", "--csv", *words]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found[name] = float(said.strip().splitlines()[-1].split('","')[1])
    return found


def report(rows: Rows) -> str:
    counts = [1, 2, 4, 8]
    lines = [
        [
            PEERS[kind].label,
            *(f"{rows.cell(kind, 'per_s', n)} ({_share(rows, kind, n)})" for n in counts),
        ]
        for kind in KINDS[:2]
    ]
    for kind, label in LABELS.items():
        cell = f"{rows.cell(kind, 'per_s')} ({_share(rows, kind, None)})"
        lines.append([label, cell, *["-"] * (len(counts) - 1)])
    head = [
        "cycles/s (processors used by server + clients)",
        "1 process",
        *(f"{n} processes" for n in counts[1:]),
    ]
    text = table(head, lines)
    tool = [p for p in rows.peers() if rows.values(p, "per_s", "redis-benchmark")]
    if tool:
        told = (f"{p} {rows.cell(p, 'per_s', 'redis-benchmark')}/s" for p in tool)
        text += f"\n\nredis-benchmark, 50 connections, pipelines of 16: {', '.join(told)}."
    return text


def _share(rows: Rows, kind: str, x: int | None) -> str:
    shares = (rows.median(kind, key, x) for key in ("server_share", "client_share"))
    return " + ".join(number(share) for share in shares)


def bars(rows: Rows) -> list[Bar]:
    return [
        Bar(
            "4 processes by the server's limit for our scripts",
            rows.ratio("ticketlock", "limit", "per_s", 4, None),
            0.8,
            at_most=False,
        ),
        Bar(
            "4 processes by the server's limit for our scripts, 32 in a call",
            rows.ratio("ticketlock", "shared-limit", "per_s", 4, None),
            0.8,
            at_most=False,
        ),
    ]
