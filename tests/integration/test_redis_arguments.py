"""No request has more arguments than managed servers take: ElastiCache Serverless, 3,999."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest
from contract_events import user
from redis import Redis
from servers.documented import FORMATS

from ticketlock.endpoints.registry import create_lock_store, create_tracker_store
from ticketlock.redis.embedded import EmbeddedRedis

MOST = 3_999
MANY = 5_000


@pytest.fixture
def server() -> Iterator[EmbeddedRedis]:
    options = ("--slowlog-log-slower-than", "0", "--slowlog-max-len", "100000")
    with EmbeddedRedis(options) as server:
        yield server


def requests(server: EmbeddedRedis) -> dict[bytes, int]:
    """Command -> the most arguments that one request had; the log shows 31, and the number of the others."""
    found: dict[bytes, int] = {}
    with Redis(port=server.port) as client:
        client.config_set("slowlog-log-slower-than", -1)
        for _, _, _, args, *_ in client.execute_command("SLOWLOG", "GET", "-1", NEVER_DECODE=True):
            more = re.fullmatch(rb"\.\.\. \((\d+) more arguments\)", args[-1])
            count = len(args) - 1 + int(more[1]) if more else len(args)
            found[args[0]] = max(found.get(args[0], 0), count)
    return found


async def test_a_long_write_and_a_conversion(server: EmbeddedRedis) -> None:
    section = {"type": "redis", "port": server.port, "key_prefix": "x"}
    events = [user(str(number), number + 1) for number in range(MANY)]
    FORMATS["redis"].write(section, "old", events)
    async with create_tracker_store(section) as store:
        for name in ("new", "old"):
            claim = await store.claim(name, 1, "writer")
            await store.append(claim, events)
        for name, count in ("new", MANY), ("old", 2 * MANY):
            tracker = await store.retrieve_full_tracker(name)
            assert tracker is not None
            texts = [event.as_dict()["text"] for event in tracker.events]
            assert texts == [str(number % MANY) for number in range(count)]
    found = requests(server)
    assert 1 < max(found.values()) < MOST, found


async def test_many_turns_of_one_process(server: EmbeddedRedis) -> None:
    """Their renewals share requests, which are no longer for more of them."""
    async with AsyncExitStack() as stack:
        section = {"type": "concurrent_redis", "port": server.port}
        store = await stack.enter_async_context(create_lock_store(section))
        grants = [await stack.enter_async_context(store.lock(str(name))) for name in range(1_000)]
        with Redis(port=server.port) as client:
            before = client.info("commandstats")["cmdstat_evalsha"]["calls"]
            while client.info("commandstats")["cmdstat_evalsha"]["calls"] < before + 10:
                await asyncio.sleep(0.05)
        for grant in grants:
            grant.ensure_held()
    found = requests(server)
    assert 200 < max(found.values()) < MOST, found
