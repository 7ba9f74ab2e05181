"""What a submitted message costs the server, as counts; benchmarks/ has the times."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from ticketlock import ConcurrentRedisLockStore, Conversations
from ticketlock.inbox.scripts import InboxScripts
from ticketlock.inbox.submission import Submission
from ticketlock.locks.concurrent.scripts import Scripts, Timing
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.redis.scripts import load
from ticketlock.redis.settings import RedisSettings
from ticketlock.settings.section import Section
from ticketlock.turn import Turn


class Replica:
    """A process with room, reduced to its commands."""

    def __init__(self, client: redis.Redis, *, cluster: bool = False) -> None:
        scripts = Scripts(RedisSettings.read(Section({}, "settings")), Timing(), "p", "host:1")
        self._client, self._numbers = client, count(1)
        self._inbox = InboxScripts(scripts, scripts.keys.prefix, cluster)
        self.keys = scripts.keys
        self._begun: tuple[str, int] | None = None
        for name in Scripts.NAMES:
            client.script_load(load(name).source)

    def submit(self, conversation_id: str, *, room: bool = True) -> Any:
        """Submit a message, with a listener; returns what finishes its turn."""
        number = next(self._numbers)
        message = Submission(conversation_id, f"m{number}", "text")
        server, listener = f"p.{number}-secret" if room else "", f"p.{number}0-secret"
        answer: Any = self._client.execute_command(
            *self._inbox.submit(message, server, 70_000, listener, "")
        )
        fence = answer[2] if answer[0] == 1 else 0
        return SimpleNamespace(
            conversation_id=conversation_id, window=600, delivery="", uncounted=False,
            message=f"m{number}", grant=SimpleNamespace(member=f"{server}.!m{number}", fence=fence),
        )  # fmt: skip

    def finish(self, turn: Any) -> Any:
        """Finish a turn, or the one that the last finish has begun in its place."""
        if self._begun is not None:
            member, fence = self._begun
            turn.grant = SimpleNamespace(member=f"{member}.!{turn.message}", fence=fence)
        server = f"p.{next(self._numbers)}1-secret"
        words = self._inbox.finish(turn, [(turn.message, "d", "reply")], server, 70_000, 100)
        answer: Any = self._client.execute_command(*words)
        self._begun = (server, answer[2]) if answer[0] == 1 else None
        return answer

    def serve(self, conversation_id: str) -> None:
        """A message that is submitted here, with a listener, and finished."""
        assert self.finish(self.submit(conversation_id)) == [4]


def test_commands_of_a_free_conversation(own_redis: EmbeddedRedis) -> None:
    """Two script calls, and in them at most 24 commands; the bar of both together is 28."""
    with redis.Redis.from_url(own_redis.url) as client:
        replica = Replica(client)
        replica.serve("c")
        client.config_resetstat()
        for _ in range(10):
            replica.serve("c")
        stats = client.info("commandstats")
        calls = {name.removeprefix("cmdstat_"): entry["calls"] for name, entry in stats.items()}
        own = ("config", "info")
        found = {name: n / 10 for name, n in calls.items() if name.split("|")[0] not in own}
        assert found.pop("pexpire") <= 3  # fewer, where the expiry is of the same millisecond
        assert found == {
            "evalsha": 2, "time": 2, "get": 2, "set": 2, "incr": 1, "persist": 1,
            "pttl": 1, "hlen": 2, "hexists": 1, "hget": 1, "hset": 2, "zadd": 2, "zrem": 1,
            "zrangebyscore": 1, "exists": 1, "del": 1,
        }  # fmt: skip


def test_commands_of_a_queue(own_redis: EmbeddedRedis) -> None:
    """A message behind another costs at most 28 commands: to submit it, and to finish it."""
    with redis.Redis.from_url(own_redis.url) as client:
        replica = Replica(client)
        turns = [replica.submit("c") for _ in range(13)]
        replica.finish(turns[0])
        client.config_resetstat()
        for turn in turns[1:11]:
            replica.submit("c")
            replica.finish(turn)
        stats = client.info("commandstats")
        own = ("config", "info")
        calls = {
            name: entry["calls"] for name, entry in stats.items()
            if name.removeprefix("cmdstat_").split("|")[0] not in own
        }  # fmt: skip
        assert calls["cmdstat_evalsha"] == 20
        assert sum(calls.values()) / 10 <= 28, calls


def test_expiries_of_an_older_version_are_removed(own_redis: EmbeddedRedis) -> None:
    """0.4.0 gives the keys of a conversation expiries, also while a message waits there."""
    with redis.Redis.from_url(own_redis.url) as client:
        replica = Replica(client)
        replica.submit("c")
        replica.submit("c")
        keys = replica.keys.of("c")[:4]
        for key in keys:
            assert client.pexpire(key, 60_000)
        replica.submit("c")
        assert [client.pttl(key) for key in (keys[0], *keys[2:])] == [-1, -1, -1]


def test_a_message_that_is_missing_in_the_queue_goes_first(own_redis: EmbeddedRedis) -> None:
    """Behind a dead holder, with a ticket of a process that has come after the message."""
    with redis.Redis.from_url(own_redis.url) as client:
        replica = Replica(client)
        replica.submit("c", room=False)
        _, holder, queue, waiters, *_ = replica.keys.of("c")
        client.delete(queue)
        alive = int(client.time()[0]) * 1000 + 60_000
        client.set(holder, "5 2 q.1-secret 1 1 1 host:1,1,4000")
        client.zadd(queue, {"q.2-secret": 3})
        client.hset(waiters, "q", f"{alive} host:1,1,4000")
        taken: Any = client.execute_command(*replica._inbox.take("c", "p.9-secret", 70_000))
        assert taken[0][:2] == [1, 1]
        assert client.zrange(queue, 0, -1) == [b"q.2-secret"]


def test_nothing_is_left(own_redis: EmbeddedRedis) -> None:
    """When all is finished each key expires; the index is gone."""
    with redis.Redis.from_url(own_redis.url) as client:
        Replica(client).serve("c")
        left = {key: client.pttl(key) for key in client.scan_iter()}
        assert len(left) >= 4
        assert all(ttl > 0 for ttl in left.values()), left


@pytest.mark.parametrize("full", [False, True])
def test_a_server_without_memory_finishes(own_redis: EmbeddedRedis, full: bool) -> None:
    """It refuses new messages, and frees those that it has."""
    with redis.Redis.from_url(own_redis.url) as client:
        replica = Replica(client)
        serving = replica._inbox
        submitted: Any = client.execute_command(
            *serving.submit(Submission("c", "a", "text"), "p.1-s", 70_000, "", "")
        )
        client.execute_command(
            *serving.submit(Submission("c", "b", "text"), "p.2-s", 70_000, "", "")
        )
        client.rpush(replica.keys.of_deliveries("replies wait")[0], "{}")
        if full:
            client.config_set("maxmemory", 1)
        try:
            if full:
                with pytest.raises(redis.ResponseError, match="maxmemory"):
                    client.execute_command(
                        *serving.submit(Submission("c", "x", "text"), "", 70_000, "", "")
                    )
            served: Any = SimpleNamespace(
                conversation_id="c", window=600, delivery="", uncounted=False,
                grant=SimpleNamespace(member="p.1-s.!a", fence=submitted[2]),
            )  # fmt: skip
            words = serving.finish(served, [("a", "d", "reply")], "p.3-s", 70_000, 100)
            answer: Any = client.execute_command(*words)
            assert answer[0] == 1
            assert answer[4] == b"b"
            served.grant = SimpleNamespace(member="p.3-s.!b", fence=answer[2])
            served.uncounted = True
            words = serving.finish(served, [], "", 70_000, 100)  # it goes back
            assert client.execute_command(*words) == [4]
            looked: Any = client.execute_command(*serving.look(0, 10, 0, 0))
            assert looked[3] == b"c"
            taken: Any = client.execute_command(*serving.take("c", "p.4-s", 70_000))
            assert taken[0][4] == b"b"
            taken = client.execute_command(*serving.take("replies wait", "p.5-s", 70_000))
            assert taken[:2] == [[0], 1]
        finally:
            client.config_set("maxmemory", 0)


async def test_what_is_not_finished_is_counted(redis_server: EmbeddedRedis) -> None:
    """Also after attempts that fail, of messages handled together, withdrawn, deleted, resent."""
    opened, never, text = asyncio.Event(), asyncio.Event(), "x" * 1000

    gates = {"wait": opened, "stay": never}

    async def handle(turn: Turn, message: Mapping[str, Any]) -> None:
        if message["text"] in gates:
            await gates[message["text"]].wait()
        if message["text"].startswith("fail") and message["attempt"] < 3:
            raise ValueError
        if message["text"].startswith("dead"):
            raise ValueError
        for message_id, _ in await turn.collect():
            turn.answer("null", message_id)

    store = ConcurrentRedisLockStore(url=redis_server.url, key_prefix="counted")
    async with Conversations(store) as conversations:
        async with conversations.serving(handle, max_attempts=3, retry_time=0.1):
            await conversations.submit("stays", "stay", message_id="1")  # or it begins anew
            await conversations.submit("fails", f"fail{text}", message_id="1")
            await conversations.submit("dies", f"dead{text}", message_id="1")
            for name in ("together", "withdrawn", "deleted", "broken"):
                await conversations.submit(name, "wait", message_id="1")
                for i in range(2, 5):
                    await conversations.submit(name, text, message_id=str(i), mode="coalesce")
            for i in range(2, 5):
                assert await conversations.withdraw("withdrawn", str(i)) == "withdrawn"
                assert await conversations.withdraw("withdrawn", str(i)) == "withdrawn"
            await conversations.delete("deleted")
            assert await store.break_lock("broken")
            assert (await conversations.outcome("fails", "1", wait=10)).state == "replied"
            assert (await conversations.outcome("dies", "1", wait=10)).state == "dead"
            await conversations.inbox.resend("dies", "1")
            assert (await conversations.outcome("dies", "1", wait=10)).state == "dead"
            opened.set()
            assert (await conversations.outcome("together", "4", wait=10)).state == "replied"
            assert (await conversations.outcome("broken", "4", wait=10)).state == "replied"
            with redis.Redis.from_url(redis_server.url) as client:
                [key] = client.keys("counted*:counts")
                end, left = time.monotonic() + 5, {b"messages": b"1", b"bytes": b"16"}
                while (found := client.hgetall(key)) != left and time.monotonic() < end:
                    await asyncio.sleep(0.1)
            assert found == left
            never.set()


def test_a_process_that_asks_again_and_again_is_one_listener(redis_server: EmbeddedRedis) -> None:
    """Under its last name; a sender that it has had is remembered."""
    with redis.Redis.from_url(redis_server.url) as client:
        replica = Replica(client)
        inbox, name = replica._inbox, "asked again"

        def listeners() -> bytes:
            found: Any = client.hget(replica.keys.submitted(name), "m")
            return bytes(found.split(b" ")[-1])

        client.execute_command(*inbox.submit(Submission(name, "m", "text"), "", 70_000, "", ""))
        for asked in ("p.1-s", "q.1-s", "p.2-s+", "pp.1-s", "p.3-s", "p.3-s"):
            client.execute_command(*inbox.outcome(name, "m", asked))
        assert listeners() == b"q.1-s,pp.1-s,p.3-s,"
        client.execute_command(
            *inbox.submit(Submission(name, "m", "text"), "", 70_000, "q.2-s!", "")
        )
        for asked, last in (("q.3-s", b"q.3-s!,"), ("q.4-s+", b"q.4-s!+,"), ("q.5-s!", b"q.5-s!,")):
            client.execute_command(*inbox.outcome(name, "m", asked))
            assert listeners() == b"pp.1-s,p.3-s," + last


def test_a_clock_that_was_set_back_delays_nothing(own_redis: EmbeddedRedis) -> None:
    """The index, and the lease of a sender that has died, as they are when it was an hour ahead."""
    with redis.Redis.from_url(own_redis.url) as client:
        replica = Replica(client)
        inbox, keys = replica._inbox, replica.keys.of_deliveries("ahead")
        now = 1000 * int(client.time()[0])  # type: ignore[index]  # as redis-py answers
        index = inbox.index.of("ahead")
        client.zadd(index, {"ahead": now + 3_600_000, "soon": now + 60_000, "due": now})
        found: Any = client.execute_command(*inbox.look(0, 1, 0, 0))
        assert found[3::2] == [b"due"]
        found = client.execute_command(*inbox.look(0, 10, 0, 0))
        assert found[3::2] == [b"ahead"]
        client.rpush(keys[0], "{}")
        for sender, kind in (("died", b"taken"), ("-", b"held")):
            client.set(keys[1], f"{sender} {now + 3_600_000} 0 0")
            source = load("deliver_take").source
            taken: Any = client.eval(source, 2, *keys[:2], "own", 15_000, 8, 1024)
            assert taken[0] == kind
