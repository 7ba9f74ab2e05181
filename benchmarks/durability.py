"""What `durability` costs: the same turns with each kind, on a master with two replicas.

    python benchmarks/durability.py [--rounds 9] [--tasks 1,100]

Each task takes turns of a conversation of its own. The kinds alternate within a round, in changing
order; medians are printed: microseconds a turn, of the wall clock and of this process' processor
time, and commands that wait. `aof` needs a server that has WAITAOF: `--binary PATH`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from contextlib import ExitStack
from typing import Any

import redis

from ticketlock import ConcurrentRedisLockStore
from ticketlock.redis.embedded import EmbeddedRedis

#: Kind -> its keys.
KINDS: dict[str, dict[str, Any]] = {
    "none": {},
    "replicas: 1": {"durability": "replicas"},
    "replicas: 2": {"durability": "replicas", "durability_replicas": 2},
    "aof": {"durability": "aof"},
}


async def measure(store: ConcurrentRedisLockStore, tasks: int, turns: int) -> tuple[float, float]:
    """Microseconds a turn, of the wall clock and of the processor."""

    async def task(i: int) -> None:
        for _ in range(turns // tasks):
            async with store.lock(f"c{i}"):
                pass

    began, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*map(task, range(tasks)))
    each = 1e6 / (turns // tasks * tasks)
    return (time.perf_counter() - began) * each, (time.process_time() - used) * each


def waits(port: int) -> int:
    """How often the server was asked to wait."""
    with redis.Redis(port=port, decode_responses=True) as client:
        found: Any = client.info("commandstats")
    return sum(
        int(found.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in ("wait", "waitaof")
    )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tasks", default="1,100")
    parser.add_argument("--turns", type=int, default=3000)
    parser.add_argument("--binary")
    options = parser.parse_args()
    kinds = KINDS if options.binary else {name: KINDS[name] for name in [*KINDS][:-1]}
    log = ["--appendonly", "yes", "--appendfsync", "always"] if options.binary else []
    words = [*log, "--repl-diskless-sync-delay", "0"]
    found: dict[tuple[int, str], list[tuple[float, float, float]]] = {}
    with ExitStack() as stack:
        master = stack.enter_context(EmbeddedRedis(words, binary=options.binary))
        follow = [*words, "--replicaof", "127.0.0.1", str(master.port)]
        for _ in range(2):
            stack.enter_context(EmbeddedRedis(follow, binary=options.binary))
        with redis.Redis(port=master.port) as client:
            while client.set("ready", "") and client.wait(2, 500) != 2:
                pass
        for _ in range(options.rounds):
            for tasks in map(int, options.tasks.split(",")):
                for name in random.sample([*kinds], len(kinds)):
                    async with ConcurrentRedisLockStore(url=master.url, **kinds[name]) as store:
                        await measure(store, tasks, 2 * tasks)  # connects, warms up
                        before = waits(master.port)
                        wall, processor = await measure(store, tasks, options.turns)
                        waited = (waits(master.port) - before) / options.turns
                        found.setdefault((tasks, name), []).append((wall, processor, waited))
    print("tasks  durability    us/turn  us of processor  waits/turn")
    for (tasks, name), rows in sorted(found.items()):
        wall, processor, waited = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"{tasks:5}  {name:12}  {wall:7.0f}  {processor:15.0f}  {waited:10.2f}")


if __name__ == "__main__":
    asyncio.run(main())
