"""What operators see of the inbox, and do to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from servers.redis_sets import RedisCluster

from ticketlock import ConcurrentRedisLockStore, Conversations, cli
from ticketlock.deliveries.storage import RedisDeliveries, Taken
from ticketlock.inbox.rolling import RollingInbox
from ticketlock.locks.concurrent.shared import SharedState
from ticketlock.locks.memory import InMemoryLockStore
from ticketlock.locks.store import LockStore
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.server import Settings, create_app
from ticketlock.server.app import BotServer

Run = Callable[[Awaitable[None]], None]


class Bot:
    """Fails for a message while it is in `bad`; `held` holds its turn until it is set."""

    def __init__(self) -> None:
        self.bad = {"bad"}
        self.seen: list[str] = []
        self.free = asyncio.Event()

    async def __call__(self, turn: Any, message: Any) -> AsyncIterator[str]:
        self.seen.append(message.text)
        if message.text == "hold":
            await self.free.wait()
        if message.text in self.bad:
            raise ValueError("a bad message")
        yield f"done: {message.text}"


@asynccontextmanager
async def serving(
    store: LockStore, tracker: Any = None
) -> AsyncIterator[tuple[Conversations, Bot, BotServer]]:
    bot = Bot()
    async with Conversations(store, tracker) as conversations:
        app = create_app(conversations, bot, Settings(max_attempts=1))
        app.serve()
        yield conversations, bot, app
        bot.free.set()
        await app.drain()


async def ended(conversations: Conversations, name: str, message_id: str, state: str) -> None:
    found = await conversations.outcome(name, message_id, 10)
    assert found.state == state, found


async def dead_letters(store: LockStore) -> None:
    async with serving(store) as (conversations, bot, _):
        inbox = conversations.inbox
        assert (await inbox.all_letters()).rows == []
        for name in ("a", "b"):
            await conversations.submit(name, "bad", message_id=f"m {name} %")
            await ended(conversations, name, f"m {name} %", "dead")
        letters = (await inbox.all_letters()).rows
        assert [(one.conversation_id, one.message_id, one.kind) for one in letters] == [
            ("b", "m b %", "message"), ("a", "m a %", "message"),
        ]  # fmt: skip
        assert (await inbox.all_letters(1)).more
        assert json.loads(letters[0].text)["text"] == "bad"
        assert "ValueError" in letters[0].reason
        assert letters[0].text not in repr(letters[0])

        # Behind what waits, with the same id, once.
        bot.bad.clear()
        await conversations.submit("a", "hold", message_id="1")
        await conversations.submit("a", "next", message_id="2")
        assert await inbox.resend("a", "m a %")
        assert not await inbox.resend("a", "m a %")
        assert [one.message_id for one in await inbox.waiting("a")] == ["1", "2", "m a %"]
        assert await inbox.letters("a") == []
        bot.free.set()
        await ended(conversations, "a", "m a %", "replied")
        assert bot.seen == ["bad", "bad", "hold", "next", "bad"]

        assert await inbox.drop("b", "m b %")
        assert not await inbox.drop("b", "m b %")
        assert (await inbox.all_letters()).rows == []
        assert not await inbox.resend("b", "m b %")
        assert bot.seen[5:] == []


async def test_dead_letters_on_redis(own_redis: EmbeddedRedis) -> None:
    await dead_letters(ConcurrentRedisLockStore(url=own_redis.url))


async def test_dead_letters_in_this_process() -> None:
    await dead_letters(InMemoryLockStore())


def test_dead_letters_in_a_cluster(run: Run) -> None:
    """There the index is in another slot than the conversations."""
    with RedisCluster() as cluster:
        store = ConcurrentRedisLockStore(deployment_mode="cluster", endpoints=cluster.endpoints)
        run(dead_letters(store))


async def test_a_letter_whose_message_was_sent_again(own_redis: EmbeddedRedis) -> None:
    """Its sender was first: it is finished, and is not handled a second time."""
    async with serving(ConcurrentRedisLockStore(url=own_redis.url)) as (conversations, bot, _):
        await conversations.submit("a", "bad", message_id="1", window=0.05)
        while (await conversations.outcome("a", "1")).state != "unknown":
            await asyncio.sleep(0.02)
        bot.bad.clear()
        await conversations.submit("a", "bad", message_id="1")
        await ended(conversations, "a", "1", "replied")
        with pytest.raises(ValueError, match="drop the dead letter"):
            await conversations.inbox.resend("a", "1")
        assert len(bot.seen) == 2
        assert await conversations.inbox.drop("a", "1")


async def test_a_broken_turn_is_in_the_list(own_redis: EmbeddedRedis) -> None:
    store = ConcurrentRedisLockStore(url=own_redis.url)
    async with serving(store) as (conversations, _, _app):
        await conversations.submit("a", "hold", message_id="1")
        while not (await store.inspect("a")).holder:
            await asyncio.sleep(0.02)
        assert await store.break_lock("a")
        letters = (await conversations.inbox.all_letters()).rows
        assert [(one.message_id, "broken" in one.reason) for one in letters] == [("1", True)]


async def dead_deliveries(store: ConcurrentRedisLockStore) -> None:
    async with Conversations(store) as conversations:
        inbox, shared = conversations.inbox, SharedState.of(store)
        assert shared is not None
        deliveries = RedisDeliveries(shared, shared.keys)
        texts = []
        for number in (1, 2):
            text = json.dumps(
                {
                    "number": number, "message_id": f"m{number}", "to": "callback", "at": 5,
                    "fence": 7, "replies": [{"text": "secret"}],
                }
            )  # fmt: skip
            texts.append(text)
            key = shared.keys.of_deliveries("a")[0]
            await store.engine().link.call(("EVAL", RPUSH, 1, key, text))
            letter = {"delivery": text, "reason": "410", "tries": 3, "part": 0, "dead_at": number}
            assert isinstance(await deliveries.take("a", "p", 5), Taken)
            await deliveries.done("a", "p", 5, text, json.dumps(letter))
        found = (await inbox.all_letters()).rows
        assert [(one.kind, one.message_id, one.number, one.reason) for one in found] == [
            ("delivery", "m2", 2, "410"), ("delivery", "m1", 1, "410"),
        ]  # fmt: skip
        assert "secret" not in repr(found)
        assert not await inbox.resend("a", "m1")  # no such message
        assert await inbox.resend("a", "m1", "delivery")
        assert not await inbox.resend("a", "m1", "delivery")
        assert isinstance(inbox, RollingInbox)  # in whose index processes find it
        index = inbox.redis.scripts.index.of("a")
        assert await store.engine().link.call(("EVAL", CARD, 1, index)) == 1
        taken = await deliveries.take("a", "p", 5)
        assert isinstance(taken, Taken)
        assert taken.texts == (texts[0],)
        assert await inbox.drop("a", "m2", "delivery")
        assert await inbox.letters("a") == []
        deleted = await inbox.delete("a")
        assert (deleted.deliveries, deleted.letters) == (1, 0)
        assert await deliveries.take("a", "other", 5) is None


CARD = "return redis.call('ZCARD', KEYS[1])"
RPUSH = "return redis.call('RPUSH', KEYS[1], ARGV[1])"


async def test_deliveries_that_are_dead(own_redis: EmbeddedRedis) -> None:
    await dead_deliveries(ConcurrentRedisLockStore(url=own_redis.url))


def test_deliveries_that_are_dead_in_a_cluster(run: Run) -> None:
    with RedisCluster() as cluster:
        store = ConcurrentRedisLockStore(deployment_mode="cluster", endpoints=cluster.endpoints)
        run(dead_deliveries(store))


async def test_conversations_that_have_messages(own_redis: EmbeddedRedis) -> None:
    async with Conversations(ConcurrentRedisLockStore(url=own_redis.url)) as conversations:
        inbox = conversations.inbox
        assert await inbox.conversations() == []
        for name in ("b", "a", "b"):
            await conversations.submit(name, "x")
            await asyncio.sleep(0.01)
        found = await inbox.conversations()
        assert [(one.conversation_id, one.messages, one.running) for one in found] == [
            ("b", 2, False), ("a", 1, False),
        ]  # fmt: skip
        assert 0 <= found[1].waited <= found[0].waited < 10
        assert len(await inbox.conversations(1)) == 1


async def test_delete_what_runs_and_what_waits(own_redis: EmbeddedRedis) -> None:
    """Nothing of it is left on Redis but numbers, and who waits is told."""
    store = ConcurrentRedisLockStore(url=own_redis.url)
    async with serving(store) as (conversations, bot, _):
        inbox = conversations.inbox
        await conversations.submit("a", "early secret", message_id="0")
        await ended(conversations, "a", "0", "replied")
        await conversations.submit("a", "bad", message_id="dead")
        await ended(conversations, "a", "dead", "dead")
        await conversations.submit("a", "hold", message_id="1")
        await conversations.submit("a", "secret", message_id="2")
        while "hold" not in bot.seen:
            await asyncio.sleep(0.02)
        waits = asyncio.create_task(conversations.outcome("a", "2", 10))
        runs = asyncio.create_task(conversations.outcome("a", "1", 10))
        await asyncio.sleep(0)
        deleted = await inbox.delete("a")
        assert (deleted.messages, deleted.letters, deleted.broken) == (2, 1, True)
        assert (await waits).state == (await runs).state == "withdrawn"
        assert await inbox.waiting("a") == [] == await inbox.letters("a")
        assert (await conversations.outcome("a", "0")).state == "unknown"
        link = store.engine().link
        for key in await link.call(("KEYS", "*")):
            kind = (await link.call(("TYPE", key))).decode()
            read = {
                "string": ("GET", key), "hash": ("HGETALL", key), "zset": ("ZRANGE", key, 0, -1),
                "list": ("LRANGE", key, 0, -1), "none": ("GET", key),
            }[kind]  # fmt: skip
            assert b"secret" not in repr(await link.call(read)).encode(), key
        # The conversation goes on with the next message.
        await conversations.submit("a", "new", message_id="3")
        await ended(conversations, "a", "3", "replied")
        assert "secret" not in bot.seen
        assert not await inbox.delete("nobody")


async def command(*words: str) -> tuple[int, str, str]:
    """Run a command beside the replica; a process of its own would take seconds."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = await asyncio.wait_for(asyncio.to_thread(cli.main, words), 60)
    return status, out.getvalue(), err.getvalue()


