"""(o) Messages that nobody waits for: accepted, handled in order, and answered."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from contextlib import ExitStack
from typing import Any
from urllib.parse import quote

import psycopg

from ..adapters.queues import QUEUES
from ..bench import Bench, Usage, Worker
from ..environments import python_with
from ..rows import Bar, Rows, number, table
from ..stores import of_tests

TITLE = "submitted messages"
PROCESSES = 2
CONVERSATIONS = (1, 100, 10_000)
#: With a database below them, or a transaction a step: fewer messages, for as long a time.
SLOW = ("procrastinate", "dbos")
#: Messages a second of which each one's time is taken.
RATE = {1: 40, 100: 100, 10_000: 100}
#: Seconds after which what is not handled is given up.
PATIENCE = 10.0


def run(bench: Bench) -> None:
    peers = []
    for peer, entry in QUEUES.items():
        try:
            python_with(entry.packages)
            peers.append(peer)
        except subprocess.CalledProcessError as error:
            bench.add(
                peer, "left out", why=f"its packages cannot be installed ({error.returncode})"
            )
    with ExitStack() as stack:
        postgres = of_tests("servers.postgres")
        login = stack.enter_context(postgres.server())
        redis, tracker = bench.server(), bench.server()
        usage = Usage(redis)
        for round_, peer in bench.turns(peers, bench.pick(3, 7)):
            usage.client.flushall()
            urls = {"redis": redis, "tracker": tracker, "postgres": database(login, round_, peer)}
            with bench.crew(peer, json.dumps(urls), PROCESSES) as crew:
                for conversations in CONVERSATIONS:
                    found = measure(bench, peer, crew, usage, conversations, round_)
                    bench.add(peer, conversations, round=round_, **found)


def database(login: dict[str, Any], round_: int, peer: str) -> str:
    """The DSN of a new database for a peer that needs one."""
    if peer not in SLOW:
        return ""
    name = f"bench_{peer}_{round_}"
    known = {"host": login["url"], "port": login["port"], "user": login["username"]}
    with psycopg.connect(
        **known, password=login["password"], dbname="postgres", autocommit=True
    ) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    password = quote(login["password"], safe="")
    return f"postgresql://{known['user']}:{password}@{known['host']}:{known['port']}/{name}"


def measure(
    bench: Bench, peer: str, crew: list[Worker], usage: Usage, conversations: int, round_: int
) -> dict[str, Any]:
    """A burst, for the rate and what a message costs; then some at a rate, for the time of each."""
    counts = {1: (100, 300), 100: (1000, 3000), 10_000: (3000, 10_000)}
    count = bench.pick(*counts[conversations]) // (5 if peer in SLOW else 1)
    rate, mine = RATE[conversations], f"{peer}{round_}-{conversations}"
    warm = min(count // 5, 400)
    send(crew, "burst", warm, conversations, f"{mine}-warm")  # connects
    wait(crew, warm)
    network = traffic(usage)
    usage.look()  # what these asked is not counted
    began = send(crew, "burst", count, conversations, f"{mine}-burst")
    burst = wait(crew, count)
    seen = usage.look()
    found = {
        "per_s": burst["count"] / (burst["last"] - began) if burst["count"] else 0.0,
        "lost": count - burst["count"],
        "client_us": 1e6 * burst["cpu"] / count,
        "server_us": 1e6 * seen["cpu"] / count,
        "commands": seen["commands"] / count,
        "scripts": seen["scripts"] / count,
        "bytes": (traffic(usage) - network) / count,
    }
    paced = round(rate * bench.pick(2, 5))
    send(crew, "paced", paced, conversations, f"{mine}-paced", rate=rate / len(crew))
    wait(crew, paced)
    seconds = sorted(s for worker in crew for s in worker.call("messages:seconds"))
    if len(seconds) > 1:
        hundredths = statistics.quantiles(seconds, n=100, method="inclusive")
        found |= {"p50": 1e3 * hundredths[49], "p99": 1e3 * hundredths[98]}
    return found


def send(
    crew: list[Worker], how: str, count: int, conversations: int, prefix: str, **options: Any
) -> float:
    """Have messages submitted by all processes; returns when the first has begun."""
    for worker in crew:
        worker.call("messages:forget", run=prefix)
    for i, worker in enumerate(crew):
        numbers = range(i, count, len(crew))
        names = [f"{prefix}-{number * 7919 % conversations}" for number in numbers]
        worker.send(f"messages:{how}", names=names, first=i * count, **options)
    return min(float(worker.receive(PATIENCE + 20)) for worker in crew)


def wait(crew: list[Worker], count: int) -> dict[str, Any]:
    """Wait until all is handled, or for as long as our patience lasts."""
    end = time.monotonic() + PATIENCE
    while True:
        found = [worker.call("messages:handled") for worker in crew]
        total = {key: sum(one[key] for one in found) for key in ("count", "cpu")}
        if total["count"] >= count or time.monotonic() > end:
            return {**total, "last": max(one["last"] for one in found)}
        time.sleep(0.05)


def traffic(usage: Usage) -> int:
    """Bytes that the server has read and written."""
    info = usage.client.info("stats")
    return int(info["total_net_input_bytes"]) + int(info["total_net_output_bytes"])


def report(rows: Rows) -> str:
    head = [
        "messages/s", *(f"{x:,} conversations" for x in CONVERSATIONS),
        *(f"p50, p99 ms, {x:,}" for x in CONVERSATIONS),
        *(f"commands, calls, bytes, µs of client and server, {x:,}" for x in CONVERSATIONS[1:]),
    ]  # fmt: skip
    lines = []
    for peer in QUEUES:
        if not rows.values(peer, "per_s", 100):
            continue
        cells = [rows.cell(peer, "per_s", x, spread=True) for x in CONVERSATIONS]
        cells += [
            f"{rows.cell(peer, 'p50', x)}, {rows.cell(peer, 'p99', x)}" for x in CONVERSATIONS
        ]
        for x in CONVERSATIONS[1:]:
            keys = ("commands", "scripts", "bytes", "client_us", "server_us")
            on_redis = () if peer in SLOW else keys
            costs = [rows.cell(peer, key, x) if key in on_redis else "-" for key in keys]
            costs[3] = rows.cell(peer, "client_us", x)
            cells.append(", ".join(costs))
        lines.append([QUEUES[peer].label, *cells])
    text = table(head, lines)
    for peer in rows.peers():
        if why := rows.values(peer, "why", "left out"):
            text += f"\n\n{QUEUES[peer].label} is left out: {why[0]}."
        lost = sum(sum(rows.values(peer, "lost", x)) for x in CONVERSATIONS)
        if lost:
            text += f"\n\n{QUEUES[peer].label}: {number(lost)} messages were not handled within {PATIENCE:g} s."
    return text


def bars(rows: Rows) -> list[Bar]:
    found = []
    for peer, least in (("stream", 0.9), ("procrastinate", 5)):
        found += [
            Bar(
                f"{x:,} conversations: messages/s by those of {QUEUES[peer].label}",
                rows.ratio("submitted", peer, "per_s", x), least, at_most=False,
            )
            for x in CONVERSATIONS[1:]
        ]  # fmt: skip
    for x in CONVERSATIONS[1:]:
        found += [
            Bar(
                f"{x:,} conversations: commands a message",
                rows.median("submitted", "commands", x),
                28,
            ),
            # Looks once a second are among them.
            Bar(f"{x:,} conversations: script calls a message", _calls(rows, x), 2),
        ]
    return found


def _calls(rows: Rows, x: int) -> float | None:
    calls = rows.median("submitted", "scripts", x)
    return None if calls is None else round(calls, 1)
