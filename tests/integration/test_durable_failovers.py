"""`durability`: what has counted outlives a failover, and a slot that moves."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import until
from servers.durable import LONG, REPLICAS, accepted, desk, holder
from servers.redis_sets import RedisCluster, SentinelSet
from servers.replicated import AT_ONCE, Replicated, cut, go_on, pause, waits
from servers.slots import begin_move, move, move_keys, slot_of

from ticketlock import (
    ConcurrentRedisLockStore,
    Conversations,
    LockStoreConnectionError,
)
from ticketlock.inbox.submission import Submission

#: Exact failovers of each kind.
FAILOVERS = 4


@pytest.mark.parametrize("durability", ["none", "replicas"])
async def test_failovers_lose_what_was_not_confirmed(durability: str) -> None:
    """The master dies when it has a message that its replica does not have: `none` has accepted it."""
    lost = kept = 0
    for _ in range(FAILOVERS):
        with Replicated() as servers:
            (replica,) = servers.replicas
            async with desk(servers.master, durability=durability) as one:
                await one.inbox.submit(Submission("c", "before", "text"))
                cut(replica)
                submitting = asyncio.create_task(one.inbox.submit(Submission("c", "last", "text")))
                await until(lambda: accepted(servers.master, "c", "last"), "the message")
                if durability == "none":
                    await asyncio.wait_for(submitting, LONG)
                servers.master.stop(kill=True)
                servers.promote(replica)
                said = submitting.done()
                submitting.cancel()
            if durability == "replicas":
                assert accepted(replica, "c", "before")
            lost += said and not accepted(replica, "c", "last")
            kept += not said
    assert (lost, kept) == ((FAILOVERS, 0) if durability == "none" else (0, FAILOVERS))


async def test_failovers_keep_what_was_confirmed() -> None:
    """The master dies as soon as a message is accepted, and the replica that has it takes over."""
    for _ in range(FAILOVERS):
        with Replicated() as servers:
            (replica,) = servers.replicas
            async with desk(servers.master) as one:
                for i in range(20):
                    await one.inbox.submit(Submission(f"c{i}", "m", json.dumps({"text": i})))
                servers.master.stop(kill=True)
            servers.promote(replica)
            assert all(accepted(replica, f"c{i}", "m") for i in range(20))


@pytest.mark.parametrize(("durability", "how"), [("replicas", "killed"), ("majority", "stopped")])
async def test_sentinels_promote_what_was_confirmed(
    tmp_path: Path, durability: str, how: str
) -> None:
    """A failover by the sentinels: the messages are there, and turns go on with the new master."""
    with SentinelSet(tmp_path, replicas=2, options=AT_ONCE) as servers:
        keys: dict[str, Any] = {"deployment_mode": "sentinel", "endpoints": servers.endpoints}
        keys |= {**REPLICAS, "durability": durability}
        async with (
            ConcurrentRedisLockStore(**keys) as locks,
            Conversations(locks) as conversations,
        ):
            for i in range(5):
                await conversations.submit(f"c{i}", "text", message_id="m")
            if how == "killed":
                servers.master.stop(kill=True)
            else:
                pause(servers.master)
            # A connection to the old master would be waited for until the time is over.
            async with locks.lock("c", wait_timeout=LONG - 5) as grant:
                for replica in servers.servers[1:]:  # the new master, and the one that follows it
                    assert holder(replica, "c").startswith(f"{grant.fence} ")
            for i in range(5):
                assert (await conversations.outcome(f"c{i}", "m")).state == "waiting"


async def test_the_new_master_confirms_nothing_that_it_has_not(tmp_path: Path) -> None:
    """Its replica acknowledges all that it has. A ticket waits again; a message is sent again."""
    with SentinelSet(tmp_path, replicas=2, options=AT_ONCE) as servers:
        keys: dict[str, Any] = {"deployment_mode": "sentinel", "endpoints": servers.endpoints}
        keys |= REPLICAS
        async with (
            ConcurrentRedisLockStore(**keys) as locks,
            Conversations(locks) as conversations,
        ):
            async with locks.lock("c") as before:
                pass
            for replica in servers.servers[1:]:
                cut(replica)
            submitting = asyncio.create_task(conversations.submit("m", "text", message_id="m"))
            await until(lambda: accepted(servers.master, "m", "m"), "the message")
            turn = asyncio.create_task(locks.lock("c").acquire())
            await until(lambda: " " in holder(servers.master, "c"), "the grant")
            lost = int(holder(servers.master, "c").split()[0])
            await until(lambda: turn.done() or waits(servers.master), "WAIT")
            assert not turn.done()
            assert not submitting.done()
            servers.master.stop(kill=True)
            (found,) = await asyncio.gather(submitting, return_exceptions=True)
            assert isinstance(found, LockStoreConnectionError)
            assert "a failover has lost it" in str(found)
            await conversations.submit("m", "text", message_id="m")
            grant = await asyncio.wait_for(turn, LONG)
            assert grant.fence > before.fence
            assert grant.fence != lost
            for replica in servers.servers[1:]:
                assert holder(replica, "c").startswith(f"{grant.fence} ")


# -- cluster ------------------------------------------------------------------------------------


async def test_each_master_of_a_cluster_for_itself() -> None:
    """The replica of one is stopped: its conversations alone wait."""
    with RedisCluster(replicas=True) as cluster:
        keys: dict[str, Any] = {"deployment_mode": "cluster", "endpoints": cluster.endpoints}
        keys |= {**REPLICAS, "durability": "majority"}
        names = [cluster.conversations(i, 1)[0] for i in range(3)]
        async with ConcurrentRedisLockStore(**keys) as locks:
            for name in names:
                async with locks.lock(name):
                    pass
            pause(cluster.replicas[0])
            turn = asyncio.create_task(locks.lock(names[0]).acquire())
            await until(lambda: turn.done() or waits(cluster.servers[0], 0), "WAIT")
            assert not turn.done()
            for name in names[1:]:
                async with locks.lock(name):
                    pass
            go_on(cluster.replicas[0])
            grant = await asyncio.wait_for(turn, LONG)
            with cluster.client(cluster.replicas[0]) as one:
                one.execute_command("READONLY")
                key = f"concurrent_lock:{{{names[0]}}}:holder"
                assert one.get(key).startswith(f"{grant.fence} ")


async def test_a_cluster_fails_over() -> None:
    """The new master has no replica, which is said until the old one is back as its replica."""
    with RedisCluster(replicas=True) as cluster:
        keys: dict[str, Any] = {"deployment_mode": "cluster", "endpoints": cluster.endpoints}
        keys |= {"durability": "replicas", "durability_timeout": 1}
        names = [cluster.conversations(i, 1)[0] for i in range(3)]
        async with ConcurrentRedisLockStore(**keys) as locks:
            for name in names:
                async with locks.lock(name):
                    pass
            cluster.servers[0].stop(kill=True)
            async with locks.lock(names[0], wait_timeout=LONG):
                pass
            new = f"127.0.0.1:{cluster.replicas[0].port}"
            await until(
                lambda: [*locks.not_durable] == [new], "the problem of the new master", LONG
            )
            cluster.servers[0].start()
            await until(lambda: not locks.not_durable, "recovery", LONG)
            for name in names:
                async with locks.lock(name):
                    assert not locks.not_durable


@pytest.mark.parametrize("settled", [False, True])
async def test_a_slot_moves_while_its_turn_is_confirmed(settled: bool) -> None:
    """The write goes with its slot: the node that has it by now confirms it."""
    with RedisCluster(replicas=True) as cluster:
        keys: dict[str, Any] = {"deployment_mode": "cluster", "endpoints": cluster.endpoints}
        keys |= REPLICAS
        name = cluster.conversations(0, 1)[0]
        async with ConcurrentRedisLockStore(**keys) as locks:
            async with locks.lock(name):
                pass
            pause(cluster.replicas[0])
            turn = asyncio.create_task(locks.lock(name).acquire())
            await until(lambda: turn.done() or waits(cluster.servers[0], 0), "WAIT")
            begin_move(cluster, slot_of(name), 0, 1)
            move_keys(cluster, [locks.engine().scripts.keys.of(name)[1]], 0, 1)
            if settled:
                move(cluster, slot_of(name), 0, 1)
            pause(cluster.replicas[1])
            with cluster.client(cluster.servers[0]) as one:
                (blocked,) = [row for row in one.client_list() if row["cmd"] == "wait"]
                one.client_kill_filter(_id=blocked["id"])
            await until(lambda: turn.done() or waits(cluster.servers[1], 0), "WAIT")
            assert not turn.done()
            go_on(cluster.replicas[1])
            await asyncio.wait_for(turn, LONG)
            go_on(cluster.replicas[0])