async def test_the_commands(own_redis: EmbeddedRedis) -> None:
    """Texts are shown by `show` alone; what changes something is in the audit."""
    place = ("--redis", own_redis.url)
    store = ConcurrentRedisLockStore(url=own_redis.url)
    assert await command("inbox", "list", *place) == (
        0,
        "no message and no reply waits; `inbox list CONVERSATION` shows also what comes due later\n",
        "",
    )
    assert await command("inbox", "dead", *place) == (0, "no dead letters\n", "")
    async with serving(store) as (conversations, bot, app):
        await conversations.submit("a b", "bad", message_id="0")
        await ended(conversations, "a b", "0", "dead")
        for text in ("hold", "secret \x1b[31m", "last secret"):
            await conversations.submit("a b", text, message_id=text[:4])
        while "hold" not in bot.seen:
            await asyncio.sleep(0.02)

        status, out, _ = await command("inbox", "list", *place)
        assert (status, out.split("\n")[1].split()[:3]) == (0, ["'a", "b'", "3"])
        assert out.split("\n")[1].endswith("runs")
        status, out, _ = await command("inbox", "list", "a b", *place)
        assert [line.split()[0] for line in out.splitlines()[1:]] == ["'hold'", "'secr'", "'last'"]
        assert "secret" not in out
        status, out, _ = await command("inbox", "list", "a b", "--json", *place)
        assert "secret" not in out
        assert [m["running"] for m in json.loads(out)["messages"]] == [True, False, False]
        status, out, _ = await command("inbox", "dead", *place)
        assert "'0'" in out.splitlines()[1]
        assert "BotError" in out or "ValueError" in out
        assert "text" not in json.loads(
            (await command("inbox", "dead", "a b", "--json", *place))[1]
        )

        status, out, _ = await command("inbox", "show", "a b", "secr", *place)
        assert (status, "message 'secr': waiting" in out, "secret" in out) == (0, True, True)
        assert "\x1b" not in out
        assert (await command("inbox", "show", "a b", "nothing", *place))[:2] == (1, "not there\n")
        status, out, _ = await command("inbox", "show", "a b", "--json", *place)
        assert json.loads(json.loads(out)["letters"][0]["text"])["text"] == "bad"

        await conversations.submit("a b", "later secret", message_id="7", name="tea", after=60)
        status, out, _ = await command("inbox", "list", "a b", *place)
        assert out.splitlines()[-1].split()[:4] == ["'tea@7'", "-", "-", "0"]
        assert "due in" in out.splitlines()[-1]
        status, out, _ = await command("inbox", "list", "a b", "--json", *place)
        assert ("secret" in out, json.loads(out)["due"][0]["name"]) == (False, "tea")
        status, out, _ = await command("inbox", "show", "a b", "tea@7", *place)
        assert (status, "is due in" in out, "later secret" in out) == (0, True, True)
        assert (await command("inbox", "withdraw", "a b", "tea@7", *place))[1] == "withdrawn\n"

        why = ("--why", "sent twice", *place)
        assert await command("inbox", "withdraw", "a b", "secr", *why) == (0, "withdrawn\n", "")
        assert (await command("inbox", "withdraw", "a b", "hold", *why))[0] == 1
        assert (await command("inbox", "drop", "a b", "1", *why))[0] == 1
        bot.bad.clear()
        assert (await command("inbox", "resend", "a b", "0", *why, "--json"))[:2] == (
            0, '{"resent": true, "problem": ""}\n',
        )  # fmt: skip
        assert (await command("inbox", "drop", "a b", "0", "--delivery", *why))[0] == 1
        bot.free.set()
        await ended(conversations, "a b", "0", "replied")
        assert bot.seen == ["bad", "hold", "last secret", "bad"]
        deeds = [(deed["what"], deed["why"]) for deed in await app.live.audit.last()]
        assert deeds == [
            ("replies to message '0': not dropped: it is not a dead letter", "sent twice"),
            ("message '0': resent", "sent twice"),
            ("message '1': not dropped: it is not a dead letter", "sent twice"),
            ("message 'hold': not withdrawn: its turn has begun", "sent twice"),
            ("message 'secr': withdrawn", "sent twice"),
            ("message 'tea@7': withdrawn", ""),
        ]


