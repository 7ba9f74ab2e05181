"""What a process does first on a new connection to Redis."""

from __future__ import annotations

import asyncio

from conftest import until
from servers.replicated import client

from ticketlock import ConcurrentRedisLockStore
from ticketlock.redis.embedded import EmbeddedRedis


async def test_what_was_granted_is_asked_for_when_bells_are_heard_again() -> None:
    """Asked before, it may be granted between the answer and the SUBSCRIBE: no bell says so."""
    connects = 0
    held, gate = asyncio.Event(), asyncio.Event()

    async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connects
        there, to = await asyncio.open_connection("127.0.0.1", server.port)

        async def forward() -> None:
            nonlocal connects
            while data := await reader.read(1 << 20):
                if b"\r\nSUBSCRIBE\r\n" in data:
                    connects += 1
                    if connects == 2:
                        held.set()
                        await gate.wait()
                to.write(data)
            to.close()

        forwarding = asyncio.create_task(forward())
        while data := await there.read(1 << 20):
            writer.write(data)
        writer.close()
        await forwarding

    with EmbeddedRedis() as server:
        proxy = await asyncio.start_server(between, "127.0.0.1", 0, limit=1 << 20)
        async with proxy:
            port = proxy.sockets[0].getsockname()[1]
            async with ConcurrentRedisLockStore(url=f"redis://127.0.0.1:{port}/1") as locks:
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
