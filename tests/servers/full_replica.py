"""A replica that holds very many conversations: `python full_replica.py REDIS_URL PORT FIRST COUNT`.

It gives the messages to its handler by itself: over HTTP they would take a minute.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import uvicorn

from ticketlock import ConcurrentRedisLockStore, Conversations
from ticketlock.server import Message, Settings, create_app
from ticketlock.turn import Turn


def name(i: int) -> str:
    """The conversation of a number."""
    return f"channel-{i % 7}:user-{i:05}"


async def bot(turn: Turn, message: Message) -> AsyncIterator[str]:
    """Holds the turn of a message `for ever`, echoes the others."""
    if message.text == "for ever":
        await asyncio.Event().wait()
    yield message.text


async def main(url: str, port: int, first: int, count: int) -> None:
    async with Conversations(ConcurrentRedisLockStore(url=url)) as conversations:
        settings = Settings(max_turns=2 * count, request_timeout=0.1, lock_lifetime=6000)
        app = create_app(conversations, bot, settings)
        app.live.replicas.listens("127.0.0.1", port)
        app.live.replicas.start()
        server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, lifespan="off"))
        serving = asyncio.create_task(server.serve())
        for start in range(first, first + count, 100):
            some = [
                app.handler.handle(Message("for ever", name(i), f"message {i}"))
                for i in range(start, min(start + 100, first + count))
            ]
            await asyncio.gather(*some, return_exceptions=True)  # each: the reply is not there yet
        await serving


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:])))
