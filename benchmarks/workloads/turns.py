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
from ..stores import Section, events, tracker_sections
from .bare import BARE

TITLE = "whole turns by tracker store and broker"
STORES = ("memory", *BARE)
TASKS = 16
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
                measured = measure(kind, sections[store], BARE.get(store), url, path, seconds)
                bench.add(kind, store, round=round_, per_s=asyncio.run(measured))


async def measure(
    kind: str, section: Section, bare: Any, url: str, file: Path, seconds: float
) -> float:
    """Turns a second, with or without us, without or with a broker."""
    if kind in ("bare", "locked"):
        driver, floor = bare(section()), Floor(url)
        await driver.open(TASKS)
        await floor.open()

        async def locked(sender_id: str, added: list[dict[str, Any]]) -> None:
            async with floor.lock(sender_id):
                await driver.turn(sender_id, added)

        found = await turns(driver.turn if kind == "bare" else locked, seconds)
        await floor.close()
        await driver.close()
        return found
    broker = {"type": "file", "path": str(file)} if kind != "ticketlock" else None
    locks = {"type": "concurrent_redis", "url": url}
    async with Conversations(locks, section(), broker) as conversations:

        async def turn(sender_id: str, added: list[dict[str, Any]]) -> None:
            async with conversations.turn(sender_id) as turn:
                turn.add(*added)

        return await turns(turn, seconds)


async def turns(
    turn: Callable[[str, list[dict[str, Any]]], Awaitable[None]], seconds: float
) -> float:
    """Turns a second of several tasks; a conversation has ten turns."""
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
    first = (turn(f"{run_}-first{i}", events("hello")) for i in range(TASKS))
    await asyncio.gather(*first)  # fills the pool of connections
    start = time.perf_counter()
    end = start + seconds
    await asyncio.gather(*map(task, range(TASKS)))
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
    return [
        Bar(
            f"{store}: turns by those of the bare driver",
            rows.ratio("ticketlock", "bare", "per_s", store),
            0.6,
            at_most=False,
        )
        for store in BARE
        if store in rows.xs()
    ]
