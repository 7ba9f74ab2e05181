"""Submitted messages, the same for every lock store: handled once each, in order, and answered."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from contract.inboxes import STORES, lock_store, serving

from ticketlock import (
    Conversations,
    LockStore,
    QueueFull,
)
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.turn import Turn


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, redis_server: EmbeddedRedis) -> LockStore:
    return lock_store(request.param, redis_server)


async def test_each_is_handled_once_in_order(store: LockStore) -> None:
    async with serving(store) as (conversations, bot):
        receipts = [await conversations.submit("a", f"m{i}", message_id=str(i)) for i in range(10)]
        numbers = [receipt.number for receipt in receipts]
        assert numbers == sorted(set(numbers))
        last = await conversations.outcome("a", "9", wait=10)
        assert (last.state, last.text) == ("replied", '[{"text": "re: m9"}]')
        assert bot.calls == [(f"m{i}", 1) for i in range(10)]
        tracker = await conversations.tracker_store.retrieve("a")
        assert tracker is not None
        assert [event.as_dict()["text"] for event in tracker.events] == [f"m{i}" for i in range(10)]


async def test_the_idempotency_key_of_an_attempt(store: LockStore) -> None:
    """The turn has the number that the sender got; each attempt has a fence of its own."""
    keys: list[tuple[int, int]] = []

    async def handle(turn: Turn, message: Mapping[str, Any]) -> None:
        keys.append((turn.number, turn.fence))
        if message["attempt"] == 1:
            raise ValueError("once")

    async with Conversations(store) as conversations:
        async with conversations.serving(handle, retry_time=0.1):
            receipt = await conversations.submit("a", "m", message_id="1")
            if not conversations.inbox.durable:  # the sender sends it again
                assert (await conversations.outcome("a", "1", wait=10)).state == "failed"
                await conversations.submit("a", "m", message_id="1")
            assert (await conversations.outcome("a", "1", wait=10)).state == "replied"
    assert keys[0][0] == receipt.number
    assert len(keys) == 2
    assert keys[1][1] > keys[0][1]


async def test_what_waits_can_be_listed_and_withdrawn(store: LockStore) -> None:
    async with serving(store) as (conversations, bot):
        await conversations.submit("a", "wait", message_id="1")
        for name in "23":
            await conversations.submit("a", name, message_id=name)
        while not bot.calls:
            await asyncio.sleep(0.01)
        rows = await conversations.inbox.waiting("a")
        assert [(row.message_id, row.running) for row in rows] == [
            ("1", True), ("2", False), ("3", False),
        ]  # fmt: skip
        assert (await conversations.outcome("a", "3")).position == 2
        assert await conversations.withdraw("a", "1") == "begun"
        assert await conversations.withdraw("a", "2") == "withdrawn"
        assert await conversations.withdraw("a", "none") == "unknown"
        bot.open.set()
        assert (await conversations.outcome("a", "3", wait=10)).state == "replied"
        assert (await conversations.outcome("a", "2")).state == "withdrawn"
        assert await conversations.withdraw("a", "3") == "finished"
        assert [text for text, _ in bot.calls] == ["wait", "3"]


@pytest.mark.parametrize("store", ["concurrent_redis"], indirect=True)
async def test_the_position_is_how_many_turns_are_before(store: LockStore) -> None:
    """Where no process serves, beside a turn, and when a message comes again."""
    async with Conversations(store) as idle:
        assert [(await idle.submit("idle", "m", message_id=i)).position for i in "12"] == [0, 1]
        assert (await idle.submit("idle", "m", message_id="2")).position == 1
        assert (await idle.outcome("idle", "2")).position == 1
        await idle.delete("idle")
    async with serving(store) as (conversations, bot):
        places = [(await conversations.submit("a", "wait", message_id=i)).position for i in "123"]
        assert places == [0, 1, 2]
        again = [(await conversations.submit("a", "wait", message_id=i)).position for i in "123"]
        assert again == places
        assert (await conversations.outcome("a", "3")).position == 2
        bot.open.set()
        assert (await conversations.outcome("a", "3", wait=10)).state == "replied"


async def test_bounds(store: LockStore) -> None:
    async with serving(store) as (conversations, bot):
        await conversations.submit("a", "wait", message_id="1")
        await conversations.submit("a", "2", message_id="2", max_waiting=1)
        with pytest.raises(QueueFull):
            await conversations.submit("a", "3", message_id="3", max_waiting=1)
        for wrong in ("", "x" * 257, "\ud800"):
            with pytest.raises(ValueError):  # noqa: PT011  # several texts
                await conversations.submit("a", "x", message_id=wrong)
        with pytest.raises(ValueError, match="bytes"):
            await conversations.submit("a", "x" * 2_000_000, message_id="4")
        for mode in ("reject", "en queue"):
            with pytest.raises(ValueError, match=r"mode is one of .* max_waiting=0"):
                await conversations.submit("a", "x", message_id="5", mode=mode)  # type: ignore[arg-type]
        bot.open.set()
        assert (await conversations.outcome("a", "2", wait=10)).state == "replied"
        assert (await conversations.outcome("a", "3")).state == "unknown"


async def test_a_message_that_fails(store: LockStore, caplog: pytest.LogCaptureFixture) -> None:
    """It ends, with no text of the error, and the next one is handled; the log has the traceback."""
    async with serving(store, max_attempts=2) as (conversations, bot):
        receipt = await conversations.submit("a", "fail", message_id="1")
        await conversations.submit("a", "next", message_id="2")
        assert (await conversations.outcome("a", "2", wait=10)).state == "replied"
        failed = await conversations.outcome("a", "1")
        durable = conversations.inbox.durable
        assert failed.state == ("dead" if durable else "failed")
        assert "secret" not in str(failed)
        calls = [("fail", 1), ("fail", 2)] if durable else [("fail", 1)]
        assert bot.calls == [*calls, ("next", 1)]
        letters = await conversations.inbox.letters("a")
        assert [letter.message_id for letter in letters] == (["1"] if durable else [])
    logged = [one for one in caplog.records if one.exc_info and one.levelname == "ERROR"]
    texts = [one.getMessage() for one in logged]
    start = f"message '1' of conversation 'a', ticket {receipt.number}: attempt"
    assert texts == [f"{start} {n} failed: ValueError" for n in range(1, len(calls) + 1)]
    dead = [text for text in caplog.messages if "is a dead letter after 2 attempts: ValueE" in text]
    assert len(dead) == len(letters)


@pytest.mark.parametrize("store", ["in_memory", "concurrent_redis"], indirect=True)
async def test_a_duplicate_is_not_handled_again(store: LockStore) -> None:
    """Tickets in documents know no messages: there the handler looks at the history."""
    async with serving(store) as (conversations, bot):
        await conversations.submit("a", "wait", message_id="1")
        again = await conversations.submit("a", "wait", message_id="1")
        bot.open.set()
        assert (await conversations.outcome("a", "1", wait=10)).state == "replied"
        late = await conversations.submit("a", "wait", message_id="1")
        await conversations.submit("a", "last", message_id="2")
        assert (await conversations.outcome("a", "2", wait=10)).state == "replied"
        assert [text for text, _ in bot.calls] == ["wait", "last"]
        assert again.number == 0 or again.known
        assert late.number == 0 or late.known


async def test_room_that_is_free_again_is_used_at_once(
    store: LockStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages beyond the room wait for the end of a turn, not for the next look."""
    monkeypatch.setattr("ticketlock.inbox.look._PAUSE", 60.0)
    async with serving(store, room=1) as (conversations, bot):
        await conversations.submit("first", "first", message_id="1")
        assert (await conversations.outcome("first", "1", wait=10)).state == "replied"
        bot.beside = True
        for name in "abc":
            await conversations.submit(name, "wait", message_id="1")
        bot.open.set()
        for name in "abc":
            assert (await conversations.outcome(name, "1", wait=10)).state == "replied"


