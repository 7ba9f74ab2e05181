"""Messages of 0.6.0 and of this version with `durability`, on one Redis that fails over."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from servers import versions
from servers.durable import accepted
from servers.replicated import Replicated, client

from ticketlock import Conversations
from ticketlock.process import clock
from ticketlock.redis.embedded import EmbeddedRedis

KEYS = {"durability": "replicas", "durability_degraded": "refuse", "durability_timeout": 30}
#: A replica of either version. A line is `serve`, or the id of a message to submit; it answers each.
REPLICA = """
import asyncio, json, sys
from ticketlock import ConcurrentRedisLockStore, Conversations

async def handle(turn, message):
    turn.add({"event": "user", "text": message["message_id"]})

async def main(locks, tracker):
    loop = asyncio.get_running_loop()
    async with Conversations(ConcurrentRedisLockStore(**locks), tracker) as conversations:
        serving = None
        while line := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
            if line == "serve":
                serving = conversations.serving(handle)
                await serving.__aenter__()
            else:
                await conversations.submit("c", line, message_id=line)
            print(line, flush=True)
        if serving is not None:
            await serving.__aexit__(None, None, None)

asyncio.run(main(*map(json.loads, sys.argv[1:])))
"""


class Replica:
    """It ends when the block does, which the pipe tells it."""

    def __init__(
        self, version: Path | None, locks: dict[str, Any], tracker: dict[str, Any]
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", REPLICA, json.dumps(locks), json.dumps(tracker)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd="/",  # else it would import this checkout
            env=versions.environment(version),
        )  # fmt: skip

    def __enter__(self) -> Replica:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate(timeout=30)
        assert self._process.returncode == 0

    def does(self, line: str) -> None:
        print(line, file=self._process.stdin, flush=True)
        assert self._process.stdout is not None  # it is a pipe
        assert self._process.stdout.readline() == f"{line}\n"


async def handled(tracker: dict[str, Any], names: list[str]) -> None:
    """Wait until so many messages were handled; it was these, in this order."""
    end, texts = clock() + 30, list[str]()
    async with Conversations(None, tracker) as conversations:
        while len(texts) < len(names):
            assert clock() < end, texts
            await asyncio.sleep(0.05)
            found = await conversations.tracker_store.retrieve_full_tracker("c")
            events = [] if found is None else [event.as_dict() for event in found.events]
            texts = [event["text"] for event in events if event["event"] == "user"]
    assert texts == names


@pytest.mark.slow
async def test_messages_of_two_versions_outlive_a_failover() -> None:
    """Both handle what the other has accepted, in order; no message that was durable is lost."""
    old = versions.before(versions.COMMITS["0.6.0"])
    with Replicated() as servers, EmbeddedRedis() as histories:
        (heir,) = servers.replicas
        tracker = {"type": "redis", "url": histories.url}
        first, last = [f"m{i}" for i in range(20)], [f"n{i}" for i in range(20)]
        url = {"url": servers.master.url}
        with Replica(old, url, tracker) as before, Replica(None, url | KEYS, tracker) as now:
            for i, name in enumerate(first):
                (before, now)[i % 2].does(name)
                if i == 10:
                    before.does("serve")
                    now.does("serve")
            await handled(tracker, first)
            with client(servers.master) as one:
                (barrier,) = one.keys("*durable")
                assert one.type(barrier) == "string"
                assert 0 < one.pttl(barrier) <= 60_000
        with Replica(old, url, tracker) as before, Replica(None, url | KEYS, tracker) as now:
            for i, name in enumerate(last):
                (before, now)[i % 2].does(name)
            servers.promote(heir)
        # The last one was durable, and with it all that the master had before.
        assert all(accepted(heir, "c", name) for name in last)
        with Replica(old, {"url": heir.url}, tracker) as back:
            back.does("serve")
            await handled(tracker, [*first, *last])
