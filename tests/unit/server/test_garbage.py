"""What a message leaves behind: nothing that only the garbage collector frees."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest
from serving import client

from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.server import BotServer, Message


@pytest.fixture
def collected() -> Iterator[list[Any]]:
    """What garbage collections find is kept here."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def answered(app: BotServer, count: int) -> None:
    """Messages of two conversations, each with its reply."""

    async def send(name: str) -> None:
        for i in range(count):
            (reply,) = await app.handler.handle(Message(f"message {i}", name))
            assert reply["text"] == f"message {i}"

    await asyncio.gather(send("a"), send("b"))
    await asyncio.sleep(0)


@pytest.mark.parametrize("locks", ["in_memory", "concurrent_redis"])
async def test_a_message_leaves_no_garbage(
    locks: str, own_redis: EmbeddedRedis, collected: list[Any]
) -> None:
    """No ring of objects: each would keep the events of a session until a collection, and make it long."""
    section = {"type": locks} | ({"url": own_redis.url} if locks == "concurrent_redis" else {})
    async with client(stores=(section, None)) as http:
        app: BotServer = http.app  # type: ignore[attr-defined]  # set by `client`
        await answered(app, 2)
        gc.collect()
        collected.clear()
        await answered(app, 5)
        gc.collect()
        ours = {type(one).__qualname__ for one in collected if "ticketlock" in type(one).__module__}
        collected.clear()
        assert ours == set()
        await app.drain()
