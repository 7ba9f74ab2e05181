"""What a process does first on a new connection to Redis."""

from __future__ import annotations

import asyncio

from conftest import until
from servers.replicated import client

from ticketlock import ConcurrentRedisLockStore
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.stress.proxy import Proxy


async def test_what_was_granted_is_asked_for_when_bells_are_heard_again() -> None:
    """Asked before, it may be granted between the answer and the SUBSCRIBE: no bell says so."""
    subscribes = 0
    held, gate = asyncio.Event(), asyncio.Event()

    class HoldsTheSecond(Proxy):
        """Lets the second SUBSCRIBE through when the gate opens."""

        async def passing(self, data: bytes, answers: bool, nth: int) -> bytes:
            nonlocal subscribes
            if not answers and b"\r\nSUBSCRIBE\r\n" in data:
                subscribes += 1
                if subscribes == 2:
                    held.set()
                    await gate.wait()
            return data

    with EmbeddedRedis() as server:
        async with HoldsTheSecond(server.port) as proxy:
            url = f"redis://127.0.0.1:{proxy.port}/1"
            async with ConcurrentRedisLockStore(url=url) as locks:
                first = locks.lock("c")
                await first.acquire()
                waiting = asyncio.create_task(locks.lock("c").acquire())
                link, asked = locks.engine().link, 0
                await until(lambda: len(locks.engine()._waiting) == 1, "waiter")
                told = link._on_connect  # type: ignore[union-attr]
                assert told is not None

                def counted() -> None:
                    nonlocal asked
                    asked += 1
                    told()

                link._on_connect = counted  # type: ignore[union-attr]
                with client(server) as one:
                    one.client_kill_filter(_type="pubsub")
                await asyncio.wait_for(held.wait(), 20)
                assert asked == 0
                gate.set()
                await until(lambda: asked == 1, "the question")
                await first.release()
                await waiting
