"""Reminders of the bot server: who fires, decided by the history; in memory and on Redis."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from servers.inboxes import until
from servers.reminding import Steps, id_of, reminder, script
from serving import client, send

from ticketlock import (
    ConcurrentRedisLockStore,
    Conversations,
    InMemoryLockStore,
    LockStore,
    RedisLockStore,
)
from ticketlock.deliveries.delivery import Delivery
from ticketlock.deliveries.destination import OnReply
from ticketlock.inbox.due import When
from ticketlock.inbox.submission import Submission
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.server import Message

pytestmark = pytest.mark.anyio
HOUR = 3600.0


@dataclass
class World:
    """A bot server, its bot and its client; replies to the channel `web` are sent out.

    Attributes:
        sent: the texts that were sent out.
    """

    http: httpx.AsyncClient
    bot: Steps
    conversations: Conversations
    sent: list[str]

    async def say(self, *steps: Any, sender: str = "c", **body: Any) -> httpx.Response:
        return await send(self.http, script(*steps), sender=sender, **body)

    async def over_web(self, *steps: Any) -> None:
        """The same over the channel whose replies are sent out."""
        app: Any = self.http.app  # type: ignore[attr-defined]  # set by the client
        await app.handler.handle(Message(script(*steps), "c", input_channel="web"))

    async def fired(self, wire: dict[str, Any], sender: str = "c") -> bool:
        """Whether a reminder that is due has fired, once its job has been handled."""
        found = await self.conversations.outcome(sender, id_of(wire), wait=10)
        assert found.state == "replied", found
        return bool(json.loads(found.text or "[]"))

    async def history(self, sender: str = "c") -> list[dict[str, Any]]:
        answer = await self.http.get(f"/conversations/{sender}/tracker?include_events=ALL")
        events: list[dict[str, Any]] = answer.json()["events"]
        return events

    async def jobs(self, sender: str = "c") -> list[str]:
        return [one.message_id for one in await self.conversations.due(sender)]


@asynccontextmanager
async def world_on(locks: LockStore) -> AsyncIterator[World]:
    """A world with these locks."""
    bot, sent = Steps(), list[str]()

    async def send_out(delivery: Delivery) -> None:
        sent.extend(reply["text"] for reply in delivery.replies)

    async with client(bot, (locks, None), max_session_events=50) as http:
        app = http.app  # type: ignore[attr-defined]  # set by the client
        app.handler.destinations["web"] = OnReply(send_out)
        yield World(http, bot, app.handler.conversations, sent)
        bot.go.set()
        await app.drain()


def redis_locks(server: EmbeddedRedis) -> LockStore:
    return ConcurrentRedisLockStore(url=server.url, key_prefix=f"reminders{uuid.uuid4().hex}")


@pytest.fixture(params=["memory", "redis"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    made_of = request.param == "redis" and redis_locks(request.getfixturevalue("redis_server"))
    async with world_on(made_of or InMemoryLockStore()) as made:
        yield made


async def test_it_fires_once_as_documented(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An external message of the user with the latest channel, in a turn of the bot's."""
    wire = reminder(entities=[{"entity": "kind", "value": "green"}])
    await world.say(wire, input_channel="app")
    assert await world.fired(wire)
    [message] = world.bot.fired
    assert (message.reminder, message.text) == ("tea", "EXTERNAL: drink")
    before = await world.history()
    events = before[-2:]
    assert [event["event"] for event in events] == ["user", "bot"]
    assert events[0]["metadata"] == {"is_external": True}
    assert events[0]["input_channel"] == "app"
    assert events[0]["parse_data"]["intent"] == {"name": "drink"}
    assert events[0]["parse_data"]["entities"] == [{"entity": "kind", "value": "green"}]
    if not world.conversations.inbox.durable:  # the lock store remembers the message
        return
    # Once, also if its job comes again when the inbox has forgotten it, and after message_window.
    await world.conversations.inbox.delete("c")
    now = time.time
    monkeypatch.setattr("ticketlock.server.bot_runner.time.time", lambda: now() + 700)
    job = Submission("c", message.message_id, message.as_text())
    when = When(at=0.0, generation=message.message_id)
    assert not (await world.conversations.inbox.submit_later(job, when)).known
    assert await world.fired(wire)  # the first replies
    assert len(world.bot.fired) == 1
    assert len(await world.history()) == len(before)


