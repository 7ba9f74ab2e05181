"""How long the outcome of a message is kept that one replica took and another has handled."""

from __future__ import annotations

import redis

from ticketlock import ConcurrentRedisLockStore, Conversations
from ticketlock.inbox.submission import Submission
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.server import Message, Settings, create_app, echo


async def test_the_window_of_its_channel(redis_server: EmbeddedRedis) -> None:
    """Not that of the replica's own submissions, and not the default."""
    url, prefix = redis_server.url, "windows"
    taken = Conversations(ConcurrentRedisLockStore(url=url, key_prefix=prefix))
    served = Conversations(ConcurrentRedisLockStore(url=url, key_prefix=prefix))
    async with taken, served:
        for channel in ("rest", "slow_vendor"):
            message = Message("hi", channel, "1", input_channel=channel)
            await taken.inbox.submit(Submission(channel, "1", message.as_text()))
        app = create_app(served, echo, Settings(message_window=1000))
        app.handler.serving.windows["slow_vendor"] = 7 * 86400
        app.serve()
        for channel in ("rest", "slow_vendor"):
            assert (await taken.outcome(channel, "1", wait=10)).state == "replied"
        await app.drain()
    with redis.Redis.from_url(url, decode_responses=True) as client:
        now = int(client.time()[0])  # type: ignore[index]  # of a synchronous client
        base = f"{prefix}:concurrent_lock:{{%s}}:expiries"
        kept = {
            channel: float(client.zscore(base % channel, "1")) / 1000 - now  # type: ignore[arg-type]
            for channel in ("rest", "slow_vendor")
        }
    assert 900 < kept["rest"] <= 1001
    assert 6.9 * 86400 < kept["slow_vendor"] <= 7 * 86400 + 1
