"""Trouble of servers that leaves them what they are."""

from __future__ import annotations

import asyncio
import random
import resource
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from redis.exceptions import ResponseError

from ..redis.embedded import EmbeddedRedis
from .own_servers import OwnServers
from .starting import in_thread, until
from .targets import asks, client

#: Seconds for which a server pauses at most; sentinels call one down after a second.
_PAUSES = {"server": 2.0, "cluster": 2.0, "sentinel": 0.7}
#: Seconds by which a piece comes later on a slow network, at most.
_SLOW = 0.03
#: Of a lossy one: how many pieces are lost, and the seconds after which each is sent again.
_LOST, _AGAIN = 0.03, 0.2
#: Bytes that are left on a disk that gets full.
_LEFT = 2_000


class ServerTrouble:
    """What is done to one server, or to the connections of all.

    Attributes:
        deeds: name -> what does it, to its end.
    """

    def __init__(self, own: OwnServers, chance: random.Random) -> None:
        self._own, self._chance = own, chance
        self.deeds: dict[str, Callable[[], Awaitable[None]]] = {
            "client-kill": self._client_kill, "pause": self._pause, "cut": self._cut,
            "bells": self._bells, "slow": self._slow, "lossy": self._lossy, "memory": self._memory,
            "restart": self._restart, "wipe": self._wipe, "disk": self._disk,
            "flushall": self._flushall, "clock": self._clock,
        }  # fmt: skip

    async def _call(self, server: EmbeddedRedis, *words: object) -> Any:
        """Call a command, past the door. Raises RedisError."""

        def ask() -> Any:
            with client(server, 10) as asking:
                return asking.execute_command(*words)

        return await in_thread(ask)

    async def _master(self) -> EmbeddedRedis:
        """A master by chance."""
        shard = self._chance.randrange(self._own.target.shards)
        return await in_thread(self._own.target.living_master, shard)

    async def _client_kill(self) -> None:
        """Not of replicas: that ends their replication, which is other trouble."""
        master = await self._master()
        for line in await self._call(master, "CLIENT LIST"):
            if self._chance.random() < 0.5 and "S" not in line["flags"]:
                try:
                    await self._call(master, "CLIENT", "KILL", "ID", line["id"])
                except ResponseError:  # it has gone by itself
                    continue

    async def _pause(self) -> None:
        seconds = self._chance.uniform(0.05, _PAUSES[self._own.topology])
        await self._call(await self._master(), "CLIENT", "PAUSE", round(1000 * seconds))
        await asyncio.sleep(seconds)

    async def _cut(self) -> None:
        for proxy in self._own.proxies:
            proxy.reset()

    async def _bells(self) -> None:
        for proxy in self._own.proxies:
            proxy.mood = "lose bells"
        try:
            await asyncio.sleep(self._chance.uniform(0.5, 3))
        finally:
            for proxy in self._own.proxies:
                proxy.mood = "pass"

    async def _slow(self) -> None:
        await self._late(lambda: self._chance.uniform(0, _SLOW))

    async def _lossy(self) -> None:
        """A piece that is lost holds up all behind it, until it is sent again."""
        await self._late(lambda: _AGAIN if self._chance.random() < _LOST else 0.0)

    async def _late(self, delay: Callable[[], float]) -> None:
        before = [proxy.delay for proxy in self._own.proxies]
        for proxy in self._own.proxies:
            proxy.delay = delay
        try:
            await asyncio.sleep(self._chance.uniform(1, 4))
        finally:
            for proxy, none in zip(self._own.proxies, before, strict=True):
                proxy.delay = none

    async def _memory(self) -> None:
        """As `noeviction` answers it: whatever may need memory is denied."""
        master = await self._master()
        await self._call(master, "CONFIG", "SET", "maxmemory", 1)
        try:
            await asyncio.sleep(self._chance.uniform(0.5, 6))
        finally:
            await self._call(master, "CONFIG", "SET", "maxmemory", 0)

    async def _restart(self) -> None:
        await self._again(forget=False)

    async def _wipe(self) -> None:
        await self._again(forget=True)

    async def _again(self, *, forget: bool) -> None:
        server = self._own.target.servers[0]
        await in_thread(partial(server.stop, kill=True))
        if forget:
            await in_thread(server.forget)
        await asyncio.sleep(self._chance.uniform(0.1, 1))
        await in_thread(server.start)
        await in_thread(until, lambda: asks(server, "PING"), "the server has read its data")

    async def _disk(self) -> None:
        """With `appendfsync always` a server ends by itself when it cannot write its log."""
        server = self._own.target.servers[0]
        process = server.process
        assert process is not None  # it runs
        _, most = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        full = await in_thread(server.saved) + _LEFT
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (full, most))
        for _ in range(100):
            if process.poll() is not None:
                break
            await asyncio.sleep(0.03)
        else:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most, most))
            return
        await asyncio.sleep(self._chance.uniform(0.1, 1))
        await self._again(forget=False)

    async def _clock(self) -> None:
        """Forward, which ends leases, and after a while back."""
        self._own.clock.step(self._chance.choice([0.5, 5, 60]) * self._chance.uniform(0.5, 1.5))
        try:
            await asyncio.sleep(self._chance.uniform(0.2, 4))
        finally:
            self._own.clock.step(0)

    async def _flushall(self) -> None:
        for shard in range(self._own.target.shards):
            master = await in_thread(self._own.target.living_master, shard)
            await self._call(master, "FLUSHALL")