async def test_the_commands_name_dead_replies(own_redis: EmbeddedRedis) -> None:
    """Of a message that was handled: `resend` alone means the message."""
    place = ("--redis", own_redis.url)
    store = ConcurrentRedisLockStore(url=own_redis.url)
    async with store:
        shared = SharedState.of(store)
        assert shared is not None
        deliveries = RedisDeliveries(shared, shared.keys)
        text = json.dumps(
            {"number": 1, "message_id": "1", "to": "callback", "replies": [], "at": 5}
        )
        key = shared.keys.of_deliveries("a")[0]
        await store.engine().link.call(("EVAL", RPUSH, 1, key, text))
        letter = {"delivery": text, "reason": "410", "tries": 3, "part": 0, "dead_at": 1}
        assert isinstance(await deliveries.take("a", "p", 5), Taken)
        await deliveries.done("a", "p", 5, text, json.dumps(letter))
    missed = "not dropped: it is not a dead letter"
    assert (await command("inbox", "drop", "a", "2", *place))[:2] == (1, f"{missed}\n")
    said = f"{missed}; its replies are one: --delivery\n"
    assert (await command("inbox", "drop", "a", "1", *place))[:2] == (1, said)
    assert (await command("inbox", "drop", "a", "1", "--delivery", *place))[0] == 0


