"""`ticketlock top` on a server, a cluster and a Sentinel set; and where operators' commands look."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from servers.redis_sets import RedisCluster, SentinelSet

from ticketlock import ConcurrentRedisLockStore, Conversations
from ticketlock.cli import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_OK, EXIT_UNAVAILABLE, main
from ticketlock.locks.concurrent import survey
from ticketlock.locks.concurrent.survey import Survey
from ticketlock.redis.embedded import EmbeddedRedis

Run = Callable[[Awaitable[None]], None]
Ticketlock = Callable[..., "asyncio.Future[tuple[int, str, str]]"]

#: Ids that could be taken for something else.
IDS = ["plain", "{curly} }%7D%25", "two words", "\N{SNOWMAN}", "\x1b[2Jescape"]


@contextmanager
def _standard(folder: Path) -> Iterator[dict[str, Any]]:
    with EmbeddedRedis() as server:
        yield {"url": server.url, "key_prefix": "ops"}


@contextmanager
def _cluster(folder: Path) -> Iterator[dict[str, Any]]:
    with RedisCluster() as cluster:
        yield {"deployment_mode": "cluster", "endpoints": cluster.endpoints}


@contextmanager
def _sentinel(folder: Path) -> Iterator[dict[str, Any]]:
    with SentinelSet(folder) as deployment:
        yield {"deployment_mode": "sentinel", "endpoints": deployment.endpoints}


def write(folder: Path, section: dict[str, Any]) -> Path:
    path = folder / "endpoints.yml"
    path.write_text(json.dumps({"lock_store": {"type": "concurrent_redis", **section}}))
    return path


async def ticketlock(folder: Path, *words: str) -> tuple[int, str, str]:
    """The command as people run it, in a folder."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ticketlock", *words,
        cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("deployment", [_standard, _cluster, _sentinel])
def test_top_finds_what_is_held(deployment: Any, tmp_path: Path, run: Run) -> None:
    """Without an id; of what is idle nothing is shown."""

    async def body(section: dict[str, Any]) -> None:
        async with ConcurrentRedisLockStore(**section) as store:
            async with store.lock("idle"):
                pass
            held = [store.lock(name, label=f"of {name}") for name in IDS]
            for one in held:
                await one.acquire()
            behind = [store.lock(IDS[1], label=label) for label in ("next", "last")]
            for one in behind:
                await one.queue()
            status, out, err = await ticketlock(tmp_path, "top", "--json")
            assert status == EXIT_OK, err
            found = json.loads(out)
            counts = {key: found[key] for key in ("conversations", "held", "waiting", "shown")}
            assert counts == {"conversations": 5, "held": 5, "waiting": 2, "shown": 5}
            assert found["complete"] is True
            rows = {row["conversation_id"]: row for row in found["rows"]}
            assert rows.keys() == set(IDS)
            row = rows[IDS[1]]
            assert row["holder"]["label"] == f"of {IDS[1]}"
            assert (row["waiting_count"], row["waiting"][0]["label"]) == (2, "next")
            status, out, _ = await ticketlock(tmp_path, "top", "--limit", "2")
            assert status == EXIT_OK
            assert "5 held, 2 waiting" in out
            assert "the 2 oldest of 5" in out
            for one in (*held, *behind):
                one.withdraw() if one in behind else await one.release()
            _, out, _ = await ticketlock(tmp_path, "top")
            assert "no conversation is held" in out

    with deployment(tmp_path) as section:
        write(tmp_path, section)
        run(body(section))


