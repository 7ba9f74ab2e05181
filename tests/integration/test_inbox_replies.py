"""Replies that are still to be sent out, as operators see them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from integration.test_inbox_operators import command

from ticketlock import ConcurrentRedisLockStore, Conversations
from ticketlock.deliveries.delivery import Delivery
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.turn import Turn


async def test_replies_that_are_still_to_be_sent_are_listed(own_redis: EmbeddedRedis) -> None:
    """Also where no message waits: a receiver that is away may keep them waiting for hours."""

    async def handle(turn: Turn, message: Mapping[str, Any]) -> list[dict[str, str]]:
        return [{"text": "secret"}]

    async def away(delivery: Delivery) -> None:
        raise ConnectionError("away")

    store = ConcurrentRedisLockStore(url=own_redis.url)
    async with Conversations(store) as conversations:
        async with conversations.serving(handle, on_reply=away):
            await conversations.submit("a", "m", message_id="1")
            assert (await conversations.outcome("a", "1", wait=10)).state == "replied"
            [one] = await conversations.inbox.conversations()
            assert (one.messages, one.deliveries, one.state) == (0, 1, "replies")
            status, out, _ = await command("inbox", "list", "--redis", own_redis.url)
            assert (status, out.split("\n")[1].split()) == (
                0,
                ["'a'", "0", "0.0", "s", "0", "1", "replies"],
            )
            assert "secret" not in out
