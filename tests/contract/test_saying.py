"""Shields of turns, and what a bot says before it is stored: in memory, and on Redis."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from conftest import until
from serving import client, send, talk

from ticketlock import Conversations, Incoming, LockStore
from ticketlock.server import Message
from ticketlock.turn import Turn

pytestmark = pytest.mark.parametrize("make_store", ["in_memory", "concurrent_redis"], indirect=True)


@pytest.fixture
def stores(make_store: Callable[[], LockStore]) -> tuple[Any, Any]:
    return make_store(), None


class Shielded:
    """A bot that stands still in shields until it is let through, and in a call behind them."""

    def __init__(self) -> None:
        self.entered, self.open = asyncio.Event(), asyncio.Event()
        self.left: list[str] = []

    async def __call__(self, turn: Turn, message: Message) -> AsyncIterator[str]:
        if message.text != "first":
            return
        shield = turn.shield()
        yield "begun"
        async with shield:
            async with shield, turn.shield():
                self.entered.set()
                await self.open.wait()
                self.left.append("call")
            await asyncio.sleep(0)
            turn.say("in it")
            yield "yielded in it"
            self.left.append("inner")
        self.left.append("outer")
        yield "never"


async def sent(http: Any, text: str, **more: Any) -> asyncio.Task[Any]:
    task = asyncio.create_task(send(http, text, message_id=text, **more))
    await asyncio.sleep(0.1)
    return task


@pytest.mark.parametrize("policy", ["interrupt", "rollback"])
async def test_a_shield_ends_before_the_bot_does(stores: Any, policy: str) -> None:
    """It is cancelled where it leaves the outermost one, not at its next call."""
    bot = Shielded()
    async with client(bot, stores) as http:
        first = await sent(http, "first")
        await bot.entered.wait()
        second = await sent(http, "second", double_texting=policy)
        assert not first.done()
        bot.open.set()
        answer = await asyncio.wait_for(first, 5)
        if policy == "interrupt":
            assert [r["text"] for r in answer.json()] == ["begun", "in it", "yielded in it"]
        else:
            assert answer.json()["reason"] == "RolledBack"
        assert bot.left == ["call", "inner"]
        assert (await second).status_code == 200


async def test_a_turn_that_is_lost_is_cancelled_in_a_shield(stores: Any) -> None:
    bot = Shielded()
    async with client(bot, stores, lock_lifetime=0.3) as http:
        answer = await asyncio.wait_for(send(http, "first"), 5)
        assert answer.json()["reason"] == "TurnTooSlow"
        assert bot.left == []


@pytest.mark.parametrize("swallowed", [False, True])
async def test_an_exception_in_a_shield(stores: Any, swallowed: bool) -> None:
    """It comes before the cancellation, which is not lost behind it."""
    entered, left = asyncio.Event(), list[str]()

    async def bot(turn: Turn, message: Message) -> AsyncIterator[str]:
        if message.text != "first":
            return
        try:
            async with turn.shield():
                entered.set()
                await asyncio.sleep(0.3)
                raise LookupError
        except LookupError:
            left.append("error")
            if not swallowed:
                raise
        await asyncio.sleep(5)
        yield "never"

    async with client(bot, stores) as http:
        first = await sent(http, "first")
        await entered.wait()
        second = await sent(http, "second", double_texting="interrupt")
        answer = await asyncio.wait_for(first, 5)
        assert answer.status_code == (200 if swallowed else 500)
        assert not swallowed or answer.json() == []
        assert left == ["error"]
        assert (await second).status_code == 200


async def test_tasks_of_a_bot_in_a_shield(stores: Any) -> None:
    """While one of them has entered it, none is cancelled; then all are."""
    entered, ends = asyncio.Event(), list[str]()

    async def bot(turn: Turn, message: Message) -> AsyncIterator[str]:
        async def shielded() -> None:
            async with turn.shield():
                entered.set()
                await asyncio.sleep(0.4)
                ends.append("shielded")
            ends.append("never")

        async def other() -> None:
            try:
                await asyncio.sleep(5)
            except asyncio.CancelledError:
                ends.append("other")
                raise

        if message.text == "first":
            await asyncio.gather(shielded(), other())
        yield "done"

    async with client(bot, stores) as http:
        first = await sent(http, "first")
        await entered.wait()
        second = await sent(http, "second", double_texting="interrupt")
        assert (await asyncio.wait_for(first, 5)).json() == []
        assert ends == ["shielded", "other"]
        assert (await second).json()[0]["text"] == "done"


async def test_say_is_a_reply(stores: Any) -> None:
    """In its place among those that are yielded, at once in streams, stored like them."""
    gate = asyncio.Event()

    async def bot(turn: Turn, message: Message) -> AsyncIterator[Any]:
        turn.say("one")
        yield "two"
        turn.say({"text": "three", "image": "i"})
        await gate.wait()

    wanted = [{"text": "one"}, {"text": "two"}, {"text": "three"}, {"image": "i"}]
    wanted = [{"recipient_id": "default", **reply} for reply in wanted]
    async with client(bot, stores) as http:
        lines = http.app.handler.stream(Message("x", message_id="m"))  # type: ignore[attr-defined]
        heard = [await asyncio.wait_for(anext(lines), 2) for _ in wanted]
        assert heard == wanted
        gate.set()
        assert [line async for line in lines] == []
        assert (await send(http, "x", message_id="m")).json() == wanted
        state = (await http.get("/conversations/default/tracker?include_events=ALL")).json()
        assert [event.get("text") for event in talk(state["events"])] == [
            "x",
            "one",
            "two",
            "three",
        ]


async def test_events_of_an_outcome(stores: Any) -> None:
    """What is said is marked, with its index; then the stored replies come, and the end."""
    gate = asyncio.Event()

    async def bot(turn: Turn, message: Message) -> AsyncIterator[str]:
        await gate.wait()
        turn.say("said")
        await asyncio.sleep(0.2)
        yield "yielded"

    async with client(bot, stores) as http:
        answer = await http.post("/webhooks/rest/webhook?async=true", json={"message": "x"})
        headers = {"accept": "text/event-stream"}
        stream = asyncio.create_task(http.get(answer.json()["outcome"], headers=headers))
        await asyncio.sleep(0.3)
        gate.set()
        blocks = (await asyncio.wait_for(stream, 5)).text.strip().split("\n\n")
        kinds = [block.split("event: ")[1].split("\n")[0] for block in blocks]
        assert kinds == ["state", "provisional", "provisional", "reply", "reply", "end"]
        heard = json.loads(blocks[1].split("data: ")[1])
        assert heard == {
            "provisional": True, "index": 0, "recipient_id": "default", "text": "said",
        }  # fmt: skip


@pytest.mark.parametrize("reply", [5, {"txt": "a"}, {"custom": {1: 2}}])
async def test_what_is_no_reply(stores: Any, reply: Any) -> None:
    """`say` refuses it at its place, and adds nothing; what is not caught fails the turn."""
    caught: list[BaseException] = []

    async def bot(turn: Turn, message: Message) -> AsyncIterator[str]:
        try:
            turn.say(reply)
        except ValueError as error:
            caught.append(error)
            if message.text == "raise":
                raise
        yield "done"

    async with client(bot, stores) as http:
        assert [r["text"] for r in (await send(http, "catch")).json()] == ["done"]
        assert (await send(http, "raise")).status_code == 500
        assert len(caught) == 2


async def test_a_shield_of_an_embedder(make_store: Callable[[], LockStore]) -> None:
    """`until_superseded` returns once the shield is left; `superseded` says it before."""
    async with Conversations(make_store()) as conversations:
        with pytest.raises(RuntimeError, match="inside its `with` block"):
            conversations.turn("c").shield()
        async with conversations.turn("c") as turn:
            watching: asyncio.Task[object] = asyncio.create_task(turn.grant.until_superseded())
            later = conversations.turn("c", incoming=Incoming("m", supersede="interrupt"))
            async with turn.shield():
                await later.queue()
                await until(lambda: turn.grant.superseded == "interrupt", "it is asked to stop")
                await asyncio.sleep(0.05)
                assert not watching.done()
            assert await asyncio.wait_for(watching, 1) == "interrupt"
            turn.ensure_held()
        later.withdraw()


def test_turns_of_threads(make_store: Callable[[], LockStore]) -> None:
    """`say` calls `on_say` and stores; a shield is an error that says why."""
    heard: list[Any] = []
    with Conversations(make_store()).sync() as twin:
        with twin.turn("c") as turn:
            turn.on_say = heard.append
            turn.say("a")
            assert [event.text for event in heard] == ["a"]
            with pytest.raises(RuntimeError, match="a thread is not cancelled"):
                turn.shield()
        tracker = twin.retrieve("c")
        assert tracker is not None
        assert [event.as_dict()["text"] for event in tracker.events] == ["a"]
