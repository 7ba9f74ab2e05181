"""(j) Whole turns: lock, claim, read, two events, fenced write, release."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

from ticketlock import Conversations

from ..adapters.floor import Adapter as Floor
from ..bench import Bench
from ..rows import Bar, Rows, number, table
from ..stores import events, tracker_sections
from .bare import BARE

TITLE = "whole turns by tracker store and broker"
STORES = ("memory", *BARE)
#: Conversations at once, and one alone.
TASKS, ALONE = 32, " alone"
#: What turns a second are to be at least, by those of the bare driver; one alone: 0.7.
LEAST = {"sqlite": 1.0, "postgres": 1.0, "mariadb": 0.8, "redis": 1.0, "mongo": 1.0}
#: `locked`: the bare driver, under the lock that is the floor of (a): the least that a turn with
#: any lock in Redis costs.
KINDS = ("bare", "locked", "ticketlock", "file broker")

_run = count()


def run(bench: Bench) -> None:
    url = bench.server()
    seconds = bench.pick(0.3, 1)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stores = bench.pick(("memory", "sqlite", "redis"), STORES)
        sections = {store: stack.enter_context(tracker_sections(store)) for store in stores}
        for round_, store in bench.turns(stores, bench.pick(2, 5)):
            for kind in KINDS:
                if kind in ("bare", "locked") and store not in BARE:
                    continue
                path = folder / f"{round_}{store}.log"
                for tasks, x in ((TASKS, store), (1, store + ALONE)):
                    if tasks == 1 and kind not in ("bare", "ticketlock"):
                        continue
                    made = measure(
                        kind, sections[store](), BARE.get(store), url, path, seconds, tasks
                    )
                    bench.add(kind, x, round=round_, per_s=asyncio.run(made))


async def measure(
    kind: str, section: dict[str, Any], bare: Any, url: str, file: Path, seconds: float, tasks: int
) -> float:
    """Turns a second, with or without us, without or with a broker."""
    if kind in ("bare", "locked"):
        driver, floor = bare(section), Floor(url)
        await driver.open(tasks)
        await floor.open()

        async def locked(sender_id: str, added: list[dict[str, Any]]) -> None:
            async with floor.lock(sender_id):
                await driver.turn(sender_id, added)

        found = await turns(driver.turn if kind == "bare" else locked, seconds, tasks)
        await floor.close()
        await driver.close()
        return found
    broker = {"type": "file", "path": str(file)} if kind != "ticketlock" else None
    locks = {"type": "concurrent_redis", "url": url}
    async with Conversations(locks, section, broker) as conversations:

        async def turn(sender_id: str, added: list[dict[str, Any]]) -> None:
            async with conversations.turn(sender_id) as turn:
                turn.add(*added)

        return await turns(turn, seconds, tasks)


async def turns(
    turn: Callable[[str, list[dict[str, Any]]], Awaitable[None]], seconds: float, tasks: int
) -> float:
    """Turns a second of some tasks; a conversation has ten turns."""
    done, run_ = 0, next(_run)
    end = float("inf")

    async def task(i: int) -> None:
        nonlocal done
        for life in count():
            for _ in range(10):
                await turn(f"{run_}-{i}-{life}", events("hello"))
                done += 1
                if time.perf_counter() > end:
                    return

    await turn(f"{run_}-first", events("hello"))  # makes tables
    first = (turn(f"{run_}-first{i}", events("hello")) for i in range(tasks))
    await asyncio.gather(*first)  # fills the pool of connections
    start = time.perf_counter()
    end = start + seconds
    await asyncio.gather(*map(task, range(tasks)))
    return done / (time.perf_counter() - start)


def report(rows: Rows) -> str:
    lines = []
    for store in rows.xs():
        cells = [rows.cell(kind, "per_s", store) for kind in KINDS]
        ratios = [number(rows.ratio(kind, "bare", "per_s", store)) for kind in KINDS[1:]]
        lines.append([store, *cells, *ratios])
    head = ["turns/s", "bare driver", "in the floor's lock", "ticketlock", "and a file broker"]
    return table([*head, "lock by bare", "by bare", "broker by bare"], lines)


def bars(rows: Rows) -> list[Bar]:
    found = []
    for store in BARE:
        for x, least in ((store, LEAST[store]), (store + ALONE, 0.7)):
            if x in rows.xs():
                ratio = rows.ratio("ticketlock", "bare", "per_s", x)
                text = f"{x}: turns by those of the bare driver"
                found.append(Bar(text, ratio, least, at_most=False))
    return found
