"""What happens meanwhile to replicas, to Redis and to the event service with `--async`."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from servers.replicas import Replica

from ticketlock.demo.judge.records import BEGIN, END, Records

from .accepted import AcceptedSender
from .callbacks import Callbacks
from .topology import Topology


@dataclass(frozen=True)
class Plan:
    """What is to happen, and for how long; seconds.

    Attributes:
        kills: replicas that are killed, one by one.
        stops: replicas that are stopped for `stopped` seconds, and go on.
        absences: how often all replicas are killed at once, and are away for `away` seconds, when
            `crowd` messages have been accepted in a hurry, so that many wait.
        redis_kills: how often Redis is killed, and away for `down` seconds.
        rolls: restarts of all replicas, one by one, within one turn.
        worker_kills, action_kills: how often the worker and the action server are killed, where
            there are; the action server is away for `down` seconds.
        window: for which the ids and outcomes of finished messages are kept: `message_window`.
    """

    kills: int = 8
    stops: int = 3
    absences: int = 2
    redis_kills: int = 3
    rolls: int = 10
    worker_kills: int = 4
    action_kills: int = 6
    stopped: float = 18.0  # a lease of turns is 4 s, one of a conversation's callbacks 15 s
    away: float = 40.0
    crowd: int = 200
    down: float = 2.0
    window: float = 30.0


@dataclass
class Outages:
    """Does all of a plan, in an order by chance, spread evenly over the messages.

    Attributes:
        during: kind of trouble -> messages that were accepted during it.
        waiting: messages that were accepted and not called back when all replicas were killed.
        rolled: rolls that were done while one and the same turn lasted.
    """

    topology: Topology
    sender: AcceptedSender
    callbacks: Callbacks
    dice: random.Random
    plan: Plan
    during: Counter[str] = field(default_factory=Counter)
    waiting: list[int] = field(default_factory=list)
    rolled: int = 0

    async def run(self) -> None:
        plan = self.plan
        kinds: dict[Callable[[], Awaitable[None]], int] = {
            self._kill: plan.kills,
            self._stop: plan.stops,
            self._all_away: plan.absences,
            self._kill_redis: plan.redis_kills,
            self._roll: min(1, plan.rolls),
            self._kill_service: 1,
        }
        if self.topology.actions is not None:
            kinds |= {self._kill_worker: plan.worker_kills, self._kill_actions: plan.action_kills}
        deeds = [deed for deed, count in kinds.items() for _ in range(count)]
        self.dice.shuffle(deeds)
        total = len(self.sender.deliveries)
        part = total / (len(deeds) + 1)
        for place, deed in enumerate(deeds, 1):
            # However long this takes, what comes later has messages too.
            self.sender.limit = round(total - (len(deeds) - place) * part / 2)
            while self.sender.accepted < part * place:
                await asyncio.sleep(0.02)
            before = self.sender.accepted
            await deed()
            self.during[deed.__name__.strip("_")] += self.sender.accepted - before

    @property
    def _all(self) -> list[Replica]:
        return [*self.topology.replicas, *self.topology.workers]

    async def _kill(self) -> None:
        await _again(self.dice.choice(self.topology.replicas))

    async def _kill_worker(self) -> None:
        await _again(self.dice.choice(self.topology.workers))

    async def _kill_actions(self) -> None:
        """In the middle of what it does; the bots cannot call it meanwhile."""
        actions = self.topology.actions
        assert actions is not None
        await asyncio.to_thread(actions.kill)
        await asyncio.sleep(self.plan.down)
        await asyncio.to_thread(actions.start)

    async def _stop(self) -> None:
        replica = self.dice.choice(self._all)
        assert replica.process is not None
        replica.process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(self.plan.stopped)
        finally:
            replica.process.send_signal(signal.SIGCONT)
        await asyncio.to_thread(replica.wait_ready)

    async def _all_away(self) -> None:
        """Without a request on its way: one that is sent again after `window` is another message."""
        sender, replicas = self.sender, self._all
        rate, crowd = sender.rate, sender.accepted + self.plan.crowd
        sender.rate *= 100
        while sender.accepted < min(crowd, sender.limit):
            await asyncio.sleep(0.005)
        await sender.rest()
        for replica in replicas:
            assert replica.process is not None
            replica.process.kill()
        self.waiting.append(sender.accepted - self.callbacks.done)
        sender.rate = rate
        await asyncio.sleep(self.plan.away)
        for replica in replicas:
            await asyncio.to_thread(replica.kill)  # which has ended: it is waited for
            replica.start()
        for replica in replicas:
            await asyncio.to_thread(replica.wait_ready)
        sender.go_on()

    async def _kill_redis(self) -> None:
        await asyncio.to_thread(self.topology.redis.stop, kill=True)
        await asyncio.sleep(self.plan.down)
        await asyncio.to_thread(self.topology.redis.start)

    async def _roll(self) -> None:
        """Restart all replicas, one by one, again and again, within one turn."""
        message = self.sender.deliveries[self.sender.begun].message  # the next one
        hold = self.topology.records.with_name(f"hold {message.id}")  # the bot waits for its end
        hold.touch()
        records = Records(self.topology.records)

        def recorded(event: str) -> bool:
            entries = records.read(message.conversation)
            return any(one and (one.message, one.event) == (message.id, event) for one in entries)

        while not recorded(BEGIN):
            await asyncio.sleep(0.05)
        for _ in range(self.plan.rolls):
            for replica in self._all:
                status = await asyncio.to_thread(replica.stop)
                assert status == 0, replica.log
                replica.start()
                await asyncio.to_thread(replica.wait_ready)
            self.rolled += not recorded(END)
        hold.unlink()

    async def _kill_service(self) -> None:
        await asyncio.to_thread(self.topology.consumer.kill)
        self.topology.start_consumer(None)


async def _again(replica: Replica) -> None:
    """Kill it, and start it again."""
    await asyncio.to_thread(replica.kill)
    replica.start()
    await asyncio.to_thread(replica.wait_ready)
