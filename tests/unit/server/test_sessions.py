"""When the bot server starts a session, and what it takes along."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from serving import client, send, talk
from ticketlock.stores.memory import InMemoryTrackerStore

from ticketlock import ConcurrentRedisLockStore, Conversations, InMemoryLockStore, RedisLockStore
from ticketlock.endpoints.registry import create_tracker_store
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.server import Message
from ticketlock.server.sessions import _is_empty
from ticketlock.tracker.tracker import Tracker
from ticketlock.turn import Turn

MINUTE = 60


async def events(http: Any, sender: str = "default") -> list[dict[str, Any]]:
    state = (await http.get(f"/conversations/{sender}/tracker?include_events=ALL")).json()
    found: list[dict[str, Any]] = state["events"]
    return found


def names(events: list[dict[str, Any]]) -> list[str]:
    return [str(e.get("name") or e["event"]) for e in events]


class Remembers:
    """A bot that sets a slot, and notes what it sees of the tracker."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, dict[str, Any]]] = []

    async def __call__(self, turn: Turn, message: Message) -> AsyncIterator[str]:
        self.seen.append((len(turn.tracker.events), dict(turn.tracker.slots)))
        if message.text.startswith("set "):
            turn.add({"event": "slot", "name": "said", "value": message.text})
        if message.text == "loop":
            turn.add({"event": "active_loop", "name": "a_form"}, {"event": "pause"})
        yield f"heard {message.text}"


async def test_the_first_message_starts_a_session() -> None:
    """With the documented events, in their order; the next one does not."""
    async with client() as http:
        await send(http, "one", metadata={"k": 1})
        found = await events(http)
        assert names(found) == [
            "action_session_start", "session_started", "session_started_metadata",
            "action_listen", "user", "bot",
        ]  # fmt: skip
        assert found[2]["value"] == {"k": 1}
        await send(http, "two", metadata={"k": 2})
        assert names((await events(http))[6:]) == ["user", "bot"]


SESSION = ["action_session_start", "session_started", "action_listen"]


@pytest.mark.parametrize(
    ("minutes", "setting", "starts"),
    [(61, 60, True), (59, 60, False), (2, 1, True), (10**6, 0, False), (61, 60.5, True)],
)
async def test_a_session_expires(minutes: float, setting: float, starts: bool) -> None:
    """By the time of the user's last message, as it is stored; 0 is never."""
    bot = Remembers()
    store = create_tracker_store({"type": "in_memory"})
    then = time.time() - minutes * MINUTE
    old = [
        {"event": "user", "text": "old", "timestamp": then, "metadata": {}, "parse_data": {}},
        {"event": "slot", "name": "city", "value": "Oslo", "timestamp": then},
        {"event": "active_loop", "name": "a_form", "timestamp": time.time()},
    ]
    await store.save(Tracker.from_dict("default", old))
    limits = {"session_expiration_time": setting}
    async with client(bot, (None, store), **limits) as http:
        await send(http, "new")
        full = await store.retrieve_full_tracker("default")
        found = names([e.as_dict() for e in full.events])[3:]
        slots = ["city"] if starts else []
        start = [*SESSION[:2], *slots, SESSION[2]] if starts else []
        assert found == [*start, "user", "bot"]
        assert bot.seen == [(5 if starts else 4, {"city": "Oslo"})]
        state = (await http.get("/conversations/default/tracker")).json()
        assert (state["active_loop"] == {}) is starts


@pytest.mark.parametrize("moment", [10**400, -(10**400), "soon", None, 1e300, True])
async def test_times_of_old_data(moment: Any) -> None:
    """Whatever stands for the time of the last message, the next one is answered."""
    store = create_tracker_store({"type": "in_memory"})
    old = {"event": "user", "text": "old", "timestamp": moment, "message_id": "m0"}
    about = {"ticketlock_handled": {"a": "b", "c": moment}}
    start = {"event": "action", "name": "action_session_start", "metadata": about}
    await store.save(Tracker.from_dict("default", [{**start, "timestamp": moment}, old]))
    async with client(None, (None, store), max_session_events=10) as http:
        for i in range(8):
            assert (await send(http, f"{i}", message_id=f"m{i}")).status_code == 200


async def test_slots_that_are_not_carried() -> None:
    """carry_over_slots false: they begin as the domain says."""
    bot = Remembers()
    domain = {"slots": {"city": {"initial_value": "Rome"}, "n": None, "same": 1}}
    store = create_tracker_store({"type": "in_memory"}, domain)
    async with client(bot, (None, store), carry_over_slots=False) as http:
        await send(http, "set x")
        await send(http, "/session_start")
        await send(http, "and?")
        assert bot.seen[-1][1] == {"city": "Rome", "n": None, "same": 1, "said": None} or (
            bot.seen[-1][1] == {"city": "Rome", "n": None, "same": 1}
        )


