"""Trouble of sets of servers: other masters, slots that move, a master that is cut off."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import Any

from redis.crc import key_slot

from ..redis.embedded import EmbeddedRedis
from .door import CLIENTS
from .faults import Faults
from .own_servers import OwnServers, from_clients
from .plan import Options
from .proxy import Proxy
from .recovery import NO_MASTER
from .starting import ServersFailed, in_thread, until
from .targets import asks, client

#: Seconds for which a replica tries to take over as planned, and how often it is asked to.
_PLANNED, _PLANS = 6.0, 6
#: Seconds for which replicas hear nothing of their master before it goes.
_LAG = (0.1, 0.5)
#: Seconds for which a master is cut off: another one takes over meanwhile.
_CUT_OFF = (4.0, 8.0)


class SetTrouble:
    """What is done to one shard, until all its servers are well again.

    Attributes:
        deeds: name -> what does it, to its end.
    """

    NAMES = ("planned-failover", "failover", "lagging-failover", "partition", "migration")

    def __init__(
        self, own: OwnServers, chance: random.Random, faults: Faults, options: Options
    ) -> None:
        self._own, self._chance, self._faults, self._names = own, chance, faults, options.names
        self._durable = options.outlives
        self._refuses = options.asked.refuse
        first = chance.random() < 0.5
        self._kills = {lags: itertools.cycle([first, not first]) for lags in (False, True)}
        deeds = (
            self._planned, self._failover, self._lagging, self._partition, self._migration
        )  # fmt: skip
        self.deeds: dict[str, Callable[[], Awaitable[None]]] = dict(
            zip(self.NAMES, deeds, strict=True)
        )

    async def _shard(self) -> tuple[int, EmbeddedRedis, list[str]]:
        """A shard by chance, its master, and its conversations."""
        target = self._own.target
        shard = self._chance.randrange(target.shards)
        master = await in_thread(target.living_master, shard)
        return shard, master, [name for name in self._names if target.shard_of(name) == shard]

    async def _well(self) -> None:
        await in_thread(until, self._own.target.healthy, "all servers are as before")

    async def _taken_over(self, shard: int, before: EmbeddedRedis, seconds: float = 60) -> None:
        """Wait until another master takes writes, and clients can know it. Raises ServersFailed."""
        target = self._own.target
        there = (f"{number}" for number in itertools.count())
        key = next(f"{{{name}}}" for name in there if target.shard_of(name) == shard)

        def another() -> bool:
            master = target.master(shard, but=before)
            if master is None or not target.names(master):
                return False
            return bool(asks(master, "SET", key, "", "PX", 1000))

        await in_thread(until, another, "a replica takes over", seconds)

    async def _planned(self) -> None:
        """The master lets its replica take over when that has all it has."""
        shard, before, names = await self._shard()
        with self._faults.during("planned-failover", conversations=names):
            for again in reversed(range(_PLANS)):
                await in_thread(self._own.target.fail_over, shard)
                try:
                    await self._taken_over(shard, before, _PLANNED)
                    break
                except ServersFailed:  # masters have voted there just before, or it was too slow
                    if not again:
                        raise
            await self._well()

    async def _lagging(self) -> None:
        await self._well()  # a busy machine may have cost it a replica
        await self._failover(lags=True)

    async def _failover(self, *, lags: bool = False) -> None:
        """The master is killed or stopped, and comes back as a replica.

        Args:
            lags: its replicas, or all of them but one, have heard nothing of its last moments.
        """
        shard, before, names = await self._shard()
        target, process = self._own.target, before.process
        assert process is not None  # it runs
        kills = next(self._kills[lags])
        kind = f"{'lagging ' if lags else ''}failover ({'killed' if kills else 'stopped'})"
        with self._faults.during(kind, loses=True, conversations=names, durable=self._durable):
            async with self._deaf(shard, before) if lags else nullcontext():
                if kills:
                    await in_thread(partial(before.stop, kill=True))
                else:
                    process.send_signal(signal.SIGSTOP)
            with self._faults.during(NO_MASTER, conversations=names):
                try:
                    await self._taken_over(shard, before)
                except BaseException:
                    process.send_signal(signal.SIGCONT)
                    raise
            await asyncio.sleep(self._chance.uniform(0.2, 2))
            if kills:
                await in_thread(target.start_again, before, shard)
            else:
                process.send_signal(signal.SIGCONT)
            await self._well()

    @asynccontextmanager
    async def _deaf(self, shard: int, master: EmbeddedRedis) -> AsyncIterator[None]:
        """Replicas of a master have heard nothing of it for a while, and will not hear it later."""
        found = await in_thread(self._own.target.replicas, shard)
        count = self._chance.choice([len(found), max(1, len(found) - 1)])
        deaf = {self._own.door(one).address for one in self._chance.sample(found, count)}
        proxy = self._own.door(master).proxy
        proxy.concerns = deaf.__contains__
        proxy.mood = "black hole"
        try:
            await asyncio.sleep(self._chance.uniform(*_LAG))
            yield
        finally:
            proxy.reset()  # before anything goes through: the stream has a gap
            proxy.mood = "pass"
            proxy.concerns = from_clients

    async def _partition(self) -> None:
        """The master is cut off from the other servers, and its clients reach it."""
        _, before, names = await self._shard()
        mine = self._own.door(before)
        # A master without replicas makes nothing durable, but what is served without that.
        durable = self._durable and self._refuses
        with self._faults.during("partition", loses=True, conversations=names, durable=durable):
            for door in self._own.doors:
                for proxy in door.proxies:
                    proxy.concerns = _servers if door is mine else _only(mine.address)
                    proxy.mood = "black hole"
            try:
                await asyncio.sleep(self._chance.uniform(*_CUT_OFF))
            finally:
                for proxy in self._all_proxies:
                    proxy.mood = "pass"
                    proxy.reset()  # what was swallowed is missing in them
                    proxy.concerns = from_clients
            await self._well()

    @property
    def _all_proxies(self) -> list[Proxy]:
        return [proxy for door in self._own.doors for proxy in door.proxies]

    async def _migration(self) -> None:
        """A slot with a conversation moves to another master, and back."""
        name = self._chance.choice(self._names)
        target, slot = self._own.target, key_slot(f"{{{name}}}".encode())
        there = target.shard_of(name)
        other = self._chance.choice([one for one in range(target.shards) if one != there])
        with self._faults.during("migration", conversations=[name]):
            for source, sink in ((there, other), (other, there)):
                await in_thread(self._move, slot, source, sink)
                await asyncio.sleep(self._chance.uniform(0, 0.5))

    def _move(self, slot: int, source: int, sink: int) -> None:
        target = self._own.target
        masters = [target.living_master(shard) for shard in range(target.shards)]
        one, two = masters[source], masters[sink]
        here, there = (asks(server, "CLUSTER", "MYID") for server in (one, two))
        with client(one, 10) as giving, client(two, 10) as taking:
            if self._own.program.startswith("Valkey 9") and self._chance.random() < 0.5:
                _move_at_once(giving, slot, there)
                return
            taking.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", here)
            giving.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", there)
            while keys := giving.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1):
                giving.execute_command("MIGRATE", "127.0.0.1", two.port, keys[0], 0, 5000)
            for server in (two, one, *(m for m in masters if m not in (one, two))):
                asks(server, "CLUSTER", "SETSLOT", slot, "NODE", there)


def _move_at_once(giving: Any, slot: int, there: str) -> None:
    """As Valkey 9 can."""
    giving.execute_command("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", there)

    def moved() -> bool:
        return any(
            first <= slot <= last and node == there
            for first, last, (_, _, node, *_), *_ in giving.execute_command("CLUSTER", "SLOTS")
        )

    until(moved, "the slot has moved", 30)


def _servers(address: str) -> bool:
    return address != CLIENTS


def _only(known: str) -> Callable[[str], bool]:
    return lambda address: address == known