async def test_submissions_cancelled_before_they_are_sent_take_no_room(store: LockStore) -> None:
    async with serving(store, room=2) as (conversations, _):
        await conversations.submit("a", "first", message_id="1")
        assert (await conversations.outcome("a", "1", wait=10)).state == "replied"
        # What follows is sent after this.
        asked = asyncio.create_task(conversations.outcome("a", "1"))
        submits = [asyncio.create_task(conversations.submit("b", "gone")) for _ in range(4)]
        await asyncio.sleep(0)  # all have begun
        for submit in submits:
            submit.cancel()
        await asyncio.gather(asked, *submits, return_exceptions=True)
        await conversations.submit("c", "last", message_id="1")
        assert (await conversations.outcome("c", "1", wait=10)).state == "replied"


async def test_an_id_that_is_used_again_after_its_window(store: LockStore) -> None:
    """The end of the earlier message is not taken for that of a later one that fails at first."""
    async with Conversations(store) as conversations:
        calls = []

        async def handle(_: Turn, message: Mapping[str, Any]) -> str:
            calls.append((message["text"], message["attempt"]))
            if calls[-1] == ("second", 1):
                raise ValueError
            return message["text"]

        async with conversations.serving(handle, retry_time=0.1):
            await conversations.submit("a", "first", message_id="1", window=0.1)
            assert (await conversations.outcome("a", "1", wait=10)).text == '"first"'
            while (await conversations.outcome("a", "1")).state != "unknown":
                await asyncio.sleep(0.02)
            await conversations.submit("a", "second", message_id="1")
            again = await conversations.outcome("a", "1", wait=10)
            if conversations.inbox.durable:
                assert again.text == '"second"'
                assert calls == [("first", 1), ("second", 1), ("second", 2)]
            else:
                assert again.state == "failed"


async def test_a_message_that_waits_keeps_its_terms(store: LockStore) -> None:
    """How long its turn may last, and how long its id is known."""
    lifetimes = []

    async def handle(turn: Turn, message: Mapping[str, Any]) -> None:
        lifetimes.append(round(turn.grant.expires - turn.grant.granted_at))
        await opened.wait()

    opened = asyncio.Event()
    async with Conversations(store) as conversations, conversations.serving(handle):
        await conversations.submit("a", "first")
        await conversations.submit("a", "long", message_id="1", lock_lifetime=500.0)
        await conversations.submit("a", "brief", message_id="2", window=0.5)
        opened.set()
        assert (await conversations.outcome("a", "2", wait=10)).state == "replied"
        assert lifetimes == [60, 500, 60]
        end = asyncio.get_running_loop().time() + 10
        while (await conversations.outcome("a", "2")).state != "unknown":
            assert asyncio.get_running_loop().time() < end
            await asyncio.sleep(0.05)
        assert (await conversations.outcome("a", "1")).state == "replied"