@pytest.mark.parametrize("text", ["/session_start", ' /session_start{"a": "b"}'])
async def test_a_session_is_asked_for(text: str) -> None:
    """`/session_start`: behind its own event, slots carried, and the bot has nothing to say."""
    bot = Remembers()
    async with client(bot) as http:
        await send(http, "set a", message_id="m1")
        for _ in range(2):  # a duplicate starts no second one
            answer = await send(http, text, message_id="m2")
            assert (answer.status_code, answer.json()) == (200, [])
        await send(http, "and?")
        found = names(await events(http))
        assert found == [
            *SESSION, "user", "said", "bot",
            "user", "action_session_start", "session_started", "said", "action_listen",
            "user", "bot",
        ]  # fmt: skip
        assert [slots for _, slots in bot.seen] == [{}, {"said": "set a"}]
        assert bot.seen[-1][0] == 5  # the bot sees its session alone


async def test_the_api_starts_sessions_too() -> None:
    """POST messages as a message does, trigger_intent also by the intent; POST events an empty one."""
    async with client() as http:
        root = "/conversations/default/"
        state = (await http.post(root + "messages", json={"sender": "user", "text": "x"})).json()
        assert names(state["events"]) == [*SESSION, "user"]
        answer = await http.post(root + "trigger_intent", json={"name": "session_start"})
        assert answer.json()["messages"] == []
        assert names(answer.json()["tracker"]["events"]) == SESSION
        slot = {"event": "slot", "name": "s", "value": 1}
        state = (await http.post(root + "tracker/events", json=slot)).json()
        assert names(state["events"]) == [*SESSION, "s"]


async def test_a_turn_adds_nothing_of_its_own() -> None:
    """Sessions are the bot server's: `conversations.turn` stores what it is given."""
    async with Conversations() as conversations:
        for _ in range(3):
            async with conversations.turn("a") as turn:
                turn.add({"event": "slot", "name": "s", "value": 1, "timestamp": 1.0})
        full = await conversations.tracker_store.retrieve_full_tracker("a")
        assert names([e.as_dict() for e in full.events]) == ["s"] * 3


async def test_a_long_session_ends() -> None:
    """By events: each turn reads a bounded number; slots, loop and pause go on."""
    bot = Remembers()
    async with client(bot, max_session_events=20, carry_over_slots=False) as http:
        await send(http, "set it")
        await send(http, "loop")
        for i in range(60):
            await send(http, f"{i}", message_id=f"m{i}")
        most = max(seen for seen, _ in bot.seen)
        assert most <= 20 + 6 + 2
        assert all(slots == {"said": "set it"} for _, slots in bot.seen[1:])
        state = (await http.get("/conversations/default/tracker")).json()
        assert state["slots"] == {"said": "set it"}
        assert state["active_loop"]["name"] == "a_form"
        assert state["paused"] is True
        found = await events(http)
        assert 5 <= names(found).count("action_session_start") <= 7
        users = [e["text"] for e in talk(found) if e["event"] == "user"]
        assert users == ["set it", "loop", *map(str, range(60))]


async def test_a_heavy_session_ends() -> None:
    """By bytes; slots that are heavier than that are not written again for less than themselves."""
    seen: list[int] = []

    async def bot(turn: Turn, message: Message) -> AsyncIterator[str]:
        seen.append(turn.size)
        if message.text == "first":
            turn.add({"event": "slot", "name": "large", "value": "x" * 50_000})
        yield "y" * 1000

    async with client(bot, max_session_bytes=10_000) as http:
        await send(http, "first")
        for i in range(150):
            await send(http, f"{i}")
        assert max(seen) < 2 * 60_000
        starts = names(await events(http)).count("action_session_start")
        assert 3 <= starts <= 6


async def test_a_session_of_many_values_ends() -> None:
    """26 messages with 40 KB of empty lists each were one session: 260,000 lists for each turn."""
    async with client() as http:
        for i in range(12):
            lists = {"lists": [[]] * 9_900}
            assert (await send(http, f"{i}", metadata=lists)).status_code == 200
        assert names(await events(http)).count("action_session_start") >= 4


async def test_slots_have_a_bound() -> None:
    """What clients add to the slots cannot grow from session to session; a way out is told."""
    path = "/conversations/default/tracker/events"
    async with client(max_session_bytes=10_000) as http:
        for i in range(20):
            slot = {"event": "slot", "name": f"s{i}", "value": "x" * 2_000}
            answer = await http.post(path, json=slot)
            if answer.status_code != 200:
                break
        assert (answer.status_code, answer.json()["reason"]) == (409, "Conflict")
        assert "action_session_start" in answer.json()["message"]
        assert 5 <= i <= 15
        assert (await http.post(path, json=slot)).status_code == 409
        fresh = [{"event": "action", "name": "action_session_start"}, slot]
        assert (await http.post(path, json=fresh)).status_code == 200
        assert (await http.post(path, json=slot)).status_code == 200
        await send(http, "hello")  # messages go on in any case


