"""The audit has each break, whichever way it was done."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from servers.redis_sets import RedisCluster

from ticketlock import ConcurrentRedisLockStore, Conversations, Grant, RedisLockStore
from ticketlock.locks.store import LockStore
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.server import Settings, create_app

Run = Callable[[Awaitable[None]], None]
HEADERS = {"authorization": "Bearer the operator's"}
USER = pwd.getpwuid(os.getuid()).pw_name


def client(conversations: Conversations) -> httpx.AsyncClient:
    app = create_app(conversations, settings=Settings(admin_token="the operator's"))
    transport = httpx.ASGITransport(app, client=("10.0.3.7", 1))
    return httpx.AsyncClient(transport=transport, base_url="http://bot")


async def audit(http: httpx.AsyncClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await http.get("/live")).json()["audit"]
    return found


async def command(*words: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ticketlock", *words,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_each_way_to_break_a_turn_is_in_the_audit(own_redis: EmbeddedRedis) -> None:
    """Who, why and from where; also a break that came too late, and none where there was no turn."""
    store = ConcurrentRedisLockStore(url=own_redis.url, key_prefix="bot")
    async with Conversations(store) as conversations, client(conversations) as http:
        grants: dict[str, Grant] = {}
        for name in ("page", "api", "silent", "command"):
            grants[name] = await store.lock(name).acquire()
        assert await audit(http) == []

        turn = {"conversation": "page", "fence": grants["page"].fence}
        said = {"who": "anna", "why": "it hangs"}
        answer = await http.post("/live/break", headers=HEADERS, json={**turn, **said})
        assert answer.json()["broken"] is True
        path, late = "/conversations/api/lock", grants["api"].fence + 1
        why = {"why": "no \u202e answer"}
        answer = await http.delete(path, headers=HEADERS, params={"fence": late, **why})
        assert answer.status_code == 404
        assert (await http.delete(path, headers=HEADERS, params=why)).json() == {"broken": True}
        assert (await http.delete(path, headers=HEADERS)).status_code == 404
        answer = await http.delete("/conversations/silent/lock", headers=HEADERS)
        assert answer.json() == {"broken": True}
        place = ("--redis", own_redis.url, "--key-prefix", "bot")
        status, out, err = await command("break", "command", *place, "--why", "it \udcff hangs")
        assert (status, err) == (0, "")
        assert out.startswith("broken: ")
        assert (await command("break", "command", *place))[0] == 1

        for name, grant in grants.items():
            await asyncio.wait_for(grant.lost.wait(), 10)
            assert (await store.inspect(name)).holder is None
        # This replica shows what others have written after a few seconds.
        async with (
            Conversations(ConcurrentRedisLockStore(url=own_redis.url, key_prefix="bot")) as other,
            client(other) as reader,
        ):
            found = [
                (d["conversation"], d["what"].split(": ")[1], d["who"], d["client"], d["why"])
                for d in await audit(reader)
            ]
        assert found == [
            ("command", "broken", USER, socket.gethostname(), "it ? hangs"),
            ("silent", "broken", "api", "10.0.3.7", ""),
            ("api", "broken", "api", "10.0.3.7", "no \u202e answer"),
            ("api", "not broken, it had ended", "api", "10.0.3.7", "no \u202e answer"),
            ("page", "broken", "anna", "10.0.3.7", "it hangs"),
        ]


@pytest.mark.parametrize("kind", ["in_memory", "redis"])
async def test_without_a_shared_audit_breaks_work_all_the_same(
    kind: str, own_redis: EmbeddedRedis, caplog: pytest.LogCaptureFixture
) -> None:
    """The process keeps what was done over its own HTTP; the command has nowhere to note it."""
    store = RedisLockStore(url=own_redis.url) if kind == "redis" else LockStore.create()
    async with Conversations(store) as conversations, client(conversations) as http:
        grant = await store.lock("c").acquire()
        answer = await http.delete(
            "/conversations/c/lock", headers=HEADERS, params={"fence": grant.fence}
        )
        assert answer.json() == {"broken": True}
        (deed,) = await audit(http)
        assert (deed["conversation"], deed["who"], deed["why"]) == ("c", "api", "")
    (line,) = [r.getMessage() for r in caplog.records if r.name == "ticketlock.audit"]
    assert line.endswith("broken; by 'api' from 10.0.3.7, no reason was given")


async def test_the_command_breaks_where_there_is_no_audit(
    own_redis: EmbeddedRedis,
    tmp_path: Path,
) -> None:
    file = tmp_path / "endpoints.yml"
    file.write_text(f"lock_store: {{type: redis, url: '{own_redis.url}'}}\n")
    async with RedisLockStore(url=own_redis.url) as store:
        await store.lock("c").acquire()
        status, out, err = await command("break", "c", "--endpoints", str(file))
        assert (status, err) == (0, "")
        assert out.startswith("broken: ")


@pytest.mark.parametrize("way", ["command", "api"])
def test_a_reason_is_bounded(way: str, run: Run) -> None:
    async def body() -> None:
        long = 501 * "x"
        if way == "command":
            status, _, err = await command("break", "c", "--why", long)
            assert status == 2
            assert "a reason may have at most 500 characters" in err
            return
        async with Conversations() as conversations, client(conversations) as http:
            answer = await http.delete(
                "/conversations/c/lock", headers=HEADERS, params={"why": long}
            )
            assert answer.status_code == 400
            assert "why at most 500" in answer.json()["message"]

    run(body())


def test_the_command_notes_its_break_in_a_cluster(tmp_path: Path, run: Run) -> None:
    """There the key may be on another node than the conversation's."""

    async def body(section: dict[str, Any]) -> None:
        file = tmp_path / "endpoints.yml"
        file.write_text(json.dumps({"lock_store": {"type": "concurrent_redis", **section}}))
        store = ConcurrentRedisLockStore(**section)
        async with Conversations(store) as conversations, client(conversations) as http:
            for name in ("a", "b", "c", "d"):
                await store.lock(name).acquire()
                status, _, err = await command("break", name, "--endpoints", str(file))
                assert (status, err) == (0, "")
            assert [deed["conversation"] for deed in await audit(http)] == ["d", "c", "b", "a"]

    with RedisCluster() as cluster:
        run(body({"deployment_mode": "cluster", "endpoints": cluster.endpoints}))
