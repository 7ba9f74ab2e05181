"""(q) What the bot server adds to a bare request, and how many messages it answers."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..bench import Bench
from ..environments import ROOT
from ..rows import Bar, Rows, number, table
from ..stores import of_tests, tracker_sections
from .hostile import MEMORY
from .posting import closed_loop, open_loop

TITLE = "messages through the bot server"
#: Parser and event loop, by the parser.
ENGINES = {"h11": "asyncio", "httptools": "uvloop"}
#: Tracker store -> most that we may add, in bare requests. The locks of `memory` are in memory too.
STORES = {"memory": 0.8, "redis": 1.4, "sqlite": 2.5, "postgres": 3.0}
BARE = "bare request"
#: The version whose messages a second on SQLite are the measure.
BEFORE, FIRST = "7977942", "sqlite, 0.1.0"
CONNECTIONS = 50


class Server:
    """A process that answers messages on a port.

    Args:
        command: `PORT` in it becomes the port.
        where: the folder in which it is started.
    """

    def __init__(self, command: list[str], where: Path, env: dict[str, str] | None = None) -> None:
        self.port: int = of_tests("servers.processes").free_port()
        command = [word.replace("PORT", str(self.port)) for word in command]
        self._process = subprocess.Popen(command, cwd=where, env=env, stderr=subprocess.DEVNULL)

    def wait(self) -> None:
        """Wait until it answers."""
        end = time.monotonic() + 60
        while True:
            try:
                asyncio.run(closed_loop(self.port, f"first{self.port}", 100, 10))
                return
            except OSError:
                if time.monotonic() > end or self._process.poll() is not None:
                    raise
                time.sleep(0.1)

    def processor(self) -> float:
        """Seconds of processor that it has used."""
        return time.clock_gettime(~self._process.pid << 3 | 2)  # by this id Linux names its clock

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(60)


def run(bench: Bench) -> None:
    if not sys.platform.startswith("linux"):
        return  # not measured here
    stores = bench.pick(("memory", "sqlite"), tuple(STORES))
    count, rounds = bench.pick(200, 1000), bench.pick(1, 5)
    with ExitStack() as stack:
        servers: dict[tuple[str, str], Server] = {}
        for http, loop in ENGINES.items():
            bare = [sys.executable, "-m", "benchmarks.workloads.bare_server", "PORT", http, loop]
            servers[BARE, http] = _started(stack, bare, ROOT)
            for store in stores:
                servers[store, http] = ours(stack, bench, store, {"http": http, "loop": loop})
        if bench.full:
            versions = of_tests("servers.versions")
            env = versions.environment(versions.before(BEFORE))
            servers[FIRST, "h11"] = ours(stack, bench, "sqlite", {}, env)
        for server in servers.values():
            server.wait()
        for round_, (peer, http) in bench.turns(list(servers), rounds):
            server, mine = servers[peer, http], f"{peer}{http}{round_}"
            sent = 4 * count if peer == BARE else count
            before = server.processor()
            rate = asyncio.run(closed_loop(server.port, mine, sent, CONNECTIONS))
            us = 1e6 * (server.processor() - before) / sent
            bench.add(peer, http, round=round_, us=us, per_s=rate)
            if peer == "sqlite":
                took = asyncio.run(open_loop(server.port, f"{mine}o", count, rate / 2))
                hundredths = statistics.quantiles(took, n=100, method="inclusive")
                p50, p99 = 1e3 * hundredths[49], 1e3 * hundredths[98]
                bench.add("open loop", http, round=round_, p50=p50, p99=p99, by=p99 / p50)


def _folder(stack: ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory(dir=MEMORY)))


def ours(
    stack: ExitStack, bench: Bench, store: str, keys: Mapping[str, str],
    env: dict[str, str] | None = None,
) -> Server:  # fmt: skip
    """`ticketlock run` with the echo bot."""
    folder = _folder(stack)
    sections: dict[str, Any] = {"server": {**keys}} if keys else {}
    if store != "memory":
        sections["lock_store"] = {"type": "concurrent_redis", "url": bench.server()}
        sections["tracker_store"] = (
            {"type": "sql", "db": str(folder / "bot.db")}
            if store == "sqlite"
            else stack.enter_context(tracker_sections(store))()
        )
    (folder / "endpoints.yml").write_text(json.dumps(sections))  # JSON is YAML
    words = ["run", "--port", "PORT", "--endpoints", str(folder / "endpoints.yml")]
    return _started(stack, [sys.executable, "-m", "ticketlock", *words], folder, env)


def _started(
    stack: ExitStack, command: list[str], where: Path, env: dict[str, str] | None = None
) -> Server:
    server = Server(command, where, env)
    stack.callback(server.stop)
    return server


def report(rows: Rows) -> str:
    head = ["", *(f"µs a message, {x}" for x in ENGINES), *(f"added, {x}" for x in ENGINES)]
    head += [f"messages/s, {x}" for x in ENGINES]
    lines = [
        [
            peer,
            *(rows.cell(peer, "us", x, spread=True) for x in ENGINES),
            *(number(_added(rows, peer, x)) for x in ENGINES),
            *(rows.cell(peer, "per_s", x) for x in ENGINES),
        ]
        for peer in (BARE, *STORES, FIRST)
        if peer in rows.peers()
    ]
    opened = [
        [x, *(rows.cell("open loop", key, x, spread=True) for key in ("p50", "p99", "by"))]
        for x in ENGINES
    ]
    text = table(head, lines)
    return f"{text}\n\n{table(['open loop, SQLite', 'p50 ms', 'p99 ms', 'p99 by p50'], opened)}"


def _added(rows: Rows, peer: str, x: str) -> float | None:
    """What a message takes beyond a bare request, in bare requests."""
    ratio = rows.ratio(peer, BARE, "us", x)
    return None if ratio is None or peer == BARE else ratio - 1


def bars(rows: Rows) -> list[Bar]:
    added = [
        Bar(f"{store}: processor added to a bare request, {x}", _added(rows, store, x), limit)
        for store, limit in STORES.items()
        for x in ("h11",)
        if store in rows.peers()
    ]
    faster = rows.ratio("sqlite", FIRST, "per_s", "httptools", "h11")
    late = rows.median("open loop", "by", "httptools")
    return [
        *added,
        Bar(f"sqlite: messages/s by those of {BEFORE}", faster, 6, at_most=False),
        Bar("sqlite, half of that rate: p99 by p50", late, 5),
    ]
