"""Calls of actions over the wire: what is sent, and what becomes of answers with bad manners."""

from __future__ import annotations

import asyncio
import json
import ssl
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import until
from servers.certificates import Certificates
from servers.deliveries import Flood, Receiver, Reply
from servers.processes import free_port

from ticketlock import (
    ActionError,
    ActionFailed,
    ActionServerConnectionError,
    ConfigurationError,
    Conversations,
    Domain,
    LockLost,
)
from ticketlock.actions.settings import COMPRESS
from ticketlock.events import ActionExecuted, UserUttered


def http(body: Any, status: int = 200) -> bytes:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(text), text)


NOTHING: dict[str, Any] = {"events": [], "responses": []}


@asynccontextmanager
async def called(*replies: int | bytes | Reply, **keys: Any) -> AsyncIterator[tuple[Any, Receiver]]:
    """Conversations with an action server that gives these answers."""
    async with Receiver().serving() as receiver:
        receiver.replies += replies
        section = {"url": receiver.url, **keys}
        async with Conversations(action_endpoint=section) as conversations:
            yield conversations, receiver


async def test_what_is_sent() -> None:
    """The documented keys, the state before the action, and headers that name the call."""
    async with called(*[http(NOTHING)] * 3, headers={"X-Mine": "1"}, token="t") as (convs, server):
        for sender_id in ("anna/ü", "bert"):
            async with convs.turn(sender_id) as turn:
                turn.add(UserUttered("no"), {"event": "rewind"})
                turn.add(UserUttered("hi", input_channel="rest"))
                state = turn.tracker.current_state()
                await turn.run_action("action_x")
                if sender_id == "bert":
                    await turn.run_action("action_y")
                fence, number = turn.fence, turn.number
    first, second, third = server.received
    body = json.loads(first.body)
    assert set(body) == {"next_action", "sender_id", "tracker", "domain", "version"}
    assert (body["next_action"], body["sender_id"]) == ("action_x", "anna/ü")
    assert body["domain"] == Domain.from_dict({}).as_dict()
    events = body["tracker"].pop("events")
    assert [event.get("text", event["event"]) for event in events] == ["no", "rewind", "hi"]
    sent = json.loads(second.body)["tracker"]
    assert {**sent, "events": None} == state
    assert first.target == "POST /bot?token=t HTTP/1.1"
    assert first.headers["x-mine"] == "1"
    assert first.headers["content-type"] == "application/json"
    assert first.headers["ticketlock-conversation"] == "anna%2F%C3%BC"
    keys = [one.headers["idempotency-key"] for one in server.received]
    assert len(set(keys)) == 3
    assert [key.partition("-")[2] for key in keys[1:]] == [f"{fence}-action-1", f"{fence}-action-2"]
    assert third.headers["ticketlock-number"] == str(number)
    assert third.headers["ticketlock-call"] == "2"


async def test_compressed_as_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COMPRESS, "True")
    async with called(http(NOTHING)) as (conversations, server):
        async with conversations.turn("c") as turn:
            await turn.run_action("action_x")
    (one,) = server.received
    assert one.headers["content-encoding"] == "deflate"
    assert json.loads(zlib.decompress(one.body))["next_action"] == "action_x"


async def test_the_order_of_what_follows() -> None:
    """As documented: the action, what it says, its events; an event without a time gets one."""
    events = [{"event": "slot", "name": "s", "value": 1, "timestamp": None}, {"event": "rewind"}]
    answer = {"events": events, "responses": [{"text": "one"}, {"text": "two", "buttons": []}]}
    async with called(http(answer)) as (conversations, _):
        async with conversations.turn("c") as turn:
            heard: list[Any] = []
            turn.on_say = lambda event: heard.append(event.text)
            added = await turn.run_action("action_x", policy="p", confidence=0.5)
        kept = (await conversations.tracker_store.retrieve("c")).events
    assert heard == ["one", "two"]
    assert added == kept
    assert [event.type_name for event in kept] == ["action", "bot", "bot", "slot", "rewind"]
    assert isinstance(kept[0], ActionExecuted)
    assert (kept[0].name, kept[0].policy, kept[0].confidence) == ("action_x", "p", 0.5)
    times = [event.timestamp for event in kept]
    assert times == sorted(times)


async def test_an_action_that_rejects_itself_by_an_event_was_not_executed() -> None:
    event = {"event": "action_execution_rejected", "name": "action_x"}
    async with called(http({"events": [event]})) as (conversations, _):
        async with conversations.turn("c") as turn:
            (added,) = await turn.run_action("action_x")
    assert added.type_name == "action_execution_rejected"


