"""A task of a worker: it takes turns, writes to registers and records what it does."""

from __future__ import annotations

import asyncio
import random

from ..checker import Recorder
from ..errors import LockError, LockLost, LockStoreConnectionError
from ..locks.grant import Grant
from ..locks.lock import Lock
from ..locks.store import LockStore
from ..process import clock
from .plan import Plan
from .register import Registers

#: Seconds that a task waits after an error of the connection.
PAUSE = 0.05
#: The name of what a task is doing, which may be cancelled.
STEP = "step"


class Task:
    """One task, which is a process to the checker.

    Attributes:
        name: `worker/task`.
        chance: decides what it does.
    """

    def __init__(
        self, name: str, plan: Plan, store: LockStore, registers: Registers, recorder: Recorder
    ) -> None:
        self.name, self._plan, self._store = name, plan, store
        self._registers, self.recorder = registers, recorder
        self.chance = random.Random(f"{plan.seed} {name}")

    async def run(self, end: float) -> None:
        """Take turns, or submit messages, until a moment of `clock()`."""
        following = clock() + self.chance.uniform(0, self._plan.pause)
        while following < end:
            await asyncio.sleep(following - clock())
            step = self.step(self.chance.choice(self._plan.names))
            await asyncio.wait([under_way := asyncio.create_task(step, name=STEP)])
            if not under_way.cancelled():
                under_way.result()
            following = max(clock(), following + self._plan.pause)

    async def step(self, conversation: str) -> None:
        """Take one turn."""
        call = self.recorder.invoke("acquire", self.name, conversation)
        lock = self._store.lock(conversation, label=self.name)
        try:
            await lock.queue()
            call.arrived()
            grant = await lock.acquire()
        except (LockError, LockStoreConnectionError):
            call.fail()
            await asyncio.sleep(PAUSE)
            return
        except asyncio.CancelledError:
            call.fail()
            raise
        call.ok(fence=grant.fence, lease_until=grant.deadline)
        try:
            await self.hold(conversation, grant)
        finally:
            await self._release(conversation, lock, grant)

    async def hold(self, conversation: str, grant: Grant) -> None:
        """Hold a turn for a while, and write twice."""
        for _ in range(2):
            await asyncio.sleep(self.chance.uniform(0, self._plan.hold / 2))
            try:
                grant.ensure_held()
            except LockLost:
                return
            call = self.recorder.invoke(
                "write", self.name, conversation, fence=grant.fence, lease_until=grant.deadline
            )
            try:
                position = await self._registers.write(conversation, grant.fence)
            except LockStoreConnectionError:
                call.unknown()
                return
            except asyncio.CancelledError:
                call.unknown()
                raise
            if position is None:
                call.fail()
                return
            call.ok(position=position)

    async def _release(self, conversation: str, lock: Lock, grant: Grant) -> None:
        call = self.recorder.invoke(
            "release", self.name, conversation, fence=grant.fence, lease_until=grant.deadline
        )
        try:
            await lock.release()
        except LockStoreConnectionError:
            call.unknown()
        except LockLost:
            call.fail()
        else:
            call.ok()
