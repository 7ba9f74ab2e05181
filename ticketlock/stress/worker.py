"""A worker of a stress run: `python -m ticketlock.stress.worker FOLDER NAME`.

Its tasks take turns, write to registers and record what they do, until the moment that the file `go`
names. SIGUSR1 blocks its event loop for the seconds that the file `block` names.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import threading
import time
from pathlib import Path

from ..checker import Fault, Recorder
from ..endpoints.registry import create_lock_store
from ..errors import LockError, LockLost, LockStoreConnectionError
from ..locks.grant import Grant
from ..locks.lock import Lock
from ..locks.store import LockStore
from ..process import clock
from ..redis.settings import RedisSettings
from .plan import Plan
from .register import Registers

#: Said on standard output by a worker that waits for the file `go`.
READY = "ready"
#: A thread that wakes so many seconds late was not let run, and neither was its heartbeat.
STARVED = 0.5
#: Seconds that a task waits after an error of the connection.
PAUSE = 0.05


class Task:
    """One task, which is a process to the checker."""

    def __init__(
        self, name: str, plan: Plan, store: LockStore, registers: Registers, recorder: Recorder
    ) -> None:
        self._name, self._plan, self._store = name, plan, store
        self._registers, self._recorder = registers, recorder
        self._chance = random.Random(f"{plan.seed} {name}")

    async def run(self, end: float) -> None:
        """Take turns until a moment of `clock()`."""
        following = clock() + self._chance.uniform(0, self._plan.pause)
        while following < end:
            await asyncio.sleep(following - clock())
            await self._turn(self._chance.choice(self._plan.names))
            following = max(clock(), following + self._plan.pause)

    async def _turn(self, conversation: str) -> None:
        call = self._recorder.invoke("acquire", self._name, conversation)
        lock = self._store.lock(conversation, label=self._name)
        try:
            await lock.queue()
            call.arrived()
            grant = await lock.acquire()
        except (LockError, LockStoreConnectionError):
            call.fail()
            await asyncio.sleep(PAUSE)
            return
        call.ok(fence=grant.fence, lease_until=grant.deadline)
        try:
            await self._hold(conversation, grant)
        finally:
            await self._release(conversation, lock, grant)

    async def _hold(self, conversation: str, grant: Grant) -> None:
        for _ in range(2):
            await asyncio.sleep(self._chance.uniform(0, self._plan.hold / 2))
            try:
                grant.ensure_held()
            except LockLost:
                return
            call = self._recorder.invoke(
                "write", self._name, conversation, fence=grant.fence, lease_until=grant.deadline
            )
            try:
                position = await self._registers.write(conversation, grant.fence)
            except LockStoreConnectionError:
                call.unknown()
                return
            if position is None:
                call.fail()
                return
            call.ok(position=position)

    async def _release(self, conversation: str, lock: Lock, grant: Grant) -> None:
        call = self._recorder.invoke(
            "release", self._name, conversation, fence=grant.fence, lease_until=grant.deadline
        )
        try:
            await lock.release()
        except LockStoreConnectionError:
            call.unknown()
        except LockLost:
            call.fail()
        else:
            call.ok()


def watch(recorder: Recorder, worker: str) -> None:
    """Record when the machine did not let this process run."""
    while True:
        before = clock()
        time.sleep(STARVED / 10)
        if clock() - before > STARVED:
            recorder.fault(Fault("starved", before, clock(), worker))


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
    with Recorder(folder / f"{worker}.jsonl") as recorder:
        threading.Thread(target=watch, args=[recorder, worker], daemon=True).start()
        async with store, Registers(settings) as registers:
            print(READY, flush=True)
            end = await until_go(folder)
            names = [f"{worker}/{number}" for number in range(plan.tasks)]
            await asyncio.gather(
                *(Task(name, plan, store, registers, recorder).run(end) for name in names)
            )


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