WRONG: list[tuple[Any, str]] = [
    (b"<html>hidden</html>", "its answer: is not JSON"),
    (b"[" * 100_000, "its answer: is not JSON"),
    ([1], r"its answer: is \[1\], not an object"),
    (None, "its answer: is None, not an object"),
    ({"events": {}}, r"events is \{\}, not a list"),
    ({"responses": "a"}, "responses is 'a', not a list"),
    ({"events": [{"event": "slot", "value": 1}]}, r"events: event 0 \('slot'\): name is missing"),
    ({"events": [{"event": "slot", "name": 5, "value": 1}]}, "name is 5, not a text"),
    ({"events": [{"event": "restart"}, 5]}, "events: event 1: not a mapping"),
    ({"events": [{"event": "active_loop", "name": []}]}, r"name is \[\], not a text or null"),
    (b'{"events": [{"event": "slot", "name": "s", "value": NaN}]}', "not plain JSON"),
    ({"events": [{"event": "pause"}] * 5001, "responses": [{"text": "a"}] * 5000}, "has 10001 events"),
    ({"responses": [5]}, r"responses\[0\] is 5, not an object"),
    ({"responses": [{}, {"text": 5}]}, r"responses\[1\].text is 5, not a text"),
    ({"responses": [{"buttons": "b"}]}, r"responses\[0\].buttons is 'b', not a list"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "says"), WRONG)
async def test_a_wrong_answer_is_named_and_adds_nothing(answer: Any, says: str) -> None:
    async with called(http(answer)) as (conversations, _):
        async with conversations.turn("c") as turn:
            with pytest.raises(ActionFailed, match=says) as caught:
                await turn.run_action("action_x")
            assert not turn.tracker.events
    assert caught.value.action == "action_x"
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (http(b"", 204), "is not JSON"),
        (http({"error": "Invalid body request"}, 400), "answered 400: Invalid body request"),
        (http(b"", 401), "check token, headers or basic_auth in action_endpoint"),
        (http(b"not found", 404), "answered 404: check the path of url in action_endpoint"),
        (http({"error": "e" * 5000, "request_body": {}}, 500), "answered 500: e{300}$"),
        (http(b"", 500), "answered 500: its log says why"),
    ],
)  # fmt: skip
async def test_a_status_says_what_to_do(reply: bytes, says: str) -> None:
    async with called(reply) as (conversations, server):
        async with conversations.turn("c") as turn:
            with pytest.raises(ActionFailed, match=says):
                await turn.run_action("action_x")
    assert len(server.received) == 1


async def test_redirects_are_not_followed() -> None:
    """They would take the token, and the conversation, elsewhere."""
    async with Receiver().serving() as other:
        reply = f"HTTP/1.1 307 X\r\nlocation: {other.url}\r\ncontent-length: 0\r\n\r\n".encode()
        async with called(reply) as (conversations, _):
            async with conversations.turn("c") as turn:
                with pytest.raises(ActionFailed, match="307: redirects are not followed"):
                    await turn.run_action("action_x")
    assert not other.received


async def test_a_huge_answer_is_not_read() -> None:
    flood = Flood()
    async with called(flood, max_response=100_000) as (conversations, _):
        async with conversations.turn("c") as turn:
            with pytest.raises(
                ActionFailed, match=r"more than 100000 bytes: .* raise max_response"
            ):
                await turn.run_action("action_x")
    assert flood.sent < 100 << 20


async def _drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    for _ in range(1000):
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


class Hang:
    """An answer that does not come.

    Attributes:
        closed: set when the caller closes the connection.
    """

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        finally:
            self.closed.set()


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (b"", "closed the connection before its answer ended"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc", "closed the connection before"),
        (b"SSH-2.0\r\n\r\n", "the answer is not valid HTTP"),
        (_drip, "no answer within 0.5 s"),
        (Hang(), "no answer within 0.5 s"),
    ],
)
async def test_no_whole_answer_and_the_call_is_not_made_again(
    reply: bytes | Reply, says: str
) -> None:
    """The action may have run: one call, and an error that says so."""
    async with called(reply, timeout=0.5, token="hidden") as (conversations, server):
        async with conversations.turn("c") as turn:
            with pytest.raises(ActionServerConnectionError, match=says) as caught:
                await turn.run_action("action_x")
            assert not turn.tracker.events
    assert caught.value.sent
    assert "the action may have run" in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert len(server.received) == 1


async def test_a_refused_call_is_made_again_until_the_server_is_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "ticketlock.actions")
    receiver = Receiver()
    receiver.port = free_port()
    receiver.replies.append(http(NOTHING))
    section = {"url": receiver.url, "retry_for": 30}
    async with Conversations(action_endpoint=section) as conversations:
        async with conversations.turn("c") as turn:
            calling = asyncio.create_task(turn.run_action("action_x"))
            await until(lambda: "is tried again" in caplog.text, "the first try has failed")
            async with receiver.serving():
                await calling
    assert len(receiver.received) == 1


