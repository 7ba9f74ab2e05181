"""What is done to the workers and the server of a run."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from redis.exceptions import ResponseError

from ..checker import Fault
from ..process import clock
from .own_server import OwnServer
from .plan import LOSING, Options
from .workers import Worker, Workers

#: Seconds in which workers have connected again, and have been heard.
RECONNECTED = 1.5
#: Seconds between two faults of one nemesis.
BETWEEN = (0.3, 1.5)


class Nemesis:
    """Troubles one worker and the server at a time, and lets each recover.

    Args:
        options: which names it has, and the seed.
        lease: seconds for which the store believes a turn without a renewal.
        folder: that of the workers.

    Attributes:
        faults: what was done.
    """

    def __init__(
        self, workers: Workers, own: OwnServer, options: Options, lease: float, folder: Path
    ) -> None:
        self._workers, self._own, self._lease = workers, own, lease
        self._chance = random.Random(f"{options.seed} nemesis")
        self._server = asyncio.Lock()
        (folder / "block").write_text(str(self._beyond))
        self.faults: list[Fault] = []
        self._of_workers: dict[str, Callable[[Worker], Awaitable[None]]] = {
            "kill": self._kill, "stop": self._stop, "block": self._block,
        }  # fmt: skip
        self._of_server: dict[str, Callable[[], Awaitable[None]]] = {
            "client-kill": self._client_kill, "pause": self._pause, "cut": self._cut,
            "black-hole": self._black_hole, "bells": self._bells, "restart": self._restart,
            "wipe": self._wipe, "flushall": self._flushall,
        }  # fmt: skip
        self._server_too = any(name in self._of_server for name in options.nemeses)

    @property
    def _beyond(self) -> float:
        return self._lease + 1.0

    async def run(self, name: str, end: float) -> None:
        """Do it again and again, up to a moment of `clock()` from which on nothing is begun."""
        while (pause := self._chance.uniform(*BETWEEN)) < end - clock():
            await asyncio.sleep(pause)
            if name in self._of_server:
                async with self._server:
                    with self._fault(name, loses=name in LOSING):
                        await self._of_server[name]()
            elif len(workers := self._workers.calm()) > 1:  # one is left in peace
                worker = self._chance.choice(workers)
                worker.troubled = True
                await self._of_workers[name](worker)
                worker.troubled = False

    @contextmanager
    def _fault(
        self, kind: str, process: str | None = None, *, loses: bool = False
    ) -> Iterator[None]:
        """The block is the fault."""
        since = clock()
        place = len(self.faults)
        self.faults.append(Fault(kind, since, process=process, loses=loses))
        yield
        self.faults[place] = Fault(kind, since, clock(), process, loses)

    # -- workers ---------------------------------------------------------------------------

    async def _kill(self, worker: Worker) -> None:
        self.faults.append(Fault("kill", clock(), process=worker.name))
        await self._workers.replace(worker)

    async def _stop(self, worker: Worker) -> None:
        with self._fault("stop", worker.name):
            worker.send(signal.SIGSTOP)
            try:
                await asyncio.sleep(self._beyond)
            finally:
                worker.send(signal.SIGCONT)

    async def _block(self, worker: Worker) -> None:
        """Its heartbeat has a thread of its own: it keeps turns and places. Not where the server is
        troubled too: it cannot ask for a place again."""
        with self._fault("block", worker.name if self._server_too else None):
            worker.send(signal.SIGUSR1)
            await asyncio.sleep(self._beyond)

    # -- the server ------------------------------------------------------------------------

    async def _client_kill(self) -> None:
        for line in await self._own.call("CLIENT LIST"):
            if self._chance.random() < 0.5:
                try:
                    await self._own.call("CLIENT", "KILL", "ID", line["id"])
                except ResponseError:  # it has gone by itself
                    continue

    async def _pause(self) -> None:
        seconds = self._chance.uniform(0.05, 2)
        await self._own.call("CLIENT", "PAUSE", round(1000 * seconds))
        await asyncio.sleep(seconds)

    async def _cut(self) -> None:
        self._own.proxy.reset()

    async def _black_hole(self) -> None:
        """A long one cuts all workers off: those that wait are not heard, and may lose their places."""
        if self._chance.random() < 0.5:
            await self._mood("black hole", self._chance.uniform(0.1, 0.7))
            return
        with ExitStack() as stack:
            for worker in self._workers.calm():
                stack.enter_context(self._fault("cut off", worker.name))
            await self._mood("black hole", self._beyond)
            await asyncio.sleep(RECONNECTED)

    async def _bells(self) -> None:
        await self._mood("lose bells", self._chance.uniform(0.5, 3))

    async def _mood(self, mood: str, seconds: float) -> None:
        self._own.proxy.mood = mood
        try:
            await asyncio.sleep(seconds)
        finally:
            self._own.proxy.mood = "pass"
            if mood == "black hole":
                self._own.proxy.reset()  # what was swallowed is missing in them

    async def _restart(self) -> None:
        await self._own.restart(self._chance.uniform(0.1, 1), forget=False)

    async def _wipe(self) -> None:
        await self._own.restart(self._chance.uniform(0.1, 1), forget=True)

    async def _flushall(self) -> None:
        await self._own.call("FLUSHALL")
