"""The parent of a run: servers, worker processes, rounds in changing order, and the rows."""

from __future__ import annotations

import json
import select
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import redis

from ticketlock.redis.embedded import EmbeddedRedis

from .adapters import PEERS, PIPELINE
from .adapters.queues import QUEUES
from .environments import ROOT, python_with


class WorkerFailed(Exception):
    """A worker ended, or did not answer in time."""


class Worker:
    """A process with one peer's adapter, connected to one server."""

    def __init__(self, peer: str, url: str) -> None:
        self.peer = peer
        entry = {"pipeline": PIPELINE, **PEERS, **QUEUES}[peer]
        command = [python_with(entry.packages), "-m", "benchmarks.worker", entry.module, url]
        self._process = subprocess.Popen(
            command + ["--uvloop"] * entry.uvloop,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if entry.packages else None,  # peers complain when killed
            text=True,
        )
        self.cpu = 0.0
        self._opened = False  # workers start beside each other: waited for at the first call

    def open(self) -> None:
        """Wait until it is connected."""
        if not self._opened:
            self._opened = True
            self.receive(180)  # many may start at once

    def send(self, function: str, **options: Any) -> None:
        """Begin a call of `workloads.<module>:<function>`."""
        assert self._process.stdin is not None  # a pipe
        self.open()
        call = {"function": f"workloads.{function}", "options": options}
        self._process.stdin.write(json.dumps(call) + "\n")
        self._process.stdin.flush()

    def receive(self, timeout: float = 60.0) -> Any:
        """The answer of the call; `cpu` is then the seconds of processor it took."""
        output = self._process.stdout
        assert output is not None  # a pipe
        if not select.select([output], [], [], timeout)[0]:
            raise WorkerFailed(f"{self.peer} has not answered within {timeout:g} s")
        line = output.readline()
        if not line:
            raise WorkerFailed(f"{self.peer} ended with status {self._process.wait()}")
        answer = json.loads(line)
        self.cpu = answer["cpu"]
        return answer["value"]

    def call(self, function: str, timeout: float = 60.0, **options: Any) -> Any:
        self.send(function, **options)
        return self.receive(timeout)

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue  # what was buffered for it has no reader any more


class Bench:
    """One workload's run.

    Attributes:
        full: the long form, for publishing.
        rows: what was measured: peer, x (tasks, waiters, ...), and values.
    """

    def __init__(self, full: bool) -> None:
        self.full = full
        self.rows: list[dict[str, Any]] = []
        self._stack = ExitStack()
        self._workers: list[Worker] = []

    def pick(self, quick: Any, full: Any) -> Any:
        return full if self.full else quick

    def server(self, *options: str) -> str:
        """URL of a new Redis server that lives until the workload is over."""
        server = self._stack.enter_context(EmbeddedRedis(options))
        return server.url

    def worker(self, peer: str, url: str) -> Worker:
        """A new worker process, killed when the workload is over."""
        worker = Worker(peer, url)
        self._workers.append(worker)
        self._stack.callback(worker.kill)
        return worker

    def workers(self, peers: Sequence[str], url: str) -> dict[str, Worker]:
        return {peer: self.worker(peer, url) for peer in peers}

    @contextmanager
    def crew(self, peer: str, url: str, count: int) -> Iterator[list[Worker]]:
        """Workers for one measurement alone."""
        crew: list[Worker] = []
        try:
            crew += [Worker(peer, url) for _ in range(count)]
            self._workers += crew
            yield crew
        finally:
            for worker in crew:
                worker.kill()

    def turns(self, names: Sequence[Any], rounds: int) -> Iterator[tuple[int, Any]]:
        """Each name once a round, beginning with another one each round."""
        for worker in self._workers:
            worker.open()  # none is starting while others are measured
        for number in range(rounds):
            at = number * max(1, len(names) // rounds) % len(names)
            for name in (*names[at:], *names[:at]):
                yield number, name

    def add(self, peer: str, x: Any = None, **values: Any) -> None:
        rounded = {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in values.items()}
        self.rows.append({"peer": peer, "x": x, **rounded})

    def close(self) -> None:
        self._stack.close()


class Usage:
    """What a server has done between two looks; a look is not counted."""

    def __init__(self, url: str) -> None:
        self.client = redis.Redis.from_url(url)
        self.look()

    def look(self) -> dict[str, float]:
        """Since the last look: commands (those inside scripts too), script calls, cpu and wall seconds."""
        info, now = self.client.info(), time.perf_counter()
        commands = int(info["total_commands_processed"])
        cpu = float(info["used_cpu_user"]) + float(info["used_cpu_sys"])
        scripts = sum(
            int(stats["calls"])
            for name, stats in self.client.info("commandstats").items()
            if name in ("cmdstat_eval", "cmdstat_evalsha")
        )
        before = getattr(self, "_before", (commands - 2, cpu, now, scripts))
        self._before = (commands, cpu, now, scripts)
        self.memory = int(info["used_memory"])
        self.connections = int(info["connected_clients"]) - 1
        return {
            "commands": commands - before[0] - 2,
            "cpu": cpu - before[1],
            "wall": now - before[2],
            "scripts": scripts - before[3],
        }
