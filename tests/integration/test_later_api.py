"""Messages that come due later: from Python, over HTTP, in a cluster, and after a long absence."""

from __future__ import annotations

import base64
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from integration.test_inbox import accept, outcome
from integration.test_server import said, texts
from servers.bot_server import replicas, write_files
from servers.inboxes import Desk, until
from servers.redis_sets import RedisCluster

from ticketlock import ConcurrentRedisLockStore, Conversations
from ticketlock.inbox.redis import RedisInbox
from ticketlock.redis.embedded import EmbeddedRedis

_prefixes = itertools.count(1)


@pytest.fixture
def prefix() -> str:
    return f"laterapi{next(_prefixes)}"


async def test_from_python(redis_server: EmbeddedRedis, prefix: str) -> None:
    """`Conversations.submit` with a time, and what goes with it."""
    store = ConcurrentRedisLockStore(url=redis_server.url, key_prefix=prefix)
    async with Conversations(store) as conversations:
        first = await conversations.submit("c", "hello", message_id="m", name="n", after=60)
        assert (first.message_id, first.number) == ("n@m", 0)
        assert (await conversations.outcome("c", "n@m")).state == "due"
        second = await conversations.submit("c", {"text": "hello"}, at=time.time() + 60)
        assert {one.message_id for one in await conversations.due("c")} == {
            "n@m", second.message_id
        }  # fmt: skip
        assert await conversations.cancel("c", "n") == "cancelled"
        assert await conversations.cancel_all("c") == 1
        with pytest.raises(ValueError, match="give at or after"):
            await conversations.submit("c", "hello", name="n")


async def test_from_http(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    """202 with the time; the outcome is `due`, then that of the message. The first replica dies."""
    write_files(tmp_path, redis_server.url)
    async with httpx.AsyncClient(timeout=30) as http:
        with replicas(tmp_path, [], []) as (one, two):
            first = await accept(http, one, "due", "1", after=2, name="n")
            again = await accept(http, one, "due", "1", after=60, name="n")
            other = await accept(http, one, "due", "2", after=60, name="n2")
            assert first["message_id"] == "n@1"
            assert first["due"] == pytest.approx(time.time() + 2, abs=1)
            assert (again["due"], again["duplicate"]) == (first["due"], True)
            one.process.kill()
            found = await outcome(http, two, first, wait=0)
            assert (found["state"], found["due"]) == ("due", first["due"])
            assert (await http.delete(two.url + other["outcome"])).status_code == 200
            found = await outcome(http, two, first)
            assert found["state"] == "replied"
            assert "due" not in found
            assert await texts(http, two, "due") == said("1")
            far = await accept(http, two, "due", "3", after=30 * 86_400)
            text = far["outcome"].rpartition("/")[2].partition(".")[0]
            signed = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            assert signed[2] > far["due"] + 86_400  # it can still be withdrawn the day before


@pytest.mark.parametrize(
    ("query", "body", "problem"),
    [
        ("?async=true", {"after": 1, "at": 1}, "give one of at and after"),
        ("?async=true", {"after": "1"}, "after is not a number"),
        ("?async=true", {"after": -1}, "after is a number of seconds"),
        ("?async=true", {"at": 99999999999}, "ahead of the clock"),
        ("?async=true", {"name": "n"}, "give at or after"),
        ("?async=true", {"name": "n", "after": 1, "message_id": "a@b"}, "must not contain @"),
        ("?async=true", {"after": 1, "message": "é" * 60_000}, "65536 bytes"),
        ("", {"after": 1}, "go with async=true"),
        ("?stream=true", {"at": 1}, "go with async=true"),
    ],
)
async def test_invalid_bodies(server: str, query: str, body: dict[str, Any], problem: str) -> None:
    async with httpx.AsyncClient() as http:
        content = {"sender": "invalid", "message": "1", **body}
        answer = await http.post(f"{server}/webhooks/rest/webhook{query}", json=content)
        assert answer.status_code in (400, 413), answer.text
        assert problem in answer.text


@pytest.fixture(scope="module")
def server(redis_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("later")
    write_files(folder, redis_server.url)
    with replicas(folder, []) as [one]:
        yield one.url


async def test_all_were_away(redis_server: EmbeddedRedis, prefix: str) -> None:
    """What came due while no process was there is handled at once by the first."""
    async with Desk.on(redis_server.url, prefix) as one:
        for i in range(500):
            await one.later(f"c{i}", "1", at=1000.0 + i)
    async with Desk.on(redis_server.url, prefix) as two:
        two.serve(room=100)
        await until(lambda: len(two.handled) == 500)
        assert sorted(name for name, _, _ in two.handled) == sorted(f"c{i}" for i in range(500))


@pytest.mark.bound(120)
async def test_in_a_cluster(prefix: str) -> None:
    """Sixteen shards: what is due in each is handled, and listed and cancelled by conversation."""
    with RedisCluster() as cluster:
        async with ConcurrentRedisLockStore(
            deployment_mode="cluster", endpoints=cluster.endpoints, key_prefix=prefix
        ) as store:
            desk = Desk(RedisInbox(store))
            desk.serve()
            for i in range(64):
                await desk.later(f"c{i}", "due", after=0.5)
                await desk.later(f"c{i}", "later", "name", after=60)
            await until(lambda: len(desk.handled) == 64)
            assert desk.texts == ["due"] * 64
            assert [one.text for one in await desk.inbox.due("c7")] == ["later"]
            assert await desk.inbox.cancel("c7", "name") == "cancelled"
            assert await desk.inbox.cancel_all("c8") == 1
            await desk.inbox.close()
