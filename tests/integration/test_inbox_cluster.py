"""The inbox on a Redis Cluster: nodes that are away, and slots that move."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from redis.crc import key_slot
from servers.inboxes import Desk, until
from servers.redis_sets import RedisCluster

from ticketlock import ConcurrentRedisLockStore
from ticketlock.inbox.redis import RedisInbox
from ticketlock.inbox.submission import Submission
from ticketlock.process import clock


@pytest.fixture
def cluster() -> Iterator[RedisCluster]:
    """Three masters that serve their slots also while another one is away."""
    with RedisCluster(options=["--cluster-require-full-coverage", "no"]) as cluster:
        yield cluster


@asynccontextmanager
async def on(cluster: RedisCluster) -> AsyncIterator[Desk]:
    """An inbox of a process of its own on a cluster."""
    async with ConcurrentRedisLockStore(
        deployment_mode="cluster", endpoints=cluster.endpoints
    ) as store:
        desk = Desk(RedisInbox(store))
        try:
            yield desk
        finally:
            await desk.close()


def master_of(key: str) -> int:
    """The master that had the slot of a key in the beginning."""
    return key_slot(key.encode()) // (16384 // 3 + 1)


def names(
    desk: Desk,
    count: int,
    *,
    slot_on: set[int],
    listed_on: set[int],
    due_on: set[int] | None = None,
) -> list[str]:
    """So many conversations whose keys are on one of some masters, and whose listing is."""
    assert isinstance(desk.inbox, RedisInbox)
    index, later = desk.inbox.connected().index, desk.inbox.later
    found = (
        name
        for name in (f"c{i}" for i in itertools.count())
        if master_of(f"{{{name}}}") in slot_on
        and master_of(index.of(name)) in listed_on
        and master_of(later._tag(later.shard(name))) in (due_on or listed_on)
    )
    return list(itertools.islice(found, count))


@pytest.mark.bound(60)
async def test_what_waits_on_a_node_that_is_away_holds_up_no_other(
    cluster: RedisCluster,
) -> None:
    """One master hangs: a process that has just started serves what waits on the others."""
    async with on(cluster) as sender, on(cluster) as desk:
        sick = names(sender, 100, slot_on={0}, listed_on={1, 2})
        healthy = names(sender, 60, slot_on={1, 2}, listed_on={1, 2})
        for name in [*sick, *healthy]:
            await sender.inbox.submit(Submission(name, "1", name))
        process = cluster.servers[0].process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        desk.serve(room=10)
        await until(lambda: len(desk.handled) >= len(healthy), 8)
        assert sorted(desk.texts) == sorted(healthy)
        process.send_signal(signal.SIGCONT)
        await until(lambda: len(desk.handled) >= len(healthy) + len(sick), 15)
        assert sorted(desk.texts) == sorted([*healthy, *sick])


async def test_another_message_puts_no_look_off(cluster: RedisCluster) -> None:
    """A conversation that is due stays so when a process with room submits to it."""
    async with on(cluster) as sender, on(cluster) as desk:
        await sender.inbox.submit(Submission("anna", "1", "first"))
        assert isinstance(desk.inbox, RedisInbox)
        desk.serve()
        await desk.inbox.look.stop()
        await desk.inbox.submit(Submission("anna", "2", "second"))
        desk.inbox.look.begin()
        await desk.until("first", "second", seconds=5)


async def test_what_is_not_finished_is_counted_by_shard(cluster: RedisCluster) -> None:
    """Processes that only submit count too, and an empty shard forgets nothing of another."""
    async with on(cluster) as sender, on(cluster) as desk:
        assert isinstance(desk.inbox, RedisInbox)
        desk.gate.clear()
        desk.serve(room=1)
        conversations = names(sender, 32, slot_on={0, 1, 2}, listed_on={0, 1, 2})
        for name in conversations:
            await sender.inbox.submit(Submission(name, "1", name))
        await until(lambda: desk.inbox.unfinished == 32, 5)
        await until(lambda: sender.inbox.unfinished == 32, 5)
        desk.gate.set()
        await until(lambda: len(desk.handled) == 32, 10)
        await until(lambda: desk.inbox.unfinished == 0, 5)


async def test_who_waits_for_a_message_on_a_node_that_is_away_holds_up_no_other(
    cluster: RedisCluster,
) -> None:
    """Outcomes of other processes are heard at once, also while a question is not answered."""
    async with on(cluster) as sender, on(cluster) as desk:
        (sick,) = names(sender, 1, slot_on={0}, listed_on={1, 2})
        healthy = names(sender, 3, slot_on={1, 2}, listed_on={1, 2})
        for name in [sick, *healthy]:
            await sender.inbox.submit(Submission(name, "1", name))
        waiting = [
            asyncio.create_task(sender.inbox.wait(name, "1", 30)) for name in [sick, *healthy]
        ]
        assert isinstance(sender.inbox, RedisInbox)
        followed = sender.inbox.followed
        await until(lambda: len(followed.conversations()) == 4)
        process = cluster.servers[0].process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        asked = clock()
        await until(lambda: followed._messages[sick, "1"].asked > asked)
        desk.serve()
        done, _ = await asyncio.wait(waiting[1:], timeout=5)
        assert len(done) == 3
        process.send_signal(signal.SIGCONT)
        assert (await waiting[0]).state == "replied"


async def test_what_comes_due_on_a_node_that_is_away_holds_up_no_other(
    cluster: RedisCluster,
) -> None:
    """Messages of healthy conversations come due in time, in the same shard as sick ones."""
    async with on(cluster) as desk:
        sick = names(desk, 48, slot_on={0}, listed_on={1, 2})
        healthy = names(desk, 48, slot_on={1, 2}, listed_on={1, 2})
        for name in sick:
            await desk.later(name, name, after=1)
        for name in healthy:
            await desk.later(name, name, after=4)
        process = cluster.servers[0].process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        desk.serve()
        await until(lambda: len(desk.handled) >= len(healthy), 8)
        assert sorted(desk.texts) == sorted(healthy)
        process.send_signal(signal.SIGCONT)
        await until(lambda: len(desk.handled) >= len(healthy) + len(sick), 20)
        assert sorted(desk.texts) == sorted([*healthy, *sick])


async def test_a_failover_that_loses_a_listing_loses_no_message(cluster: RedisCluster) -> None:
    """A master dies before its replica has the last writes; the message is on another one."""
    async with on(cluster) as sender:
        (name,) = names(sender, 1, slot_on={1, 2}, listed_on={0}, due_on={0, 1, 2})
        await sender.inbox.submit(Submission(name, "1", "first"))
        assert isinstance(sender.inbox, RedisInbox)
        with cluster.client(cluster.servers[0]) as client:
            assert client.delete(sender.inbox.connected().index.of(name)) == 1
        async with on(cluster) as desk:  # no bell tells it
            desk.serve()
            await desk.until("first", seconds=15)


async def test_a_conversation_that_is_due_stays_so(cluster: RedisCluster) -> None:
    """A process with room puts no look off; and what is listed anew has another mark."""
    async with on(cluster) as desk:
        assert isinstance(desk.inbox, RedisInbox)
        scripts = desk.inbox.connected()
        key = scripts.index.of("anna")
        with cluster.client(cluster.servers[master_of(key)]) as client:
            await desk.inbox.call(scripts.enlist("anna", 0))
            due = client.zscore(key, "anna")
            await desk.inbox.call(scripts.enlist("anna", 5000))
            assert due - 1 < client.zscore(key, "anna") < due


async def test_a_burst_beyond_the_room_waits_for_no_lease(cluster: RedisCluster) -> None:
    """What was listed while there was room, and found none, is due at once."""
    async with on(cluster) as desk:
        desk.serve(room=1)
        desk.gate.clear()
        burst = names(desk, 12, slot_on={0, 1, 2}, listed_on={0, 1, 2})
        await asyncio.gather(*(desk.inbox.submit(Submission(name, "1", name)) for name in burst))
        desk.gate.set()
        await until(lambda: len(desk.handled) == 12, 3.5)
