"""Room is shared between conversations, however many messages each of them has."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from ticketlock import ConcurrentRedisLockStore, Conversations
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.turn import Turn

FLOODED, FLOOD, SINGLES, ROOM = 10, 40, 100, 5


async def test_single_messages_beside_floods(own_redis: EmbeddedRedis) -> None:
    """Each conversation gets about one turn in a round: the bar is 1.5 times its fair share."""
    calls: list[str] = []
    opened, singles_done = asyncio.Event(), asyncio.Event()

    async def handle(turn: Turn, message: Mapping[str, Any]) -> None:
        await opened.wait()
        await asyncio.sleep(0.002)
        calls.append(turn.sender_id)
        if sum(name.startswith("single") for name in calls) == SINGLES:
            singles_done.set()

    store = ConcurrentRedisLockStore(url=own_redis.url)
    async with Conversations(store) as conversations:
        async with conversations.serving(handle, room=ROOM):
            for number in range(FLOOD):
                for flood in range(FLOODED):
                    await conversations.submit(f"flood{flood}", "x", message_id=str(number))
            for number in range(SINGLES):
                await conversations.submit(f"single{number}", "x", message_id="1")
            opened.set()
            await asyncio.wait_for(singles_done.wait(), 30)
            turns = len(calls)
    assert turns <= 1.5 * (SINGLES + FLOODED), calls
