"""The doors of servers: the proxies through which clients and other servers reach them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from ..redis.embedded import EmbeddedRedis
from .proxy import Proxy

#: From where clients connect. Each server of a set has an address of its own.
CLIENTS = "127.0.0.1"
#: How much higher the port of a node's cluster bus is.
BUS = 10_000


class Door:
    """What one server announces, and from where it reaches others.

    Attributes:
        proxy, bus: before its port, and before that of its cluster bus.
        address: from which it connects to the other servers.
    """

    def __init__(self, proxy: Proxy, bus: Proxy, address: str) -> None:
        self.proxy, self.bus, self.address = proxy, bus, address

    @property
    def proxies(self) -> tuple[Proxy, Proxy]:
        return self.proxy, self.bus

    def from_where(self, version: tuple[int, ...]) -> list[str]:
        """Options by which a server connects from its address."""
        if version < (7,):  # it takes the first address on which it listens
            return ["--bind", self.address, CLIENTS]
        return ["--bind-source-addr", self.address]

    def leads_to(self, server: EmbeddedRedis) -> None:
        self.proxy.target = server.port
        self.bus.target = server.port + BUS


@asynccontextmanager
async def doors(count: int) -> AsyncIterator[list[Door]]:
    """So many doors; they lead to nowhere yet."""
    async with AsyncExitStack() as stack:
        found = []
        for place in range(count):
            proxy = await stack.enter_async_context(Proxy(0))
            bus = await stack.enter_async_context(Proxy(0))
            found.append(Door(proxy, bus, f"127.0.0.{place + 2}"))
        yield found
