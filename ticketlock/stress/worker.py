"""A worker of a stress run: `python -m ticketlock.stress.worker FOLDER NAME`.

Its tasks take turns, or submit messages which all workers handle, until the moment that the file `go`
names; the file `drained` says that no message is left. SIGUSR1 blocks its event loop for the seconds that the file `block` names,
SIGUSR2 cancels half of what its tasks are doing.
"""

from __future__ import annotations

import asyncio
import math
import random
import signal
import sys
import threading
import time
from pathlib import Path

from ..checker import Fault, Recorder
from ..endpoints.registry import create_lock_store
from ..locks.concurrent.store import ConcurrentRedisLockStore
from ..process import clock
from ..redis.settings import RedisSettings
from ..telemetry.observer import Observer
from .messages import serve
from .plan import Plan
from .register import Registers
from .task import STEP, Task

#: Said on standard output by a worker that waits for the file `go`.
READY = "ready"
#: A thread that wakes so many seconds late was not let run, and neither was its heartbeat.
STARVED = 0.5


def watch(recorder: Recorder, worker: str) -> None:
    """Record when the machine did not let this process run."""
    while True:
        before = clock()
        time.sleep(STARVED / 10)
        if clock() - before > STARVED:
            recorder.fault(Fault("starved", before, clock(), worker))


class Degraded(Observer):
    """Records while nothing waits to be durable: what counts then may be lost in a failover."""

    def __init__(self, recorder: Recorder, worker: str) -> None:
        self._recorder, self._worker = recorder, worker
        self._since: dict[str, float] = {}

    def on_durability(self, server: str, why: str) -> None:
        since = self._since.setdefault(server, clock())
        until = math.inf if why else clock()
        self._recorder.fault(Fault("not durable", since, until, self._worker, loses=True))
        if not why:
            del self._since[server]


def cancel(chance: random.Random) -> None:
    """Cancel half of what tasks are doing, by chance."""
    for task in asyncio.all_tasks():
        if task.get_name() == STEP and chance.random() < 0.5:
            task.cancel()


async def until_go(folder: Path) -> float:
    """The moment of `clock()` at which turns are begun no more."""
    while not (folder / "go").exists():  # noqa: ASYNC110  # another process makes it
        await asyncio.sleep(0.02)
    return float((folder / "go").read_text())


async def main(folder: Path, worker: str) -> None:
    plan = Plan.read(folder / "plan")
    store = create_lock_store(plan.lock_store, plan.where)
    settings: RedisSettings = (
        store.settings  # type: ignore[attr-defined]  # of lock stores on Redis
        if plan.register is None
        else RedisSettings.of(plan.register)
    )
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(
        signal.SIGUSR1, lambda: time.sleep(float((folder / "block").read_text()))
    )
    loop.add_signal_handler(signal.SIGUSR2, cancel, random.Random(f"{plan.seed} {worker}"))
    with Recorder(folder / f"{worker}.jsonl") as recorder:
        threading.Thread(target=watch, args=[recorder, worker], daemon=True).start()
        if isinstance(store, ConcurrentRedisLockStore) and not store.durability.refuse:
            store.observe(Degraded(recorder, worker))
        async with store, Registers(settings) as registers:
            print(READY, flush=True)
            end = await until_go(folder)
            names = [f"{worker}/{number}" for number in range(plan.tasks)]
            if plan.tracker_store is not None:
                await serve(plan, store, names, registers, recorder, end, folder)
                return
            await asyncio.gather(
                *(Task(name, plan, store, registers, recorder).run(end) for name in names)
            )


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
