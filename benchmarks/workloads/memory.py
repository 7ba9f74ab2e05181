"""(f) What Redis keeps: for idle, held and waiting conversations, and afterwards."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from ticketlock import ConcurrentRedisLockStore

from ..adapters import ASYNC_PEERS, PEERS, THREAD_PEERS
from ..bench import Bench, Usage
from ..rows import Bar, Rows, table

TITLE = "Redis memory and keys"
PEOPLE = ("ticketlock", "floor", *ASYNC_PEERS, *THREAD_PEERS)


def run(bench: Bench) -> None:
    urls = {peer: bench.server() for peer in PEOPLE}
    workers = {peer: bench.worker(peer, url) for peer, url in urls.items()}
    count, held = bench.pick((500, 100), (2000, 500))
    for peer, worker in workers.items():
        usage = Usage(urls[peer])
        worker.call("parked:visit", prefix="first", count=1)
        usage.look()
        before = usage.memory
        worker.call("parked:visit", prefix="idle", count=count)
        usage.look()
        idle, keys = (usage.memory - before) / count, list(usage.client.scan_iter(count=1000))
        for_ever = sum(usage.client.pttl(key) == -1 for key in keys)
        usage.look()
        before = usage.memory
        worker.call("parked:hold", prefix="held", count=held)
        usage.look()
        each_held = (usage.memory - before) / held
        worker.call("parked:wait", name="held0", count=1)  # the first one's connection is no one's
        usage.look()
        before = usage.memory
        # Where each waiter has a connection, fewer: it is all the same for the others.
        waiting = 5000 if peer in ("ticketlock", "floor") else bench.pick(100, 500)
        worker.call("parked:wait", name="held0", count=waiting)
        usage.look()
        bench.add(
            peer,
            idle=idle,
            keys=len(keys) / count,
            for_ever=for_ever / count,
            held=each_held,
            waiting=(usage.memory - before) / waiting,
        )
        worker.kill()
    bench.add("ticketlock", "after", keys=asyncio.run(left_after_expiry(bench.server(), count)))


async def left_after_expiry(url: str, count: int) -> int:
    """Keys that are there when the idle expiry, here a second, is over, and another one."""
    store = ConcurrentRedisLockStore(url=url)
    queue: Any = store.turn_queue
    queue._timing = store.timing._replace(idle=1000)  # less than settings allow
    async with store:
        await asyncio.gather(*(_visit(store, f"c{i}") for i in range(count)))
    usage, end = Usage(url), time.monotonic() + 2
    while (left := usage.client.dbsize()) and time.monotonic() < end:
        time.sleep(0.05)  # noqa: ASYNC251  # nothing else is on this loop
    return int(left)


async def _visit(store: ConcurrentRedisLockStore, name: str) -> None:
    async with store.lock(name, lock_lifetime=1.0):
        await asyncio.sleep(0)


def report(rows: Rows) -> str:
    keys = ("idle", "keys", "for_ever", "held", "waiting")
    head = [
        "lock", "bytes, finished conversation", "keys it leaves", "of these without expiry",
        "bytes, held", "bytes, waiting ticket with its connection",
    ]  # fmt: skip
    return table(
        head,
        [[PEERS[peer].label, *(rows.cell(peer, key) for key in keys)] for peer in rows.peers()],
    )


def bars(rows: Rows) -> list[Bar]:
    return [
        Bar("bytes for a waiting ticket", rows.median("ticketlock", "waiting"), 250),
        Bar("keys left after the idle expiry", rows.median("ticketlock", "keys", "after"), 0),
    ]
