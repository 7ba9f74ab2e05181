"""The server's limit: our own scripts, alone or sharing calls, or the floor's, sent in batches
with no client work.

Four connections, on each a batch of acquires, then the releases of that batch, so that the
server always has some to do. What the client does between is to build the releases.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import hiredis

from ticketlock.locks.concurrent.scripts import Scripts, Timing
from ticketlock.redis.commands import MAX_JOINED
from ticketlock.redis.scripts import load
from ticketlock.redis.settings import RedisSettings

from .floor import ACQUIRE, RELEASE, SHA

BATCH = 64


class Batch:
    """One connection and its conversations."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._socket = socket.create_connection((place.hostname, place.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()

    def send(self, commands: list[tuple[Any, ...]]) -> None:
        self._expected = len(commands)
        self._socket.sendall(b"".join(map(hiredis.pack_command, commands)))

    def receive(self) -> list[Any]:
        answers: list[Any] = []
        while len(answers) < self._expected:
            while (answer := self._reader.gets()) is not False:
                if isinstance(answer, Exception):
                    raise answer
                answers.append(answer)
            if len(answers) < self._expected:
                self._reader.feed(self._socket.recv(1 << 16))
        return answers

    def close(self) -> None:
        self._socket.close()


class Adapter:
    asynchronous = False

    def __init__(self, url: str) -> None:
        self._batches = [Batch(url) for _ in range(4)]
        self._scripts = Scripts(RedisSettings.of({}), Timing(), "0123456789abcdef", "bench:1")

    def open(self) -> None:
        ours = [load(name).source for name in ("acquire", "release", "batch")]
        sources = [*ours, ACQUIRE, RELEASE]
        self._batches[0].send([("SCRIPT", "LOAD", source) for source in sources])
        self._batches[0].receive()

    def run(self, seconds: float, form: str) -> dict[str, float]:
        """Cycles in that time: by our scripts `alone` or `shared`, or by the `floor`'s."""
        acquires, releases = getattr(self, f"_{form}")()
        start, done = time.perf_counter(), 0
        for i, batch in enumerate(self._batches):
            batch.send(acquires[i])
        while time.perf_counter() - start < seconds:
            for i, batch in enumerate(self._batches):
                batch.send(releases(i, batch.receive()))
            for i, batch in enumerate(self._batches):
                done += _ones(batch.receive())
                batch.send(acquires[i])
        for i, batch in enumerate(self._batches):
            batch.send(releases(i, batch.receive()))
            batch.receive()
        return {"cycles": done, "seconds": time.perf_counter() - start}

    def _alone(self) -> tuple[list[list[Any]], Callable[[int, list[Any]], list[Any]]]:
        member, scripts = f"{self._scripts.process}.1", self._scripts
        names = [[f"p{i}.{j}" for j in range(BATCH)] for i in range(len(self._batches))]
        acquires = [[scripts.acquire(name, member, 60_000) for name in row] for row in names]

        def releases(i: int, answers: list[Any]) -> list[Any]:
            pairs = zip(names[i], answers, strict=True)
            return [scripts.release(name, member, answer[2]) for name, answer in pairs]

        return acquires, releases

    def _shared(self) -> tuple[list[list[Any]], Callable[[int, list[Any]], list[Any]]]:
        member, scripts = f"{self._scripts.process}.1", self._scripts
        names = [[f"s{i}.{j}" for j in range(BATCH)] for i in range(len(self._batches))]

        def calls(row: list[str], args: list[tuple[Any, ...]]) -> list[Any]:
            cuts = range(0, BATCH, MAX_JOINED)
            return [
                scripts.batch(
                    [key for name in row[cut : cut + MAX_JOINED] for key in scripts.keys.of(name)],
                    [word for part in args[cut : cut + MAX_JOINED] for word in part],
                )
                for cut in cuts
            ]

        def releases(i: int, answers: list[Any]) -> list[Any]:
            granted = [answer for call in answers for answer in call]
            return calls(names[i], [(member, answer[2], "") for answer in granted])

        return [calls(row, [(member, 60_000, -1)] * BATCH) for row in names], releases

    def _floor(self) -> tuple[list[list[Any]], Callable[[int, list[Any]], list[Any]]]:
        keys = [
            [(f"floor:{{p{i}.{j}}}:counter", f"floor:{{p{i}.{j}}}:queue") for j in range(BATCH)]
            for i in range(len(self._batches))
        ]
        acquires = [[("EVALSHA", SHA[ACQUIRE], 2, *pair, "p.1") for pair in row] for row in keys]
        ends = [[("EVALSHA", SHA[RELEASE], 1, pair[1], "p.1") for pair in row] for row in keys]
        return acquires, lambda i, _: ends[i]

    def close(self) -> None:
        for batch in self._batches:
            batch.close()


def _ones(answers: list[Any]) -> int:
    return sum(_ones(each) if isinstance(each, list) else each == 1 for each in answers)
