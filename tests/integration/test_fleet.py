"""Replicas that tell each other of themselves through a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import redis
from conftest import until

from ticketlock import ConcurrentRedisLockStore
from ticketlock.conversations import Conversations
from ticketlock.embedded import EmbeddedRedis
from ticketlock.server import BotServer, create_app
from ticketlock.server.fleet import KEPT, Look

Run = Callable[[Awaitable[None]], None]
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
                await app.live.fleet.close()


async def live(http: httpx.AsyncClient) -> Any:
    return (await http.get("/live")).json()


def test_replicas_come_go_and_die(own_redis: EmbeddedRedis, run: Run) -> None:
    """Who ends says so; who is killed is forgotten, and cleared away by the next that starts."""

    async def body() -> None:
        with redis.Redis.from_url(own_redis.url) as client:
            old = 1000 * (client.time()[0] - KEPT - 1)
            client.hset(KEY, "killed", f"{old} {{}}")
            client.hset(KEY, "of another version", f'{old + 10**6} {{"v": 99}}')
            async with replica(own_redis.url) as (_, one):
                assert len((await live(one))["processes"]) == 1
                assert client.hexists(KEY, "killed") is False
                assert 0 < client.ttl(KEY) <= KEPT
                async with replica(own_redis.url) as (_, two):
                    assert len((await live(two))["processes"]) == 2
                async with replica(own_redis.url) as (_, three):
                    found = await live(three)
                    assert len(found["processes"]) == 2
                    assert found["scope"] == "fleet"

    run(body())


MALFORMED = [
    b"", b"x", b"1 {}", b'{now} {"v": 1}', b'{now} {"v": 1, "name": "\\ud800"}', b"{now} [[[[",
    b'{now} {"v": 1, "name": "a", "gone": 0, "draining": null, "held": NaN, "rows": 5}',
    b"{now} " + b"[" * 5000, b"\xff\xfe", b"{now} \xff",
]  # fmt: skip


def test_a_malformed_entry_takes_nothing_away(own_redis: EmbeddedRedis, run: Run) -> None:
    """Of another program, of a torn write: it is passed over, the replicas are shown."""

    async def body() -> None:
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

    run(body())


def test_a_key_of_another_kind_is_no_failure_of_ours(own_redis: EmbeddedRedis, run: Run) -> None:
    """/live says that the lock store cannot be used, and messages are handled all the same."""

    async def body() -> None:
        with redis.Redis.from_url(own_redis.url) as client:
            client.set(KEY, "text")
        async with replica(own_redis.url) as (_, http):
            assert (await http.get("/live")).status_code == 503
            sent = await http.post("/webhooks/rest/webhook", json={"message": "hi"})
            assert sent.status_code == 200

    run(body())


def test_a_redis_that_is_away_takes_nothing_but_the_page(
    own_redis: EmbeddedRedis, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """/live says so, and telling goes on by itself once Redis is back; nothing else is failed."""

    async def body() -> None:
        async with replica(own_redis.url) as (app, http):
            assert (await http.get("/live")).status_code == 200
            own_redis.stop()
            await app.live.fleet._tell(Look(app.handler.jobs))
            await asyncio.sleep(1.1)  # the answer of before is kept for a second
            answer = await http.get("/live")
            assert (answer.status_code, answer.json()["reason"]) == (503, "LockStoreUnavailable")
            assert (await http.get("/health")).status_code == 200
            own_redis.start()
            with redis.Redis.from_url(own_redis.url) as client:
                await until(lambda: client.exists(KEY), "nothing is told", 20)

    run(body())
    assert [r for r in caplog.records if r.levelname == "ERROR"] == []


def test_it_costs_one_command_each_two_seconds(own_redis: EmbeddedRedis, run: Run) -> None:
    """Whoever waits and however many look; and no command that goes through the keys."""

    async def body() -> None:
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
        assert calls["eval"] <= 2
        assert calls.keys() <= {
            "eval", "time", "hdel", "hset", "pexpire", "hgetall", "config|resetstat", "config", "info",
            "evalsha", "hello", "select", "client|setinfo", "client",
        }  # fmt: skip

    run(body())
