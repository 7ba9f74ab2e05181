"""Three ways to carry the same scripts from asyncio to Redis: which link do we want?

    python benchmarks/link_variants.py [--rounds 5] [--tasks 1,100,1000]

Each variant runs acquire and release on conversations of its own, from N tasks, against
one server. Variants take turns within a round, in changing order; medians are printed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ticketlock.locks.concurrent.scripts import Scripts, Timing
from ticketlock.redis.connect import connect, explain
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.redis.link import Link
from ticketlock.redis.scripts import load
from ticketlock.redis.settings import RedisSettings

Call = Callable[[tuple[Any, ...]], Awaitable[Any]]


class Pool:
    """redis-py's client: a connection for each command in flight."""

    def __init__(self, settings: RedisSettings) -> None:
        self._client: Any = redis.asyncio.Redis(  # its commands have no types
            port=settings.port,
            db=settings.db,
            max_connections=6000,
            socket_timeout=60,
            retry=Retry(NoBackoff(), 0),
        )

    async def open(self) -> Call:
        for name in Scripts.NAMES:
            await self._client.script_load(load(name).source)
        return lambda words: self._client.execute_command(*words)

    async def close(self) -> None:
        await self._client.aclose()


class SharedReader:
    """One connection with many commands in flight, read by redis-py's own reader."""

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings
        self._futures: deque[asyncio.Future[Any]] = deque()
        self._chunks: list[bytes] = []

    async def open(self) -> Call:
        self._connection = await connect(self._settings)
        self._loop = asyncio.get_running_loop()
        self._reading = self._loop.create_task(self._read())
        return self._call

    def _call(self, words: tuple[Any, ...]) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        self._futures.append(future)
        if not self._chunks:
            self._loop.call_soon(self._flush)
        self._chunks.extend(self._connection.pack_command(*words))
        return future

    def _flush(self) -> None:
        writer = self._connection._writer
        assert writer is not None  # it is connected
        writer.write(b"".join(self._chunks))
        self._chunks.clear()

    async def _read(self) -> None:
        while True:
            answer = await self._connection.read_response(timeout=None)
            self._futures.popleft().set_result(answer)

    async def close(self) -> None:
        self._reading.cancel()
        await self._connection.disconnect(nowait=True)


class Own:
    """The library's link: a hiredis reader on the transport that redis-py has set up."""

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings

    async def open(self) -> Call:
        loads = [("SCRIPT", "LOAD", load(name).source) for name in Scripts.NAMES]
        self._link = Link(
            lambda: connect(self._settings), lambda e: explain(self._settings, e), prologue=loads
        )
        return self._link.call

    async def close(self) -> None:
        await self._link.close()


VARIANTS = {"redis-py pool": Pool, "shared, redis-py reader": SharedReader, "own reader": Own}


async def measure(call: Call, scripts: Scripts, tasks: int, cycles: int) -> float:
    """Cycles of acquire and release a second, `tasks` at a time."""

    async def task(i: int) -> None:
        for turn in range(cycles // tasks):
            member = f"{scripts.process}.{i * 1_000_000 + turn}"
            _, _, fence, _ = await call(scripts.acquire(f"c{i}", member, 60_000))
            assert await call(scripts.release(f"c{i}", member, fence)) == 1

    start = time.perf_counter()
    await asyncio.gather(*(task(i) for i in range(tasks)))
    return (cycles // tasks) * tasks / (time.perf_counter() - start)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", default="1,100,1000")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results: dict[str, dict[int, list[float]]] = {name: {} for name in VARIANTS}
    with EmbeddedRedis() as server:
        settings = RedisSettings.of({"host": "127.0.0.1", "port": server.port})
        scripts = Scripts(settings, Timing(), "0123456789abcdef", "bench:1")
        for _ in range(options.rounds):
            for tasks in map(int, options.tasks.split(",")):
                for name in random.sample(list(VARIANTS), len(VARIANTS)):
                    variant: Any = VARIANTS[name](settings)
                    call = await variant.open()
                    await measure(call, scripts, tasks, tasks)  # connects, warms up
                    speed = await measure(call, scripts, tasks, max(1000, 3 * tasks))
                    await variant.close()
                    results[name].setdefault(tasks, []).append(speed)
    medians = {n: {t: statistics.median(v) for t, v in r.items()} for n, r in results.items()}
    if options.json:
        json.dump(medians, sys.stdout)
        return
    columns = list(next(iter(medians.values())))
    print("cycles/s, median of", options.rounds, "rounds")
    print("| variant |", " | ".join(f"{tasks} tasks" for tasks in columns), "|")
    print("|---|" + "---|" * len(columns))
    for name, row in medians.items():
        print(f"| {name} |", " | ".join(f"{row[tasks]:,.0f}" for tasks in columns), "|")


if __name__ == "__main__":
    asyncio.run(main())