def test_top_goes_through_many_keys_in_steps(
    own_redis: EmbeddedRedis, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first pass is over it says so; what was held longest is looked at first."""
    monkeypatch.setattr(survey, "STEP", 50)
    monkeypatch.setattr(survey, "LOOK_UPS", 3)
    with redis.Redis.from_url(own_redis.url) as client:
        client.mset({f"other:{i}": 1 for i in range(3000)})

        async def body() -> None:
            async with ConcurrentRedisLockStore(url=own_redis.url) as store:
                held = [store.lock(f"c{i}") for i in range(9)]
                for one in held:
                    await one.acquire()
                    await asyncio.sleep(0.05)  # so that one is older than the next
                found = Survey(store)
                first = await found.look(2, seconds=0.0)
                assert not first.complete
                while not (look := await found.look(2, seconds=0.001)).complete:
                    assert look.keys < 10_000
                assert (look.conversations, look.looked_at, look.held) == (9, 3, 3)
                assert [row.state.conversation_id for row in look.rows] == ["c0", "c1"]
                for one in held[:8]:
                    await one.release()
                while (look := await found.look(2)).conversations > 1:
                    assert look.looked_at <= 3
                assert look.rows[0].state.conversation_id == "c8"
                await found.close()
                await held[8].release()

        run(body())


async def test_an_accepted_message_belongs_to_no_process(
    own_redis: EmbeddedRedis, tmp_path: Path
) -> None:
    """It waits for any that serves, of which there is none here: both commands say what it is."""
    section = {"url": own_redis.url, "key_prefix": "ops"}
    write(tmp_path, section)
    async with Conversations({"type": "concurrent_redis", **section}) as conversations:
        await conversations.submit("anna", "hi", message_id="m 1")
        _, shown, _ = await ticketlock(tmp_path, "inspect", "anna")
        assert re.search(
            r"^    accepted message 'm 1' for \d\.\d s, ticket 1$", shown, re.MULTILINE
        )
        _, table, _ = await ticketlock(tmp_path, "top")
        assert "message 'm 1'" in table
        assert "unknown" not in shown + table


async def test_top_needs_the_right_to_scan(own_redis: EmbeddedRedis) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        client.acl_setuser(
            "ops", enabled=True, passwords=["+secret-pw"], categories=["+@all"], keys=["*"],
            channels=["*"], commands=["-scan"],
        )  # fmt: skip
    url = f"redis://ops:secret-pw@127.0.0.1:{own_redis.port}/1"
    status, _, err = await ticketlock(Path.cwd(), "top", "--json", "--redis", url)
    assert status == EXIT_UNAVAILABLE
    assert "ACL SETUSER ops +scan" in err
    assert "secret-pw" not in err


def test_top_lives_in_a_terminal(own_redis: EmbeddedRedis, tmp_path: Path) -> None:
    """It follows what happens, says when the server is away, and Ctrl-C ends it."""
    here, there = pty.openpty()
    words = [sys.executable, "-m", "ticketlock", "top", "--redis", own_redis.url]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    process = subprocess.Popen(
        [*words, "--interval", "0.2"], stdin=there, stdout=there, stderr=there, env=environment,
        start_new_session=True,
    )  # fmt: skip
    os.close(there)
    said = ""

    def until(text: str) -> None:
        nonlocal said
        end = time.monotonic() + 30
        while text not in said:
            assert time.monotonic() < end, said[-2000:]
            said += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", os.read(here, 65536).decode())
        said = said.partition(text)[2]

    async def hold() -> None:
        async with ConcurrentRedisLockStore(url=own_redis.url) as store:
            async with store.lock("conversation 42"):
                await asyncio.to_thread(until, "1 held, 0 waiting")
                await asyncio.to_thread(until, "conversation 42")

    try:
        until("no conversation is held")
        asyncio.run(hold())
        until("no conversation is held")
        own_redis.stop()
        until("trying again")
        own_redis.start()
        until("no conversation is held")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == EXIT_OK
    finally:
        process.kill()
        process.wait()
        os.close(here)


async def test_operators_commands_read_endpoints_yml(
    own_redis: EmbeddedRedis,
    tmp_path: Path,
) -> None:
    """The file of this folder, or one that is named."""
    section = {"url": own_redis.url, "key_prefix": "bot"}
    named = write(tmp_path, section).rename(tmp_path / "named.yml")
    async with ConcurrentRedisLockStore(**section) as store:
        hanging = store.lock("c", label="hangs")
        await hanging.acquire()
        status, _, err = await ticketlock(tmp_path, "inspect", "c")
        assert status == EXIT_BAD_INPUT
        assert "there is no endpoints.yml here" in err
        _, out, _ = await ticketlock(tmp_path, "inspect", "c", "--endpoints", named.name)
        assert "'hangs'" in out
        write(tmp_path, section)
        _, out, _ = await ticketlock(tmp_path, "inspect", "c")
        assert "'hangs'" in out
        # Another server, where nobody holds it.
        status, out, _ = await ticketlock(tmp_path, "break", "c", "--redis", own_redis.url)
        assert (status, out) == (EXIT_FAILED, "not broken: no turn holds it\n")
        status, out, _ = await ticketlock(tmp_path, "break", "c")
        assert (status, out.partition(":")[0]) == (EXIT_OK, "broken")


@pytest.mark.parametrize(
    ("section", "words", "said"),
    [
        ("{type: in_memory}", ["inspect", "c"], "in_memory locks can be seen only"),
        ("{type: in_memory}", ["top", "--json"], "in_memory locks can be seen only"),
        ("{type: redis}", ["top", "--json"], "not RedisLockStore"),
        ("{type: redis}", ["top", "--redis", "redis://x", "--endpoints", "x"], "give one of them"),
        ("{type: redis}", ["break", "c", "--key-prefix", "x"], "--key-prefix is for --redis"),
    ],
)
def test_what_cannot_be_looked_at_is_told(
    section: str, words: list[str], said: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "endpoints.yml").write_text(f"lock_store: {section}\n")
    assert main(words) == EXIT_BAD_INPUT
    assert said in capsys.readouterr().err
