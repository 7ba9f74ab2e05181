"""What happens to the replicas meanwhile: SIGKILL, and rolls with SIGTERM, by progress."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle

from .sender import Sender
from .topology import Topology

#: Part of the messages between two deeds that may be sent while the first one is being done.
DURING = 0.5


@dataclass
class Trouble:
    """Kills and rolls, spread evenly over the messages.

    Where there is a version before, each roll leads to the other version, so that replicas of
    both serve most of the messages together.

    Attributes:
        kills: replicas to be killed. rolls: how often all are restarted, one by one.
        drained: seconds that each replica took to end when it was told to.
        fleets: so many replicas of the version before -> messages that were done between two
            deeds, by such a fleet.
    """

    topology: Topology
    sender: Sender
    dice: random.Random
    kills: int
    rolls: int
    drained: list[float] = field(default_factory=list)
    fleets: Counter[int] = field(default_factory=Counter)

    async def run(self) -> None:
        """Do it all; the last of it while messages are still being sent."""
        self._next = cycle(self.topology.replicas)
        steps = self.rolls * len(self.topology.replicas)
        deeds = [self._kill] * self.kills + [self._step] * steps + [self._kill_service]
        self.dice.shuffle(deeds)
        total = len(self.sender.deliveries)
        part, after = total / (len(deeds) + 1), 0
        for place, deed in enumerate(deeds, 1):
            # So many while it is done, so that the rest finds the replicas as they are then.
            self.sender.limit = round(part * (place + DURING))
            await self._until(part * place)
            self._count(after)
            await deed()
            after = self.sender.done
        self.sender.limit = total
        await self._until(total)
        self._count(after)

    async def _until(self, done: float) -> None:
        while self.sender.done < done:
            await asyncio.sleep(0.02)

    def _count(self, since: int) -> None:
        old = sum(replica.version is not None for replica in self.topology.replicas)
        self.fleets[old] += self.sender.done - since

    async def _kill(self) -> None:
        replica = self.dice.choice(self.topology.replicas)
        await asyncio.to_thread(replica.kill)
        replica.start()
        await asyncio.to_thread(replica.wait_ready)

    async def _kill_service(self) -> None:
        await asyncio.to_thread(self.topology.consumer.kill)
        self.topology.start_consumer(None)

    async def _step(self) -> None:
        """Restart one replica, the next one of the roll."""
        replica, started = next(self._next), time.monotonic()
        status = await asyncio.to_thread(replica.stop)
        self.drained.append(time.monotonic() - started)
        assert status == 0, replica.log
        replica.version = self.topology.other(replica.version)
        replica.start()
        await asyncio.to_thread(replica.wait_ready)