async def test_what_is_no_slot_is_not_bound_with_them() -> None:
    """The ids of messages, which a session carries too, are no reason to refuse events."""
    async with client(max_session_events=20, max_session_bytes=10_000) as http:
        for i in range(200):
            await send(http, "x", message_id=f"{i:060}")
        for _ in range(25):
            slot = {"event": "slot", "name": "s", "value": 1}
            answer = await http.post("/conversations/default/tracker/events", json=slot)
            assert answer.status_code == 200, answer.text


class Watched(InMemoryTrackerStore):
    """Counts how often a whole history is read."""

    full = 0

    async def retrieve_full_tracker(self, sender_id: str) -> Tracker | None:
        self.full += 1
        return await super().retrieve_full_tracker(sender_id)


async def test_a_story_of_the_latest_session_reads_that_alone() -> None:
    """Not the history before it."""
    store = Watched()
    async with client(stores=(None, store)) as http:
        for text in ("before", "/session_start", "after"):
            await send(http, text)
        path = "/conversations/default/story"
        story = (await http.get(path)).text
        assert ("before" in story, "after" in story, store.full) == (False, True, 0)
        assert "before" in (await http.get(f"{path}?all_sessions=true")).text


_prefixes = itertools.count()
LOCKS: dict[str, Callable[[EmbeddedRedis], Any]] = {
    "in_memory": lambda redis: InMemoryLockStore(),
    "redis": lambda redis: RedisLockStore(url=redis.url, key_prefix=f"s{next(_prefixes)}"),
}


@pytest.mark.parametrize("locks", LOCKS)
async def test_a_message_is_answered_once_across_sessions(
    locks: str,
    redis_server: EmbeddedRedis,
) -> None:
    """Also where the lock store knows nothing of messages, or has forgotten them."""
    bot = Remembers()
    tracker_store = create_tracker_store({"type": "in_memory"})
    answers = {}
    limits = {"max_session_events": 10}
    async with client(bot, (LOCKS[locks](redis_server), tracker_store), **limits) as http:
        for i in range(20):
            answers[i] = (await send(http, f"{i}", message_id=f"m{i}")).json()
    calls = len(bot.seen)
    async with Conversations(LOCKS[locks](redis_server), tracker_store) as conversations:
        from ticketlock.server import Settings, create_app

        app = create_app(conversations, bot, Settings(**limits))  # type: ignore[arg-type]  # numbers
        for i in range(20):
            message = Message(f"{i}", message_id=f"m{i}")
            assert await app.handler.handle(message) == answers[i]
    assert len(bot.seen) == calls


async def test_ids_are_carried_as_long_as_their_window() -> None:
    """And no longer: what a session begins with does not grow."""
    store = create_tracker_store({"type": "in_memory"})
    async with client(None, (None, store), max_session_events=10, message_window=1) as http:
        for i in range(12):
            await send(http, f"{i}", message_id=f"m{i}")
        full = await store.retrieve_full_tracker("default")
        starts = [e for e in full.events if getattr(e, "name", "") == "action_session_start"]
        assert "m0" in starts[-1].metadata["ticketlock_handled"]
        import asyncio

        await asyncio.sleep(1.1)
        for i in range(12, 18):
            await send(http, f"{i}", message_id=f"m{i}")
        full = await store.retrieve_full_tracker("default")
        starts = [e for e in full.events if getattr(e, "name", "") == "action_session_start"]
        kept = starts[-1].metadata["ticketlock_handled"]
        assert all(int(name[1:]) >= 12 for name in kept)


async def test_the_lock_store_forgets(own_redis: EmbeddedRedis) -> None:
    """Redis is flushed between a message and its duplicate, with a session start between."""
    bot = Remembers()
    import redis

    store = ConcurrentRedisLockStore(url=own_redis.url)
    async with client(bot, (store, None)) as http:
        first = (await send(http, "one", message_id="m1")).json()
        await send(http, "/session_start", message_id="m2")
        with redis.Redis.from_url(own_redis.url) as plain:
            plain.flushall()
        assert (await send(http, "one", message_id="m1")).json() == first
        assert len(bot.seen) == 1


def test_a_history_is_empty_if_no_event_has_an_effect() -> None:
    """Found out from the last event where that tells, for each history of up to four events."""
    kinds: list[dict[str, Any]] = [
        {"event": "action", "name": "action_listen"}, {"event": "user", "text": "hi"},
        {"event": "slot", "name": "a", "value": 1}, {"event": "undo"}, {"event": "rewind"},
        {"event": "restart"}, {"event": "session_started"}, {"event": "unknown"},
    ]  # fmt: skip
    for length in range(5):
        for chosen in itertools.product(kinds, repeat=length):
            tracker = Tracker.from_dict("a", chosen)
            assert _is_empty(tracker) is (not tracker.applied_events()), chosen
