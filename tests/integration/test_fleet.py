"""Replicas that tell each other of themselves through a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import redis
from conftest import until

from ticketlock import ConcurrentRedisLockStore
from ticketlock.conversations import Conversations
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.server import BotServer, create_app
from ticketlock.server.operator.activity import Activity
from ticketlock.server.operator.replicas import KEPT

KEY = "concurrent_lock:live"


@asynccontextmanager
async def replica(url: str) -> AsyncIterator[tuple[BotServer, httpx.AsyncClient]]:
    store = ConcurrentRedisLockStore(url=url, socket_timeout=1)
    async with Conversations(store) as conversations:
        app = create_app(conversations)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as http:
            try:
                yield app, http
            finally:
                await app.live.replicas.close()


async def live(http: httpx.AsyncClient, **query: Any) -> Any:
    return (await http.get("/live", params=query)).json()


def here(found: Any) -> list[bool]:
    """Of each process whether it runs, those that run first."""
    return [process["here"] for process in found["processes"]]


async def test_replicas_come_go_and_die(own_redis: EmbeddedRedis) -> None:
    """Who ends says so, who is killed is silent; both stay to be seen for a while, and are cleared
    away by the next that hears."""
    with redis.Redis.from_url(own_redis.url) as client:
        old = 1000 * (client.time()[0] - KEPT - 1)
        client.hset(KEY, "killed", f"{old} {{}}")
        client.hset(KEY, "of another version", f'{old + 10**6} {{"v": 99}}')
        async with replica(own_redis.url) as (_, one):
            assert here(await live(one)) == [True]
            assert client.hexists(KEY, "killed") is False
            assert 0 < client.ttl(KEY) <= KEPT
            (name,) = [key for key in client.hkeys(KEY) if len(key) == 16]
            async with replica(own_redis.url) as (_, two):
                assert here(await live(two)) == [True, True]
            silent = 1000 * (client.time()[0] - 20)
            text = client.hget(KEY, name).partition(b" ")[2]
            client.hset(KEY, "silent", b"%d %s" % (silent, text))
            client.hset(KEY, "silent rows", b"%d []" % silent)
            async with replica(own_redis.url) as (_, three):
                found = await live(three)
                assert here(found) == [True, True, False, False]
                assert [p["ended"] for p in found["processes"][2:]] in (
                    [True, False],
                    [False, True],
                )
                assert found["scope"] == "fleet"
                assert not client.hexists(KEY, "silent rows")


async def test_of_those_that_are_silent_the_latest_are_kept(own_redis: EmbeddedRedis) -> None:
    """A fleet that starts and dies all day does not fill Redis."""
    with redis.Redis.from_url(own_redis.url) as client:
        now = client.time()[0]
        for i in range(80):
            client.hset(KEY, f"dead {i}", f"{1000 * (now - 20 - i)} {{}}")
        async with replica(own_redis.url) as (_, one):
            await live(one)
            assert client.hexists(KEY, "dead 49")
            assert not client.hexists(KEY, "dead 50")


MALFORMED = [
    b"", b"x", b"1 {}", b'{now} {"v": 1}', b'{now} {"v": 1, "name": "\\ud800"}', b"{now} [[[[",
    b'{now} {"v": 1, "name": "a", "gone": 0, "draining": null, "held": NaN, "rows": 5}',
    b"{now} " + b"[" * 5000, b"\xff\xfe", b"{now} \xff",
]  # fmt: skip


async def test_a_malformed_entry_takes_nothing_away(own_redis: EmbeddedRedis) -> None:
    """Of another program, of a torn write: it is passed over, the replicas are shown."""
    with redis.Redis.from_url(own_redis.url) as client:
        now = str(1000 * client.time()[0]).encode()
        for number, entry in enumerate(MALFORMED):
            client.hset(KEY, f"bad {number}", entry.replace(b"{now}", now))
        client.hset(KEY, b"\xff", now + b' {"v": 1}')
        async with replica(own_redis.url) as (_, one), replica(own_redis.url) as (_, two):
            for http in (one, two):
                answer = await http.get("/live")
                assert answer.status_code == 200
                assert answer.json()["processes"]


async def test_a_key_of_another_kind_is_no_failure_of_ours(own_redis: EmbeddedRedis) -> None:
    """/live says that others cannot be heard, and messages are handled all the same."""
    with redis.Redis.from_url(own_redis.url) as client:
        client.set(KEY, "text")
    async with replica(own_redis.url) as (_, http):
        assert "WRONGTYPE" in (await live(http))["problems"]["lock_store"]
        sent = await http.post("/webhooks/rest/webhook", json={"message": "hi"})
        assert sent.status_code == 200


async def test_a_redis_that_is_away_takes_nothing_but_the_page(
    own_redis: EmbeddedRedis, caplog: pytest.LogCaptureFixture
) -> None:
    """/live says what is wrong and shows its own process; telling goes on once Redis is back."""
    async with replica(own_redis.url) as (app, http):
        assert (await http.get("/live")).status_code == 200
        own_redis.stop()
        await app.live.replicas._report(Activity(app.handler.jobs))
        await asyncio.sleep(1.1)  # the answer of before is kept for a second
        found = await live(http)
        assert "127.0.0.1" in found["problems"]["lock_store"]
        assert found["down_for"] > 1
        assert here(found) == [True]
        assert (await http.get("/health")).status_code == 200
        own_redis.start()
        with redis.Redis.from_url(own_redis.url) as client:
            await until(lambda: client.exists(KEY), "nothing is told", 20)
    assert [r for r in caplog.records if r.levelname == "ERROR"] == []


async def test_it_costs_one_command_each_two_seconds(own_redis: EmbeddedRedis) -> None:
    """Whoever waits and however many look, and one more while somebody looks; none that goes
    through the keys."""
    async with replica(own_redis.url) as (_, http):
        assert (await http.post(
            "/webhooks/rest/webhook", json={"sender": "c", "message": "hi"}
        )).status_code == 200  # fmt: skip
        with redis.Redis.from_url(own_redis.url) as client:
            client.config_resetstat()
            await asyncio.gather(*(http.get("/live") for _ in range(100)))
            calls = {
                k.removeprefix("cmdstat_"): v["calls"]
                for k, v in client.info("commandstats").items()
            }
    assert calls["eval"] <= 3  # told at that moment, heard, what operators did
    assert calls["evalsha"] <= 4  # whether the lock store answers, looks into the inbox
    assert calls.keys() <= {
        "eval", "time", "hdel", "hset", "pexpire", "hgetall", "config|resetstat", "config", "info",
        "evalsha", "hello", "select", "client|setinfo", "client", "hget", "get", "zcard", "zcount",
        "zrange",
    }  # fmt: skip
