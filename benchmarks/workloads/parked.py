"""Turns that are taken and kept, and others that wait for them, in a worker process."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import tracemalloc
from typing import Any

#: conversation -> what ends the turn there; and what keeps tasks from being collected.
_leave: dict[str, Any] = {}
_tasks: list[Any] = []


async def enter(adapter: Any, name: str) -> float:
    """Take the turn and keep it until `leave`; returns the moment of the entry."""
    entered: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    _leave[name] = event = asyncio.Event()

    async def turn() -> None:
        async with adapter.lock(name):
            entered.set_result(time.perf_counter())
            await event.wait()

    _tasks.append(asyncio.create_task(turn()))
    await asyncio.wait([entered, _tasks[-1]], return_when=asyncio.FIRST_COMPLETED)
    if not entered.done():
        await _tasks[-1]  # raises what it ended with
    return entered.result()


def enter_sync(adapter: Any, name: str) -> float:
    entered, moment = threading.Event(), [0.0]
    _leave[name] = event = threading.Event()

    def turn() -> None:
        with adapter.lock(name):
            moment[0] = time.perf_counter()
            entered.set()
            event.wait()

    threading.Thread(target=turn, daemon=True).start()
    entered.wait()
    return moment[0]


async def leave(adapter: Any, name: str) -> float:
    """End the turn; returns the moment before."""
    moment = time.perf_counter()
    _leave[name].set()
    return moment


def leave_sync(adapter: Any, name: str) -> float:
    moment = time.perf_counter()
    _leave[name].set()
    return moment


async def hold(adapter: Any, prefix: str, count: int) -> None:
    """Take the turns of so many conversations."""
    for i in range(count):
        await enter(adapter, f"{prefix}{i}")


def hold_sync(adapter: Any, prefix: str, count: int) -> None:
    for i in range(count):
        enter_sync(adapter, f"{prefix}{i}")


async def wait(adapter: Any, name: str, count: int) -> int:
    """Let so many wait for a conversation for ever; returns how many do."""

    async def waiter() -> None:
        async with adapter.lock(name):
            pass

    tasks = [asyncio.create_task(waiter()) for _ in range(count)]
    _tasks.append(tasks)
    await asyncio.sleep(0.3 + count / 2500)
    return sum(not task.done() for task in tasks)


def wait_sync(adapter: Any, name: str, count: int) -> int:
    def waiter() -> None:
        with adapter.lock(name):
            pass

    threads = [threading.Thread(target=waiter, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    time.sleep(0.3 + count / 2500)
    return sum(thread.is_alive() for thread in threads)


async def rest(adapter: Any, seconds: float) -> None:
    """Do nothing; what the worker's processor does meanwhile is for those who wait."""
    await asyncio.sleep(seconds)


def rest_sync(adapter: Any, seconds: float) -> None:
    time.sleep(seconds)


async def visit(adapter: Any, prefix: str, count: int) -> None:
    """One cycle on each of so many conversations, one after the other."""
    for i in range(count):
        async with adapter.lock(f"{prefix}{i}"):
            pass


def visit_sync(adapter: Any, prefix: str, count: int) -> None:
    for i in range(count):
        with adapter.lock(f"{prefix}{i}"):
            pass


async def footprint(adapter: Any, name: str, count: int) -> dict[str, float]:
    """Bytes of Python's memory for each waiter, and for a task that waits for a future."""

    async def bare() -> None:
        await asyncio.get_running_loop().create_future()

    await enter(adapter, name)
    await wait(adapter, name, 1)  # what comes with the first one is not a waiter's
    tracemalloc.start()
    before = _traced()
    await wait(adapter, name, count)
    between = _traced()
    tasks = [asyncio.create_task(bare()) for _ in range(count)]
    await asyncio.sleep(0.5)
    after = _traced()
    _tasks.append(tasks)
    return {"task": (after - between) / count, "waiter": (between - before) / count}


def _traced() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