async def test_the_commands_need_an_inbox_that_is_shared(tmp_path: Path) -> None:
    file = tmp_path / "endpoints.yml"
    file.write_text("lock_store: {type: redis}\n")
    status, _, err = await command("inbox", "list", "--endpoints", str(file))
    assert status == 2
    assert "needs type concurrent_redis" in err


async def test_tracker_delete_removes_messages_too(
    own_redis: EmbeddedRedis, tmp_path: Path
) -> None:
    """The turn that runs is broken, and can write nothing more; other conversations stay."""
    file, tracker = tmp_path / "endpoints.yml", {"type": "sql", "db": f"{tmp_path}/bot.db"}
    locks = {"type": "concurrent_redis", "url": own_redis.url}
    file.write_text(json.dumps({"lock_store": locks, "tracker_store": tracker}))
    store = ConcurrentRedisLockStore(url=own_redis.url)
    async with serving(store, tracker) as (conversations, bot, _):
        for name in ("a", "b"):
            await conversations.submit(name, "hello", message_id="0")
            await ended(conversations, name, "0", "replied")
        await conversations.submit("a", "bad", message_id="1")
        await ended(conversations, "a", "1", "dead")
        for text in ("hold", "late"):
            await conversations.submit("a", text, message_id=text)
        while "hold" not in bot.seen:
            await asyncio.sleep(0.02)
        delete = ("tracker", "delete", "a", "--endpoints", str(file))
        assert await command(*delete) == (0, "deleted\n", "")
        bot.free.set()
        await ended(conversations, "a", "hold", "withdrawn")
        await ended(conversations, "a", "late", "withdrawn")
        assert (await conversations.outcome("a", "0")).state == "unknown"
        assert (await conversations.outcome("b", "0")).state == "replied"
        assert await conversations.inbox.letters("a") == []
        assert await command(*delete) == (1, "there is no conversation 'a'\n", "")
        listed = ("tracker", "list", "--endpoints", str(file))
        assert (await command(*listed))[1] == "b\n"
        assert "late" not in bot.seen
    own_redis.stop()
    file.write_text(
        json.dumps({"lock_store": {**locks, "socket_timeout": 1}, "tracker_store": tracker})
    )
    assert (await command("tracker", "delete", "b", "--endpoints", str(file)))[0] == 3
    assert (await command(*listed))[1] == "b\n"
