"""Messages, turns and errors: what the server answers, and what it keeps."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from conftest import until
from serving import Gate, client, send, talk

from ticketlock.server import Message
from ticketlock.server.errors import (
    Draining,
)
from ticketlock.turn import Turn

ERROR_KEYS = {"version", "status", "message", "reason", "details", "help", "code"}


async def events(http: Any, sender: str = "default") -> list[dict[str, Any]]:
    state = (await http.get(f"/conversations/{sender}/tracker?include_events=ALL")).json()
    return talk(state["events"])


async def test_a_message(run: Callable[..., None]) -> None:
    """The reply is the bot's, and both events are stored with what the channel said."""
    async with client() as http:
        more = {"sender": "ä/b", "input_channel": "web", "metadata": {"k": 1}}
        answer = await send(http, "hello", message_id="m1", **more)
        assert answer.status_code == 200
        assert answer.json() == [{"recipient_id": "ä/b", "text": "hello"}]
        user, bot = await events(http, "%C3%A4/b")
        assert user["text"] == "hello"
        assert (user["message_id"], user["input_channel"]) == ("m1", "web")
        assert user["metadata"] == {"k": 1}
        assert user["parse_data"]["message_id"] == "m1"
        assert bot["text"] == "hello"


async def test_a_duplicate_gets_the_first_reply(run: Callable[..., None]) -> None:
    """By `message_id` or `Idempotency-Key`; the bot is not called, nothing is stored twice."""
    calls: list[str] = []

    async def bot(turn: Turn, message: Message) -> AsyncIterator[Any]:
        calls.append(message.message_id)
        yield f"call {len(calls)}\n\nmore"
        turn.add({"event": "slot", "name": "n", "value": len(calls)})
        yield {"text": "which?", "buttons": [{"title": "a", "payload": "/a"}]}

    async with client(bot) as http:
        first = (await send(http, "x", message_id="m1")).json()
        assert len(first) == 3
        await send(http, "between")
        assert (await send(http, "x", message_id="m1")).json() == first
        for params in ({}, {"stream": "true"}):
            again = await http.post(
                "/webhooks/rest/webhook", json={"message": "x"}, params=params,
                headers={"idempotency-key": "m1"},
            )  # fmt: skip
            lines = again.text.splitlines() if params else [json.dumps(x) for x in again.json()]
            assert [json.loads(line) for line in lines] == first
        other = (await send(http, "x", message_id="m1", sender="other")).json()
        assert other[0]["text"] == "call 3"  # another conversation's id
        assert len(calls) == 3
        assert len(await events(http)) == 2 * 4


async def test_the_window_of_duplicates_ends(run: Callable[..., None]) -> None:
    """An id that is older than the window is a new message."""
    async with client(message_window=0.1) as http:
        await send(http, "x", message_id="m1")
        await asyncio.sleep(0.12)
        await send(http, "x", message_id="m1")
        assert len(await events(http)) == 4


async def test_an_error_is_an_error(run: Callable[..., None]) -> None:
    """A bot that raises is answered 500, stored nothing, and its text is not shown.

    The reference answers 200 with no replies.
    """

    async def bot(turn: Turn, message: Message) -> AsyncIterator[Any]:
        yield "half"
        if message.text == "raise":
            raise RuntimeError("password hunter2")
        if message.text == "no reply":
            yield 5
        if message.text == "no event":
            turn.add({"event": "slot", "name": "s", "value": object})
        if message.text == "swallow":
            turn.add({"no": "event"})

    async with client(bot) as http:
        for text in ("raise", "no reply", "no event", "swallow"):
            answer = await send(http, text, message_id=text)
            assert answer.status_code == 500, text
            assert answer.json()["reason"] == "ConversationError"
            assert set(answer.json()) == ERROR_KEYS
            assert "hunter2" not in answer.text
        assert await events(http) == []
        assert (await send(http, "fine", message_id="raise")).json()[0]["text"] == "half"


async def test_a_stream_ends_after_an_error(run: Callable[..., None]) -> None:
    """Its last line is the error. The reference's stream never ends."""

    async def bot(turn: Turn, message: Message) -> AsyncIterator[str]:
        if message.text == "at once":
            raise RuntimeError
        yield "half"
        raise RuntimeError

    async with client(bot) as http:
        post = {"url": "/webhooks/rest/webhook?stream=true"}
        answer = await http.post(**post, json={"message": "later"})
        half, error = [json.loads(line) for line in answer.text.splitlines()]
        assert half == {"recipient_id": "default", "text": "half"}
        assert (error["status"], error["code"]) == ("failure", 500)
        answer = await http.post(**post, json={"message": "at once"})
        assert (answer.status_code, answer.json()["code"]) == (500, 500)


