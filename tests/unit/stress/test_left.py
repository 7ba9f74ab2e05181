"""What a run must not leave behind is found."""

from __future__ import annotations

import pytest
import redis

from ticketlock import ConcurrentRedisLockStore
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.redis.settings import RedisSettings
from ticketlock.stress import left
from ticketlock.stress.targets import One


async def test_a_conversation_that_is_held_is_not_free(
    redis_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(left, "FREE_WITHIN", 0.3)
    section = {"type": "concurrent_redis", "url": redis_server.url, "key_prefix": "left"}
    async with (
        ConcurrentRedisLockStore(url=redis_server.url, key_prefix="left") as store,
        store.lock("held"),
    ):
        assert await left.not_free(section, "lock_store", ["free", "held"]) == ["held"]
    assert await left.not_free(section, "lock_store", ["free", "held"]) == []


def test_a_key_without_an_expiry_stays(own_redis: EmbeddedRedis) -> None:
    target, settings = One(), RedisSettings.of({"url": own_redis.url})
    target.servers = [own_redis]
    with redis.Redis.from_url(own_redis.url) as client:
        client.set("leased", 1, ex=60)
        assert left.keys_that_stay(target, settings) == []
        client.set("for ever", 1)
    assert left.keys_that_stay(target, settings) == ["for ever"]
