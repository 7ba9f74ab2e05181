"""The servers that a run has started itself, behind doors, with the registers on another one."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import redis

from ..errors import ConfigurationError
from ..files.scratch import Scratch
from ..redis.embedded import EmbeddedRedis
from .clock_shim import SetClock
from .door import CLIENTS, Door, doors
from .nemeses import NEMESES
from .plan import Options
from .proxy import Proxy
from .starting import ServersFailed, in_thread, until, version_of
from .targets import TARGETS, One, client

#: One server keeps what it has answered, also when it is killed.
_LOG = ("--appendonly", "yes", "--appendfsync", "always")
#: A master that no replica has acknowledged for so many seconds writes no more.
_MAX_LAG = 2
#: Seconds in which a server has looked at its clock.
_CLOCK_WITHIN = 2.0
#: Milliseconds after which servers take each other for dead, where nemeses keep data. Masters of a
#: cluster vote for replicas of the same one no sooner than after twice that time.
_PATIENCE = {"server": None, "cluster": 5_000, "sentinel": 30_000}


class OwnServers:
    """A context manager.

    Args:
        options: topology, program, and whether there are nemeses.

    Attributes:
        topology: its name.
        target: the servers of the locks.
        doors: through which workers see them.
        registers: the Redis of the registers, which no nemesis troubles.
        program: name and version of the servers.
        clock: sets that of the server, if a nemesis does.
    """

    def __init__(self, options: Options) -> None:
        self.topology = options.topology
        self._kind, self._keys = TARGETS[options.topology], options.keys
        self._binary = options.program
        self._options: list[str] = []
        if (options.topology == "server" and options.nemeses) or options.durability == "aof":
            self._options += _LOG
        if options.min_replicas:
            self._options += ["--min-replicas-to-write", str(options.min_replicas)]
            self._options += ["--min-replicas-max-lag", str(_MAX_LAG)]
        self._sets_clock = "clock" in options.nemeses
        # Where nothing is to be lost a busy machine must not cost a master.
        loses = any(NEMESES[name].loses for name in options.nemeses)
        self._patience = None if loses else _PATIENCE[options.topology]
        self.registers = EmbeddedRedis()
        self._stack = AsyncExitStack()

    @property
    def lock_store(self) -> dict[str, Any]:
        """The section of a lock store that reaches them through their doors."""
        return {"type": "concurrent_redis", **self.target.store, **self._keys}

    @property
    def proxies(self) -> list[Proxy]:
        """Before the servers; not those of cluster buses."""
        return [door.proxy for door in self.doors]

    def door(self, server: EmbeddedRedis) -> Door:
        return self.doors[self.target.servers.index(server)]

    async def __aenter__(self) -> OwnServers:
        async with AsyncExitStack() as stack:
            stack.enter_context(self.registers)
            self.doors = await stack.enter_async_context(doors(self._kind.doors_needed))
            for proxy in self.proxies:
                proxy.concerns = from_clients
            version_of(self._binary)  # raises if it cannot be run
            program = self._binary
            if self._sets_clock:
                folder = stack.enter_context(Scratch("clock")).path
                self.clock = SetClock(folder, program)
                program = self.clock.program
            self.target = self._kind(
                options=self._options, binary=program, doors=self.doors,
                patience=self._patience,
            )  # fmt: skip
            # In a thread: servers reach each other through our proxies.
            stack.push_async_callback(in_thread, self.target.__exit__)
            await in_thread(self.target.__enter__)
            self.program = await in_thread(program_of, self.target)
            if self._sets_clock:
                await in_thread(self._try_clock)
            self._stack = stack.pop_all()
        return self

    def _try_clock(self) -> None:
        """Raises ConfigurationError if the server's clock does not follow."""
        with client(self.target.servers[0]) as asking:
            for offset in (1000, 0):
                self.clock.step(offset)
                try:  # a server looks at the clock now and then, and not for each command
                    until(partial(_is_off, asking, offset), "its clock", _CLOCK_WITHIN)
                except ServersFailed:
                    raise ConfigurationError(
                        f"--nemesis clock cannot set the clock of {self.program}, which may be linked "
                        "statically: leave clock out, or name another --server-program"
                    ) from None

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()


def _is_off(server: redis.Redis, seconds: float) -> bool:
    """Whether a server's clock is that far ahead of ours."""
    return bool(abs(server.time()[0] - time.time() - seconds) < 100)


def from_clients(address: str) -> bool:
    """Whether a connection is a client's, and not another server's."""
    return address == CLIENTS


def program_of(target: One) -> str:
    """Name and version of its servers."""
    with client(target.servers[0]) as asking:
        info = asking.info("server")
    if "valkey_version" in info:
        return f"Valkey {info['valkey_version']}"
    return f"Redis {info['redis_version']}"
