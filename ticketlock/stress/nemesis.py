"""Does to the workers and the servers of a run what its nemeses say."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

from ..process import clock
from .faults import Faults
from .nemeses import NEMESES
from .own_servers import OwnServers
from .plan import Options
from .server_trouble import ServerTrouble
from .set_trouble import SetTrouble
from .workers import Worker, Workers

#: Seconds in which workers have connected again, and have been heard.
RECONNECTED = 1.5
#: Seconds between two faults of one nemesis.
BETWEEN = (0.3, 1.5)


class Nemesis:
    """Troubles one worker and the servers at a time, and lets each recover.

    Args:
        options: which names it has, and the seed.
        lease: seconds for which the store believes a turn without a renewal.
        folder: that of the workers.

    Attributes:
        faults: what was done.
    """

    def __init__(
        self, workers: Workers, own: OwnServers, options: Options, lease: float, folder: Path
    ) -> None:
        self._workers, self._own, self._lease = workers, own, lease
        self._chance = random.Random(f"{options.seed} nemesis")
        self._servers = asyncio.Lock()
        (folder / "block").write_text(str(self._beyond))
        self.faults = Faults()
        self._of_workers: dict[str, Callable[[Worker], Awaitable[None]]] = {
            "kill": self._kill, "stop": self._stop, "block": self._block, "cancel": self._cancel,
        }  # fmt: skip
        self._of_servers: dict[str, Callable[[], Awaitable[None]]] = {
            "black-hole": self._black_hole,
            **ServerTrouble(own, self._chance).deeds,
            **SetTrouble(own, self._chance, self.faults, options).deeds,
        }
        self._servers_too = any(name in self._of_servers for name in options.nemeses)

    @property
    def _beyond(self) -> float:
        return self._lease + 1.0

    async def run(self, name: str, end: float) -> None:
        """Do it again and again, up to a moment of `clock()` from which on nothing is begun."""
        while (pause := self._chance.uniform(*BETWEEN)) < end - clock():
            await asyncio.sleep(pause)
            if name in SetTrouble.NAMES:  # says itself what it does to which conversations
                async with self._servers:
                    await self._of_servers[name]()
            elif name in self._of_servers:
                async with self._servers:
                    with self.faults.during(name, loses=NEMESES[name].loses):
                        await self._of_servers[name]()
            elif len(workers := self._workers.calm()) > 1:  # one is left in peace
                worker = self._chance.choice(workers)
                worker.troubled = True
                await self._of_workers[name](worker)
                worker.troubled = False

    async def _kill(self, worker: Worker) -> None:
        self.faults.now("kill", worker.name)
        await self._workers.replace(worker)

    async def _stop(self, worker: Worker) -> None:
        with self.faults.during("stop", worker.name):
            worker.send(signal.SIGSTOP)
            try:
                await asyncio.sleep(self._beyond)
            finally:
                worker.send(signal.SIGCONT)

    async def _block(self, worker: Worker) -> None:
        """Its heartbeat has a thread of its own: it keeps turns and places. Not where servers are
        troubled too: it cannot ask for a place again."""
        with self.faults.during("block", worker.name if self._servers_too else None):
            worker.send(signal.SIGUSR1)
            await asyncio.sleep(self._beyond)

    async def _cancel(self, worker: Worker) -> None:
        """No trouble of a process: who asks again has a new place."""
        with self.faults.during("cancel"):
            worker.send(signal.SIGUSR2)

    async def _black_hole(self) -> None:
        """A long one cuts all workers off: those that wait are not heard, and may lose their places."""
        if self._chance.random() < 0.5:
            await self._swallowed(self._chance.uniform(0.1, 0.7))
            return
        with ExitStack() as stack:
            for worker in self._workers.calm():
                stack.enter_context(self.faults.during("cut off", worker.name))
            await self._swallowed(self._beyond)
            await asyncio.sleep(RECONNECTED)

    async def _swallowed(self, seconds: float) -> None:
        for proxy in self._own.proxies:
            proxy.mood = "black hole"
        try:
            await asyncio.sleep(seconds)
        finally:
            for proxy in self._own.proxies:
                proxy.mood = "pass"
                proxy.reset()  # what was swallowed is missing in them