async def test_a_stream_of_a_bot_that_drops_events(run: Callable[..., None]) -> None:
    """The reply at which there are fewer events than before is not heard at once, but the next ones are."""

    async def bot(turn: Turn, message: Message) -> AsyncIterator[Any]:
        yield "one"
        turn.add({"event": "action", "name": "action_session_start"})
        turn.tracker.forget_earlier_sessions()
        for reply in ("two", "three", "four"):
            yield reply

    async with client(bot) as http:
        lines = http.app.handler.stream(Message("x", message_id="m"))
        assert [line["text"] async for line in lines] == ["one", "three", "four"]


async def test_a_ticket_is_told_before_the_turn_comes(run: Callable[..., None]) -> None:
    """Its line comes while another message is being handled; a duplicate gets no second ticket."""
    gate = Gate()
    async with client(gate, max_waiting=1) as http:
        handler = http.app.handler  # type: ignore[attr-defined]  # see serving.client
        streams = [
            handler.stream(Message(name, message_id=name), ticket=True)
            for name in ("one", "two", "two")
        ]
        assert [await anext(stream) for stream in streams] == [
            {"ticket": 1},
            {"ticket": 2},
            {"ticket": 0},
        ]
        post = {"url": "/webhooks/rest/webhook?ticket=true"}
        full = await http.post(**post, json={"message": "three"})
        assert (full.status_code, full.json()["reason"]) == (429, "QueueFull")
        await asyncio.wait_for(gate.entered.wait(), 10)
        assert gate.texts == ["one"]
        gate.open.set()
        for stream, name in zip(streams, ("one", "two", "two"), strict=True):
            assert [reply["text"] async for reply in stream] == ["begun", f"done: {name}"]
        answer = await http.post(**post, json={"message": "one", "message_id": "one"})
        assert [json.loads(line) for line in answer.text.splitlines()] == [
            {"ticket": 0},
            {"recipient_id": "default", "text": "begun"},
            {"recipient_id": "default", "text": "done: one"},
        ]


async def test_a_ticket_goes_back_when_the_server_is_stopped(run: Callable[..., None]) -> None:
    """Told or not: its line is followed by the error that says to send the message again."""
    gate = Gate()
    async with client(gate, drain_timeout=5) as http:
        handler = http.app.handler  # type: ignore[attr-defined]  # see serving.client
        first, second = (handler.stream(Message(x), ticket=True) for x in ("one", "two"))
        assert await anext(first) == {"ticket": 1}
        assert await anext(second) == {"ticket": 2}
        await gate.entered.wait()
        draining = asyncio.create_task(http.app.drain())  # type: ignore[attr-defined]  # see serving.client
        with pytest.raises(Draining):
            await anext(second)
        gate.open.set()
        assert [reply["text"] async for reply in first] == ["begun", "done: one"]
        await draining
        assert gate.texts == ["one"]


async def test_a_timeout_loses_nothing(run: Callable[..., None]) -> None:
    """504 with Retry-After; the turn goes on, and the same id waits for and gets its reply."""
    gate = Gate()
    async with client(gate, request_timeout=0.1) as http:
        answer = await send(http, "slow", message_id="m1")
        assert answer.status_code == 504
        assert int(answer.headers["retry-after"]) >= 1
        streamed = await http.post(
            "/webhooks/rest/webhook?stream=true", json={"message": "s", "sender": "other"}
        )
        assert json.loads(streamed.text.splitlines()[-1])["code"] == 504
        gate.open.set()
        jobs = http.app.handler.jobs  # type: ignore[attr-defined]  # see serving.client
        await until(lambda: not jobs.running, "the turns end")
        answer = await send(http, "slow", message_id="m1")
        assert [r["text"] for r in answer.json()] == ["begun", "done: slow"]
        assert gate.texts == ["slow", "s"]


async def test_a_request_that_goes_does_not_take_its_message_along(
    run: Callable[..., None],
) -> None:
    """A cancelled request's turn goes on to its end; also while it still waits."""
    gate = Gate()
    async with client(gate) as http:
        requests = [asyncio.create_task(send(http, "a", message_id="a"))]
        await gate.entered.wait()
        requests.append(asyncio.create_task(send(http, "b", message_id="b")))
        jobs = http.app.handler.jobs  # type: ignore[attr-defined]  # see serving.client
        await until(lambda: jobs.waiting == 1, "the second waits")
        for request in requests:
            request.cancel()
        await asyncio.wait(requests)
        gate.open.set()
        await until(lambda: not jobs.running + jobs.waiting, "both end")
        texts = [event["text"] for event in await events(http)]
        assert texts == ["a", "begun", "done: a", "b", "begun", "done: b"]


