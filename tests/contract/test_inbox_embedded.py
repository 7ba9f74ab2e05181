"""What an embedding program has of the inbox: replies, marks, threads, and how often it serves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from contract.inboxes import STORES, lock_store, serving

from ticketlock import Conversations, LockStore, LockStoreConnectionError
from ticketlock.deliveries.delivery import Delivery
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.turn import Turn


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, redis_server: EmbeddedRedis) -> LockStore:
    return lock_store(request.param, redis_server)


async def test_replies_are_passed_on_in_order(store: LockStore) -> None:
    """`on_reply` gets each, and again if it failed."""
    heard: list[tuple[int, str]] = []

    async def on_reply(delivery: Delivery) -> None:
        heard.append((delivery.attempt, delivery.replies[0]["text"]))
        if len(heard) == 2:
            raise OSError

    async with serving(store, on_reply=on_reply) as (conversations, _):
        for i in range(3):
            await conversations.submit("a", str(i), message_id=str(i))
        for _ in range(200):
            if len(heard) == 4:
                break
            await asyncio.sleep(0.05)
    assert heard == [(1, "re: 0"), (1, "re: 1"), (2, "re: 1"), (1, "re: 2")]


@pytest.mark.parametrize("mark", ["of my own", "[1]", '{"1": 7}', "[" * 60_000])
async def test_marks_of_the_embedding_program(store: LockStore, mark: str) -> None:
    async with serving(store) as (conversations, _):
        async with conversations.turn("a") as turn:
            turn.add({"event": "user", "text": "before"})
            await turn.commit(mark)
        await conversations.submit("a", "hi", message_id="1")
        assert (await conversations.outcome("a", "1", wait=10)).state == "replied"


@pytest.mark.parametrize("reply", ["text", ["a", "b"], [{"text": "a"}, 1], {"text": "a"}])
async def test_any_reply_is_passed_on(store: LockStore, reply: Any) -> None:
    heard: asyncio.Queue[Delivery] = asyncio.Queue()

    async def handle(_: Turn, __: Mapping[str, Any]) -> Any:
        return reply

    async with Conversations(store) as conversations:
        async with conversations.serving(handle, on_reply=heard.put):
            await conversations.submit("a", "hi")
            delivery = await asyncio.wait_for(heard.get(), 10)
            assert delivery.replies == ({"reply": reply},)


async def test_conversations_are_served_once(store: LockStore) -> None:
    """A second `serving` would end the first one with its own end."""
    async with serving(store) as (conversations, bot):
        with pytest.raises(RuntimeError, match="served already"):
            async with conversations.serving(bot):
                raise AssertionError("it was entered")
        await conversations.submit("a", "m", message_id="1")
        assert (await conversations.outcome("a", "1", wait=10)).state == "replied"
    async with Conversations(store) as again, again.serving(bot):
        pass


def test_threads_submit(store: LockStore) -> None:
    """A thread takes a message, asks what became of it, and takes it back."""
    with Conversations(store).sync() as conversations:
        if not conversations.conversations.inbox.durable:  # no other process can serve it
            with pytest.raises(LockStoreConnectionError, match=r"enter .*serving"):
                conversations.submit("a", "hi")
            return
        receipt = conversations.submit("a", "hi", message_id="1")
        assert (receipt.known, receipt.position) == (False, 0)
        assert conversations.submit("a", "hi", message_id="1").known
        assert conversations.outcome("a", "1").state == "waiting"
        assert conversations.withdraw("a", "1") == "withdrawn"
        assert conversations.outcome("a", "1", wait=5).state == "withdrawn"
        conversations.submit("a", "tea", message_id="2", name="tea", after=60)
        assert [one.name for one in conversations.due("a")] == ["tea"]
        assert conversations.cancel("a", "tea") == "cancelled"
        assert conversations.cancel("a", "tea") == "unknown"
        with pytest.raises(ValueError, match="mode"):
            conversations.submit("a", "hi", mode="foo")


async def test_a_message_that_is_known_is_handled_once(store: LockStore) -> None:
    """While it waits, while it runs, and when it is finished."""
    async with serving(store) as (conversations, bot):
        first = await conversations.submit("a", "wait", message_id="1")
        second = await conversations.submit("a", "2", message_id="2")
        assert [first.known, second.known] == [False, False]
        while not bot.calls:
            await asyncio.sleep(0.01)
        for name in "12":
            assert (await conversations.submit("a", "again", message_id=name)).known
        bot.open.set()
        assert (await conversations.outcome("a", "2", wait=10)).state == "replied"
        for name in "12":
            assert (await conversations.submit("a", "again", message_id=name)).known
        await conversations.submit("a", "last", message_id="3")
        assert (await conversations.outcome("a", "3", wait=10)).state == "replied"
        assert [text for text, _ in bot.calls] == ["wait", "2", "last"]


@pytest.mark.parametrize(
    ("mode", "stored"), [("interrupt", ["wait", "last"]), ("rollback", ["last"])]
)
async def test_a_later_message_stops_the_handler(
    store: LockStore, mode: Any, stored: list[str]
) -> None:
    """It is cancelled; what it has added is stored, or discarded, and on_reply gets no reply of it."""
    heard: list[str] = []

    async def on_reply(delivery: Delivery) -> None:
        heard.append(delivery.message_id)

    async with serving(store, on_reply=on_reply) as (conversations, bot):
        await conversations.submit("a", "wait", message_id="1")
        while not bot.calls:
            await asyncio.sleep(0.01)
        if not store.keeps_messages:
            with pytest.raises(ValueError, match="supports only enqueue"):
                await conversations.submit("a", "last", message_id="2", mode=mode)
            bot.open.set()
            return
        await conversations.submit("a", "last", message_id="2", mode=mode)
        first = await conversations.outcome("a", "1", wait=10)
        last = await conversations.outcome("a", "2", wait=10)
        assert (first.state, first.text) == ("replied", "null")
        assert (last.state, last.text) == ("replied", '[{"text": "re: last"}]')
        assert bot.calls == [("wait", 1), ("last", 1)]
        tracker = await conversations.tracker_store.retrieve("a")
        assert tracker is not None
        assert [event.as_dict()["text"] for event in tracker.events] == stored
        while not heard:
            await asyncio.sleep(0.01)
        assert heard == ["2"]


async def test_a_handler_that_is_not_asynchronous(caplog: pytest.LogCaptureFixture) -> None:
    """The log says what to write; the message is not handled."""

    def handle(_: Turn, __: Mapping[str, Any]) -> Any:
        return "hello"

    async with Conversations() as conversations:
        async with conversations.serving(handle):
            await conversations.submit("a", "hi", message_id="1")
            assert (await conversations.outcome("a", "1", wait=10)).state == "failed"
    assert "it returned str: write `async def handle(turn, message)`" in caplog.text


async def test_what_is_no_message() -> None:
    conversations: Any = Conversations()
    with pytest.raises(ValueError, match="a message is text, or a mapping with text, not 5"):
        await conversations.submit("a", 5)
