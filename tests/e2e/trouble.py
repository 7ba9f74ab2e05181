"""What happens to the replicas meanwhile: SIGKILL, and a roll with SIGTERM, by progress."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field

from .sender import Sender
from .topology import Topology


@dataclass
class Trouble:
    """Kills and rolls, spread evenly over the messages.

    Attributes:
        kills: replicas to be killed. rolls: how often all are restarted, one by one.
        drained: seconds that each replica took to end when it was told to.
    """

    topology: Topology
    sender: Sender
    dice: random.Random
    kills: int
    rolls: int
    drained: list[float] = field(default_factory=list)

    async def run(self) -> None:
        """Do it all; the last of it while messages are still being sent."""
        deeds = [self._kill] * self.kills + [self._roll] * self.rolls + [self._kill_service]
        self.dice.shuffle(deeds)
        total = len(self.sender.deliveries)
        for place, deed in enumerate(deeds, 1):
            while self.sender.done < total * place / (len(deeds) + 1):
                await asyncio.sleep(0.02)
            await deed()

    async def _kill(self) -> None:
        replica = self.dice.choice(self.topology.replicas)
        await asyncio.to_thread(replica.kill)
        replica.start()
        await asyncio.to_thread(replica.wait_ready)

    async def _kill_service(self) -> None:
        await asyncio.to_thread(self.topology.consumer.kill)
        self.topology.start_consumer()

    async def _roll(self) -> None:
        for replica in self.topology.replicas:
            started = time.monotonic()
            status = await asyncio.to_thread(replica.stop)
            self.drained.append(time.monotonic() - started)
            assert status == 0, replica.log
            replica.start()
            await asyncio.to_thread(replica.wait_ready)