CANCEL = {"event": "cancel_reminder", "name": None, "intent": None, "entities": None}
USER = {"event": "user", "text": "hi"}
GREEN = [{"entity": "kind", "value": "green"}]

#: What follows the reminder in the history -> whether it fires.
AFTER: dict[str, tuple[list[dict[str, Any]], bool]] = {
    "nothing": ([], True),
    "cancelled by name": ([{**CANCEL, "name": "tea"}], False),
    "another name": ([{**CANCEL, "name": "milk"}], True),
    "cancelled by intent": ([{**CANCEL, "intent": "drink"}], False),
    "another intent": ([{**CANCEL, "intent": "eat"}], True),
    "cancelled by entities": ([{**CANCEL, "entities": GREEN}], False),
    "other entities": ([{**CANCEL, "entities": [{"entity": "kind", "value": "red"}]}], True),
    "one field of two": ([{**CANCEL, "name": "tea", "intent": "eat"}], True),
    "all are cancelled": ([CANCEL], False),
    "the name again": ([reminder(after=HOUR)], False),
    "another one": ([reminder("milk", after=HOUR)], True),
    "a message of the user": ([USER], False),
    "an event of the user without text": ([{**USER, "text": None}], True),
    "restarted": ([{"event": "restart"}], False),
    "a session": ([{"event": "session_started"}], False),
    "reverted": ([{"event": "rewind"}], False),
}


@pytest.mark.parametrize("name", AFTER)
async def test_the_history_decides(world: World, name: str) -> None:
    """Its job waits right behind the turn already when the rest of the history comes."""
    after, fires = AFTER[name]
    wire = reminder(entities=GREEN)
    turn = asyncio.create_task(world.say(wire, "commit", "wait", *after))
    await world.bot.waits.wait()
    await queued(world, id_of(wire))
    world.bot.go.set()
    await turn
    before = len(await world.history())
    assert await world.fired(wire) is fires
    assert len(world.bot.fired) == fires
    assert fires or len(await world.history()) == before  # it has written nothing


async def queued(world: World, message_id: str) -> None:
    """Wait until a message waits for its turn."""

    async def there() -> bool:
        waiting = await world.conversations.inbox.waiting("c")
        return message_id in [one.message_id for one in waiting]

    await until(there)


async def test_a_message_of_the_user_comes_first(world: World) -> None:
    """With kill_on_user_msg it takes the reminder, also that of another reminder; else not."""
    quiet, kept = reminder("quiet"), reminder("kept", kill_on_user_msg=False)
    last = reminder("last")
    turn = asyncio.create_task(world.say(kept, "commit", "wait", USER, quiet, last))
    await world.bot.waits.wait()
    await queued(world, id_of(kept))
    world.bot.go.set()
    await turn
    assert await world.fired(kept)
    assert not await world.fired(quiet)
    assert not await world.fired(last)
    assert [message.reminder for message in world.bot.fired] == ["kept"]


@pytest.mark.parametrize("policy", ["interrupt", "rollback"])
async def test_a_message_that_stops_others(world: World, policy: str) -> None:
    """It waits for the turn of a reminder, which is stored."""
    wire = reminder(intent="wait")
    await world.say(wire)
    await world.bot.waits.wait()
    message = asyncio.create_task(world.say(double_texting=policy, message_id="m"))
    await queued(world, "m")
    world.bot.go.set()
    await message
    assert await world.fired(wire)
    said = [event["text"] for event in await world.history() if event["event"] == "bot"]
    assert said == ["done", "fired: wait", "done"]


