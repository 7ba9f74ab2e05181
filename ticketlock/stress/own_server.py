"""The Redis that a run has started itself, behind a proxy, with the registers on another one."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import redis

from ..redis.embedded import EmbeddedRedis
from .proxy import Proxy

_DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


class OwnServer:
    """A context manager.

    Args:
        durable: it keeps what it has answered, also when it is killed.

    Attributes:
        server: the Redis of the locks.
        proxy: through which workers see it.
        registers: the Redis of the registers, which no nemesis troubles.
    """

    def __init__(self, durable: bool) -> None:
        self.server = EmbeddedRedis(_DURABLE if durable else ())
        self.registers = EmbeddedRedis()
        self._stack = AsyncExitStack()

    @property
    def lock_store(self) -> dict[str, Any]:
        """The section of a lock store that is reached through the proxy."""
        return {"type": "concurrent_redis", "url": f"redis://127.0.0.1:{self.proxy.port}/1"}

    async def call(self, *words: object) -> Any:
        """Call a command of the server, past the proxy. Raises RedisError."""
        with redis.Redis(port=self.server.port, socket_timeout=10) as client:
            return await asyncio.to_thread(client.execute_command, *words)

    async def restart(self, seconds: float, *, forget: bool) -> None:
        """Kill the server, and start it again after some seconds.

        Args:
            forget: without its data.
        """
        await asyncio.to_thread(self.server.stop, kill=True)
        if forget:
            await asyncio.to_thread(self.server.forget)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(self.server.start)

    async def __aenter__(self) -> OwnServer:
        async with AsyncExitStack() as stack:
            stack.enter_context(self.server)
            stack.enter_context(self.registers)
            self.proxy = await stack.enter_async_context(Proxy(self.server.port))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
