"""A Redis Cluster that grows and shrinks, and of which one node is silent."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest
from conftest import until
from servers.redis_sets import RedisCluster
from servers.slots import calls, errors, move, set_owner, slot_of
from servers.turns import Turns

from ticketlock import ConcurrentRedisLockStore
from ticketlock.redis.embedded import EmbeddedRedis


@pytest.fixture
def cluster() -> Iterator[RedisCluster]:
    with RedisCluster() as cluster:
        yield cluster


def store_of(cluster: RedisCluster, **options: float) -> ConcurrentRedisLockStore:
    return ConcurrentRedisLockStore(
        deployment_mode="cluster", endpoints=cluster.endpoints, **options
    )


def connections(cluster: RedisCluster, server: EmbeddedRedis) -> int:
    """How many connections of stores a node has. Those of a MIGRATE stay for a while."""
    with cluster.client(server) as client:
        others = ("client|list", "restore-asking")
        return sum(
            each["name"] != "admin" and each["cmd"] not in others for each in client.client_list()
        )


async def two_each(cluster: RedisCluster) -> None:
    """Two processes have two connections to each node, once a heartbeat was there, and no more."""
    for server in cluster.servers:
        # At the start a link asks for the slots over one that it does not keep.
        await until(lambda server=server: connections(cluster, server) == 4, "two of each")


@pytest.mark.bound(90)
async def test_a_node_comes_and_goes() -> None:
    """Turns go on; a process has two connections to each master that it uses, at any load, and
    does not come back to a node that owns nothing."""
    options = ["--cluster-allow-replica-migration", "no"]  # nor does that become a replica
    async with AsyncExitStack() as stack:
        cluster = stack.enter_context(RedisCluster(options=options))
        one = await stack.enter_async_context(store_of(cluster))
        two = await stack.enter_async_context(store_of(cluster))
        names = [name for i in range(3) for name in cluster.conversations(i, 8)]
        turns = Turns(names)

        async def work() -> None:
            await two_each(cluster)
            new = await asyncio.to_thread(cluster.add_master)
            slots = sorted({slot_of(name) for name in names[:8]})
            for slot in slots:
                await asyncio.to_thread(move, cluster, slot, 0, 3)
            await turns.all_take(5)
            await two_each(cluster)
            for slot in slots:
                await asyncio.to_thread(move, cluster, slot, 3, 0)
            await turns.all_take(5)
            cluster.servers.remove(new)
            new.__exit__(None, None, None)
            await turns.all_take(5)
            with EmbeddedRedis(port=new.port) as other:  # another server at its address
                await turns.all_take(20)
                assert connections(cluster, other) == 0

        await turns.during([one, two], work)
        assert turns.wrong == []


async def test_many_slots_move_at_once(cluster: RedisCluster) -> None:
    """Each link asks the old owner once for each slot that it uses, and no node for all slots."""
    async with store_of(cluster, lease=600, waiter_ttl=600) as store:
        names = cluster.conversations(0, 300)
        slots = sorted({slot_of(name) for name in names})

        async def take() -> None:
            for name in {slot_of(name): name for name in names}.values():
                async with store.lock(name):
                    pass

        await take()
        clients = [cluster.client(server) for server in cluster.servers]
        for client in clients:
            client.flushall()
        for owner in (1, 0, 1):
            set_owner(cluster, slots, owner)
        moved = [errors(client, "MOVED") for client in clients]
        asked = [calls(client, "cluster|slots") for client in clients]
        await take()
        await take()
        assert errors(clients[0], "MOVED") - moved[0] == len(slots)
        assert [errors(client, "MOVED") for client in clients[1:]] == moved[1:]
        assert [calls(client, "cluster|slots") for client in clients] == asked


async def test_two_nodes_that_name_each_other(cluster: RedisCluster) -> None:
    """They are not asked in a circle without a pause, and the turn comes when they agree."""
    async with store_of(cluster, lease=600, waiter_ttl=600) as store:
        (name,) = cluster.conversations(0, 1)
        async with store.lock(name):
            pass
        clients = [cluster.client(server) for server in cluster.servers]
        clients[0].flushall()
        set_owner(cluster, [slot_of(name)], 1, told=[0])
        before = sum(errors(client, "MOVED") for client in clients)
        waiting = asyncio.create_task(store.lock(name).acquire())
        link = store.engine().link
        await until(lambda: link._backoff.at_limit, "it pauses")  # type: ignore[union-attr]
        assert sum(errors(client, "MOVED") for client in clients) - before < 30
        assert not waiting.done()
        set_owner(cluster, [slot_of(name)], 1)
        assert (await waiting).number == 1


@pytest.mark.bound(120)
async def test_one_of_twelve_masters_is_silent() -> None:
    """Conversations on the eleven others keep their turns, and go on without a gap."""
    with RedisCluster(12, options=["--cluster-require-full-coverage", "no"]) as cluster:
        async with store_of(cluster) as one, store_of(cluster) as two:
            healthy = [name for i in range(1, 12) for name in cluster.conversations(i, 4)]
            turns = Turns(healthy[::2])
            held = [await one.lock(name).acquire() for name in healthy[1::2]]
            sick = cluster.conversations(0, 10)
            theirs = [await one.lock(name).acquire() for name in sick]
            process = cluster.servers[0].process
            assert process is not None

            async def work() -> None:
                turns.gaps.clear()
                process.send_signal(signal.SIGSTOP)
                waiting = [asyncio.create_task(two.lock(name).acquire()) for name in sick]
                end = time.monotonic() + 7  # longer than a lease
                while time.monotonic() < end:
                    await turns.all_take(1)
                process.send_signal(signal.SIGCONT)
                for grant in theirs:
                    await one._turn_queue.release(grant)
                for task in waiting:
                    await two._turn_queue.release(await task)

            await turns.during([one, two], work)
            assert turns.wrong == []
            assert [grant.reason for grant in held] == [None] * len(held)
            longest = max(turns.gaps.values())
            print(f"longest gap {longest:.3f} s")
            assert longest < 2.5