async def test_policies_and_queue_length(run: Callable[..., None]) -> None:
    """`reject` answers 409 at once; more than `max_waiting` in the queue are answered 429."""
    gate = Gate()
    async with client(gate, max_waiting=1) as http:
        first = asyncio.create_task(send(http, "a"))
        await gate.entered.wait()
        rejected = await send(http, "b", double_texting="reject")
        assert (rejected.status_code, rejected.json()["reason"]) == (409, "Busy")
        second = asyncio.create_task(send(http, "c"))
        jobs = http.app.handler.jobs  # type: ignore[attr-defined]  # see serving.client
        await until(lambda: jobs.waiting == 1, "it waits")
        full = await send(http, "d")
        assert (full.status_code, full.json()["reason"]) == (429, "QueueFull")
        assert int(full.headers["retry-after"]) >= 1
        assert (await send(http, "e", double_texting="drop")).status_code == 400
        gate.open.set()
        assert [(await one).status_code for one in (first, second)] == [200, 200]
        assert gate.texts == ["a", "c"]


async def test_draining(run: Callable[..., None]) -> None:
    """What has begun ends; what waits, and what comes, is sent away with Retry-After."""
    gate = Gate()
    async with client(gate) as http:
        jobs = http.app.handler.jobs  # type: ignore[attr-defined]  # see serving.client
        first = asyncio.create_task(send(http, "a"))
        await gate.entered.wait()
        second = asyncio.create_task(send(http, "b"))
        await until(lambda: jobs.waiting == 1, "it waits")
        assert (await http.get("/ready")).status_code == 200
        draining = asyncio.create_task(http.app.drain())  # type: ignore[attr-defined]  # as above
        for answer in (await second, await send(http, "c")):
            assert (answer.status_code, answer.json()["reason"]) == (503, "Draining")
            assert answer.headers["retry-after"] == "1"
            assert answer.headers["connection"] == "close"
        assert (await http.get("/ready")).status_code == 503
        alive = await http.get("/health")
        assert (alive.status_code, alive.headers["connection"]) == (200, "close")
        gate.open.set()
        await draining
        assert (await first).json()[-1]["text"] == "done: a"
        assert gate.texts == ["a"]


async def test_draining_ends_at_its_deadline(run: Callable[..., None]) -> None:
    """The turn is taken from the bot, which leaves nothing; the sender is told to come again."""
    gate = Gate()
    async with client(gate, drain_timeout=0.05) as http:
        first = asyncio.create_task(send(http, "a"))
        await gate.entered.wait()
        await http.app.drain()  # type: ignore[attr-defined]  # see serving.client
        assert (await first).status_code == 503
        assert await events(http) == []


async def test_a_bot_that_is_cancelled_by_another_has_not_answered(
    run: Callable[..., None],
) -> None:
    """What it awaits was cancelled: that is an error, nothing is stored, and it is tried again."""
    calls: list[str] = []

    async def bot(turn: Turn, message: Message) -> AsyncIterator[Any]:
        calls.append(message.text)
        yield "half"
        if len(calls) == 1:
            shared = asyncio.create_task(asyncio.sleep(30))
            asyncio.get_running_loop().call_soon(shared.cancel)
            await shared
        yield "whole"

    async with client(bot) as http:
        failed = await send(http, "x", message_id="m1")
        assert (failed.status_code, failed.json()["reason"]) == (500, "ConversationError")
        assert await events(http) == []
        again = await send(http, "x", message_id="m1")
        assert [reply["text"] for reply in again.json()] == ["half", "whole"]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
async def test_a_bot_cannot_end_the_server(
    kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """What would end a program is the failure of one message, answered like any other."""

    async def bot(turn: Turn, message: Message) -> AsyncIterator[Any]:
        yield "half"
        if message.text == "end":
            raise kind("enough")

    async with client(bot) as http:
        failed = await send(http, "end", message_id="m1")
        assert (failed.status_code, failed.json()["reason"]) == (500, "ConversationError")
        assert await events(http) == []
        assert (await send(http, "go on", message_id="m2")).status_code == 200
    assert f"{kind.__name__}('enough')" in caplog.text


async def test_a_lost_lock_is_no_empty_reply(run: Callable[..., None]) -> None:
    """503: nothing was stored. The reference answers 200 with no replies."""
    gate = Gate()
    async with client(gate, admin_token="it-breaks") as http:
        first = asyncio.create_task(send(http, "a"))
        await gate.entered.wait()
        inspected = (await http.get("/conversations/default/lock")).json()
        fence = inspected["holder"]["fence"]
        assert inspected["holder"]["label"]  # the message's id
        path = "/conversations/default/lock?token=it-breaks&fence="
        assert (await http.delete(f"{path}{fence + 1}")).status_code == 404
        assert (await http.delete(f"{path}1.5")).status_code == 400
        assert (await http.delete(f"{path}{fence}")).json() == {"broken": True}
        answer = await first
        assert (answer.status_code, answer.json()["reason"]) == (503, "LockLost")
        assert await events(http) == []