async def test_a_certificate_that_is_not_trusted_is_no_call(tmp_path: Path) -> None:
    """One that has expired, for instance: accepted messages wait until it is renewed."""
    made = Certificates(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made["expired.pem"], made["expired.key"])
    async with Receiver().serving(context) as receiver:
        url = receiver.url.replace("http:", "https:")
        section = {"url": url, "cafile": made["ca.pem"], "retry_for": 0.3}
        async with Conversations(action_endpoint=section) as conversations:
            async with conversations.turn("c") as turn:
                with pytest.raises(
                    ActionServerConnectionError, match="certificate has expired"
                ) as caught:
                    await turn.run_action("action_x")
    assert not caught.value.sent
    assert "may have run" not in str(caught.value)
    assert not receiver.received


@pytest.mark.parametrize("place", ["http://127.0.0.1:{}/webhook", "http://name.invalid:{}/webhook"])
async def test_retries_are_bounded(place: str) -> None:
    section = {"url": place.format(free_port()), "retry_for": 0.3}
    async with Conversations(action_endpoint=section) as conversations:
        async with conversations.turn("c") as turn:
            with pytest.raises(ActionServerConnectionError, match="check url in action_") as caught:
                await turn.run_action("action_x")
    assert not caught.value.sent


async def test_a_cancelled_call_closes_its_connection() -> None:
    """So a server that watches it can stop; nothing is added to the turn."""
    hang = Hang()
    async with called(hang) as (conversations, server):
        async with conversations.turn("c") as turn:
            calling = asyncio.create_task(turn.run_action("action_x"))
            await until(lambda: server.received, "it is called")
            calling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await calling
            await asyncio.wait_for(hang.closed.wait(), 10)
            assert not turn.tracker.events


async def test_a_lost_turn_ends_its_call() -> None:
    hang = Hang()
    async with called(hang) as (conversations, _):
        with pytest.raises(LockLost):
            async with conversations.turn("c", lock_lifetime=0.3) as turn:
                await turn.run_action("action_x")
        await asyncio.wait_for(hang.closed.wait(), 10)
        assert await conversations.tracker_store.retrieve("c") is None


async def test_without_an_action_server() -> None:
    async with Conversations() as conversations, conversations.turn("c") as turn:
        with pytest.raises(
            ConfigurationError, match=r"action_endpoint of the endpoints.yml is miss"
        ):
            await turn.run_action("action_x")


async def test_tls_with_a_certificate_of_the_client(tmp_path: Path) -> None:
    """A server that wants one; without it nothing is called, and nothing is tried again."""
    made = Certificates(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=made["ca.pem"])
    context.load_cert_chain(made["server.pem"], made["server.key"])
    context.verify_mode = ssl.CERT_REQUIRED
    async with Receiver().serving(context) as receiver:
        receiver.replies.append(http(NOTHING))
        url = receiver.url.replace("http:", "https:")
        own = {"certfile": made["client.pem"], "keyfile": made["client.key"]}
        keys: list[dict[str, Any]] = [
            {"cafile": made["ca.pem"], **own},
            {},
            {"cafile": made["ca.pem"]},
        ]
        for number, more in enumerate(keys):
            async with Conversations(action_endpoint={"url": url, **more}) as conversations:
                async with conversations.turn(f"c{number}") as turn:
                    if not number:
                        await turn.run_action("action_x")
                        continue
                    with pytest.raises(ActionError):
                        await asyncio.wait_for(turn.run_action("action_x"), 20)
    assert len(receiver.received) == 1


def test_a_thread_runs_actions(run: Callable[..., None]) -> None:
    """The listener is called in the thread itself."""
    import threading

    async def body() -> None:
        async with Receiver().serving() as receiver:
            receiver.replies.append(http({"responses": [{"text": "hi"}]}))
            heard: list[tuple[str, int]] = []

            def work() -> int:
                with Conversations(action_endpoint={"url": receiver.url}).sync() as conversations:
                    with conversations.turn("c") as turn:
                        turn.on_say = lambda event: heard.append(
                            (event.text, threading.get_ident())
                        )
                        assert [e.type_name for e in turn.run_action("action_x")] == [
                            "action",
                            "bot",
                        ]
                    tracker = conversations.retrieve("c")
                    assert tracker is not None
                    assert len(tracker.events) == 2
                return threading.get_ident()

            thread = await asyncio.to_thread(work)
            assert heard == [("hi", thread)]

    run(body())