async def test_jobs_that_are_not_wanted_go(world: World) -> None:
    """Cancelled, replaced, or overtaken by the user: nothing of them waits in *later*."""
    tea, milk = reminder(after=HOUR), reminder("milk", after=HOUR, kill_on_user_msg=False)
    await world.say(tea, milk)
    assert set(await world.jobs()) == {id_of(tea), id_of(milk)}
    more = reminder("milk", after=HOUR)
    await world.say(more)  # the user's message takes tea
    assert await world.jobs() == [id_of(more)]
    await world.say({**CANCEL, "name": "milk"}, reminder("x", HOUR), {**CANCEL, "name": "x"})
    assert await world.jobs() == []


async def test_equal_names_in_two_conversations(world: World) -> None:
    """Each has its own; cancelling one leaves the other."""
    wire = reminder(after=HOUR)
    for sender in ("c", "d"):
        await world.say(wire, sender=sender)
    await world.say(CANCEL, sender="c")
    assert (await world.jobs("c"), await world.jobs("d")) == ([], [id_of(wire)])


async def test_its_job_is_there_before_its_event(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever the process dies, the reminder that is stored has a job."""
    wire, append, seen = reminder(after=HOUR), world.conversations.tracker_store.append, []

    async def appending(*args: Any) -> None:
        seen.append(await world.jobs())
        await append(*args)

    monkeypatch.setattr(world.conversations.tracker_store, "append", appending)
    await world.say(wire)
    assert seen == [[id_of(wire)]]


async def test_replies_go_where_those_of_its_message_went(world: World) -> None:
    """Also when the user has written over another channel since, and from one to the next."""
    wire = reminder(kill_on_user_msg=False)
    turn = asyncio.create_task(world.over_web("wait", wire))
    await world.bot.waits.wait()
    other = asyncio.create_task(world.say(input_channel="rest", message_id="other"))
    await queued(world, "other")
    world.bot.go.set()
    await asyncio.gather(turn, other)
    assert await world.fired(wire)
    await until(lambda: world.sent == ["done", "fired: drink"])
    # A reminder of its turn, over HTTP, and an intent.
    await world.over_web()
    url = "/conversations/c/tracker/events?execute_side_effects=true&output_channel=latest"
    more = reminder("more")
    await world.http.post(url, json=more)
    assert await world.fired(more)
    await world.http.post("/conversations/c/trigger_intent?output_channel=web", json={"name": "x"})
    await until(lambda: world.sent[2:] == ["done", "fired: drink", "fired: x"])
    bot = {"event": "bot", "text": "hi"}
    answer = await world.http.post(url, json=[bot])
    assert answer.status_code == 400
    assert "events of the bot are not sent over web" in answer.json()["message"]


async def test_a_turn_that_fails_schedules_nothing(world: World) -> None:
    """Its job, which was put before, finds nothing; the reminder of the same name is not touched."""
    there = reminder(after=HOUR)
    await world.say(there)
    lost = reminder()
    answer = await world.http.post("/conversations/c/tracker/events", json=lost)
    assert answer.status_code == 200  # no side effects were asked for
    assert await world.jobs() == [id_of(there)]
    bad = reminder("milk", date_time="tomorrow")
    answer = await world.say(reminder("first", HOUR), bad)
    assert answer.status_code == 500
    assert "reminder 'milk': date_time is 'tomorrow'" in answer.text
    assert [event["name"] for event in await world.history() if event["event"] == "reminder"] == [
        "tea", "tea"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"date_time": "2400-01-01T00:00:00"}, "reminder 'tea': at is more than 31622400 seconds"),
        ({"date_time": 5}, "reminder 'tea': date_time is 5, which is not a date"),
        ({"intent": ""}, "reminder 'tea': intent is '', not the name"),
        ({"name": "\ud800"}, "reminder "),
    ],
)
async def test_what_cannot_be_kept(world: World, more: dict[str, Any], problem: str) -> None:
    """The turn is not stored, and the error says why."""
    answer = await world.say({**reminder(), **more})
    assert answer.status_code == 500
    assert f"the bot's turn cannot be stored: {problem}" in answer.text
    assert await world.jobs() == []


async def test_as_many_as_a_conversation_may_have(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more is an error that says so."""
    for module in ("later", "local_later"):
        monkeypatch.setattr(f"ticketlock.inbox.{module}.MAX_OF_CONVERSATION", 3)
    await world.say(*(reminder(f"r{i}", HOUR, kill_on_user_msg=False) for i in range(3)))
    answer = await world.say(reminder("more", HOUR))
    assert "reminder 'more': 3 reminders and messages wait until they are due" in answer.text
    assert len(await world.jobs()) == 3


async def test_a_long_session_ends(world: World) -> None:
    """The reminders go on in the next session; a user's message takes them there too."""
    kept, tea = reminder("kept", HOUR, kill_on_user_msg=False), reminder("tea", HOUR)
    fired = reminder("fired", kill_on_user_msg=False)
    await world.say(fired)
    assert await world.fired(fired)
    many = [{"event": "slot", "name": "n", "value": i} for i in range(60)]
    await world.say(*many, kept, tea)
    jobs = {id_of(kept), id_of(tea)}
    assert set(await world.jobs()) == jobs
    url = "/conversations/c/tracker/events"
    await world.http.post(url, json=many[0])  # it begins a session, as a message would
    events = (await world.http.get("/conversations/c/tracker")).json()["events"]
    latest = [event["event"] for event in events[-8:]]
    assert "session_started" in latest
    assert set(await world.jobs()) == jobs
    await world.say(many[0])
    assert await world.jobs() == [id_of(kept)]


async def test_a_session_that_expired(world: World) -> None:
    """As documented: what is due after session_expiration_time does not fire."""
    url = "/conversations/c/tracker/events?execute_side_effects=true"
    wire = reminder()
    await world.http.post(url, json=[{**USER, "timestamp": time.time() - 3700}, wire])
    assert not await world.fired(wire)


async def test_late_is_better_than_never(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session had not expired when it was due: it fires, in a new one."""
    wire = reminder()
    turn = asyncio.create_task(world.say(wire, "commit", "wait"))
    await world.bot.waits.wait()
    await queued(world, id_of(wire))
    now = time.time
    monkeypatch.setattr("ticketlock.server.sessions.time.time", lambda: now() + 3700)
    world.bot.go.set()
    await turn
    assert await world.fired(wire)
    assert [e["event"] for e in await world.history()].count("session_started") == 2


async def test_what_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Once: that they end with this process, or with their session."""
    for sender in ("c", "d"):
        await world.say(reminder(after=2 * HOUR), sender=sender)
    said = [one.getMessage() for one in caplog.records if "reminder" in one.getMessage()]
    assert sum("use type concurrent_redis" in text for text in said) == (
        not world.conversations.inbox.durable
    )
    assert sum("is due after session_expiration_time (60 minutes)" in text for text in said) == 1


async def test_with_locks_that_keep_no_messages(redis_server: EmbeddedRedis) -> None:
    """`type: redis`: as in memory."""
    locks = RedisLockStore(url=redis_server.url, key_prefix=f"reminders{uuid.uuid4().hex}")
    async with world_on(locks) as world:
        wire = reminder()
        await world.say(wire)
        assert await world.fired(wire)
        assert not world.conversations.inbox.durable


async def test_a_deleted_conversation(world: World) -> None:
    """Its reminders are gone with it."""
    await world.say(reminder(after=HOUR))
    assert await world.conversations.delete("c")
    assert await world.jobs() == []
