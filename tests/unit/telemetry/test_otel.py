"""Spans: which there are, what belongs to what, and what is in none of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest
from conftest import until
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes.gen_ai_attributes import GEN_AI_CONVERSATION_ID
from opentelemetry.semconv.schemas import Schemas
from opentelemetry.trace import SpanKind, StatusCode
from servers.deliveries import Receiver
from serving import send

from ticketlock import ActionFailed, Conversations, InMemoryLockStore, LockLost, LockTimeout
from ticketlock.publishing.broker import EventBroker
from ticketlock.publishing.message import DELIVERED, BrokerMessage, Outcome, retry
from ticketlock.server import create_app
from ticketlock.telemetry.otel import ACTION, CONVERSATION, SCHEMA_URL, SPANS, OpenTelemetry

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Traces:
    """The observer, and the spans that it has made."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.observer = OpenTelemetry(self.provider, MeterProvider())

    def of(self, name: str) -> list[ReadableSpan]:
        """Those that have ended, in that order."""
        spans = self._exporter.get_finished_spans()
        return [span for span in spans if span.name == f"ticketlock.{name}"]

    def all(self) -> Sequence[ReadableSpan]:
        return self._exporter.get_finished_spans()


class Sink(EventBroker):
    """Confirms everything, and keeps it."""

    def __init__(self) -> None:
        self.messages: list[BrokerMessage] = []

    async def deliver(
        self, batch: Sequence[BrokerMessage], timeout: float | None = None
    ) -> list[Outcome]:
        self.messages += batch
        return [DELIVERED] * len(batch)


def is_parent(parent: ReadableSpan, child: ReadableSpan) -> bool:
    assert parent.context is not None
    return child.parent is not None and child.parent.span_id == parent.context.span_id


def test_the_conventions_are_those_that_are_pinned() -> None:
    """The schema is one that its authors publish, and has the attribute's name."""
    assert CONVERSATION == GEN_AI_CONVERSATION_ID
    assert SCHEMA_URL in [schema.value for schema in Schemas]


async def test_a_call_of_an_action() -> None:
    """Its span is in the turn, with its result; the action server gets the turn's trace."""
    traces = Traces()
    async with Receiver().serving() as receiver:
        receiver.replies += [b"HTTP/1.1 200 X\r\ncontent-length: 2\r\n\r\n{}", 500]
        section = {"url": receiver.url}
        async with Conversations(action_endpoint=section) as conversations:
            conversations.observe(traces.observer)
            async with conversations.turn("c") as turn:
                await turn.run_action("action_x")
                with pytest.raises(ActionFailed):
                    await turn.run_action("action_y")
    (inside,), calls = traces.of("turn"), traces.of("action")
    assert [dict(call.attributes) for call in calls] == [
        {CONVERSATION: "c", "ticketlock.action": "action_x", "ticketlock.result": "ok"},
        {
            CONVERSATION: "c", "ticketlock.action": "action_y", "ticketlock.result": "failed",
            "error.type": "ActionFailed",
        },
    ]  # fmt: skip
    assert all(is_parent(inside, call) for call in calls)
    assert {*calls[1].attributes} - {"error.type"} == {*ACTION.attributes}
    parent = f"00-{inside.context.trace_id:032x}-{inside.context.span_id:016x}-"
    assert all(one.headers["traceparent"].startswith(parent) for one in receiver.received)


async def test_a_turn_and_what_belongs_to_it() -> None:
    """Wait, turn, claim, commit and publish, each with the conversation and what is documented."""
    traces, broker = Traces(), Sink()
    inside: list[Any] = []
    async with Conversations(event_broker=broker) as conversations:
        conversations.observe(traces.observer)
        async with conversations.turn("c", label="m") as turn:
            inside.append(trace.get_current_span().get_span_context().span_id)
            turn.add({"event": "user", "text": "what the user said"})
            turn.add({"event": "bot", "text": "what the bot said"})
        inside.append(trace.get_current_span().get_span_context().span_id)
        await until(lambda: traces.of("publish"), "it is published")
    (wait,), (turn,), (claim,) = traces.of("wait"), traces.of("turn"), traces.of("claim")
    (commit,), (publish,) = traces.of("commit"), traces.of("publish")
    assert inside == [turn.context.span_id, 0]
    assert is_parent(wait, turn)
    assert all(is_parent(turn, span) for span in (claim, commit, publish))
    assert publish.kind is SpanKind.PRODUCER
    for span, documented in zip(
        (wait, turn, claim, commit, publish), (s for s in SPANS if s is not ACTION), strict=True
    ):
        assert span.name == documented.name
        assert set(span.attributes) <= set(documented.attributes)
        assert span.attributes[CONVERSATION] == "c"
        assert span.instrumentation_scope.schema_url == SCHEMA_URL
        assert span.start_time <= span.end_time
        assert "said" not in span.to_json()
    assert wait.end_time <= turn.start_time <= claim.start_time <= commit.start_time
    assert commit.end_time <= turn.end_time + 5_000_000  # clocks of two kinds
    assert (turn.attributes["ticketlock.ticket"], turn.attributes["ticketlock.message_id"]) == (
        1,
        "m",
    )
    assert turn.attributes["ticketlock.outcome"] == "ok"
    assert commit.attributes["ticketlock.events"] == 2
    assert publish.attributes["messaging.batch.message_count"] == 2
    (headers,) = {message.headers["traceparent"] for message in broker.messages}
    assert headers.startswith(f"00-{turn.context.trace_id:032x}-{turn.context.span_id:016x}-")


async def test_a_turn_that_waited_is_linked_to_the_one_before() -> None:
    """And no other: one that found the conversation free has waited for nobody."""
    traces = Traces()
    async with InMemoryLockStore() as store:
        store.observe(traces.observer)
        async with store.lock("c"):
            pass

        async def one() -> None:
            async with store.lock("c"):
                await asyncio.sleep(0)

        await asyncio.gather(one(), one(), one())
    turns = traces.of("turn")
    links = [[link.context.span_id for link in turn.links] for turn in turns]
    ids = [turn.context.span_id for turn in turns]
    assert links == [[], [], [ids[1]], [ids[2]]]
    assert turns[3].links[0].attributes == {"ticketlock.link": "waited_for"}
    assert [wait.attributes["ticketlock.ahead"] for wait in traces.of("wait")] == [0, 0, 1, 2]


async def test_what_fails_is_shown_without_its_text() -> None:
    """A block that raises, a wait without a turn, a turn that is lost."""
    traces = Traces()

    async def begin(conversations: Conversations) -> None:
        async with conversations.turn("c", wait_timeout=0.02):
            pass

    async with Conversations() as conversations:
        conversations.observe(traces.observer)
        with pytest.raises(KeyError):
            async with conversations.turn("a"):
                raise KeyError("a secret")
        with pytest.raises(LockLost):
            async with conversations.turn("b", 0.05):
                await asyncio.sleep(20)
        async with conversations.turn("c"):
            with pytest.raises(LockTimeout):
                await asyncio.create_task(begin(conversations))
    failed, lost, well = traces.of("turn")
    timeout = traces.of("wait")[-1]
    assert failed.attributes["error.type"] == "KeyError"
    assert lost.attributes["ticketlock.cause"] == "too_slow"
    assert timeout.attributes["error.type"] == "LockTimeout"
    assert timeout.attributes["ticketlock.outcome"] == "timeout"
    assert timeout.end_time - timeout.start_time >= 19_000_000
    statuses = [span.status.status_code for span in (failed, lost, well, timeout)]
    assert statuses == [StatusCode.ERROR, StatusCode.ERROR, StatusCode.UNSET, StatusCode.ERROR]
    assert lost.status.description == "its lock_lifetime of 0.05 s is over"
    assert not [span for span in traces.all() if "secret" in span.to_json()]


async def test_the_trace_of_a_webhook_goes_on_to_the_broker() -> None:
    """Its `traceparent`, through the ticket, the turn and the outbox, to the message's headers."""
    traces, broker, seen = Traces(), Sink(), []

    async def bot(turn: Any, message: Any) -> AsyncIterator[str]:
        seen.append(trace.get_current_span().get_span_context().trace_id)
        yield "hello"

    async with Conversations(event_broker=broker) as conversations:
        conversations.observe(traces.observer)
        transport = httpx.ASGITransport(create_app(conversations, bot))
        async with httpx.AsyncClient(transport=transport, base_url="http://bot") as http:
            http.headers["traceparent"] = PARENT
            assert (await send(http, "x", sender="c", message_id="m")).status_code == 200
            del http.headers["traceparent"]
            assert (await send(http, "y", sender="d")).status_code == 200
        await until(lambda: len(traces.of("publish")) == 2, "both are published")
    (theirs, own), trace_id = traces.of("turn"), int(PARENT.split("-")[1], 16)
    assert theirs.parent.span_id == int(PARENT.split("-")[2], 16)
    assert {span.context.trace_id for span in traces.of("publish")} >= {trace_id}
    assert seen == [trace_id, own.context.trace_id]
    assert own.context.trace_id != trace_id
    for message in broker.messages:
        expected = theirs if message.conversation_id == "c" else own
        assert f"{expected.context.trace_id:032x}" in message.headers["traceparent"]
    assert PARENT.split("-")[1] not in json.dumps([dict(m.body) for m in broker.messages])


async def test_what_another_replica_committed_has_no_headers() -> None:
    """The context is not stored: nothing is invented for it."""
    traces, broker = Traces(), Sink()
    async with Conversations() as dead:
        dead.tracker_store.publishes = True
        async with dead.turn("c") as turn:
            turn.add({"event": "user", "text": "x"})
        async with Conversations(dead.lock_store, dead.tracker_store, broker) as living:
            living.observe(traces.observer)
            assert living.relay is not None
            living.relay.committed("c", [{"event": "user", "text": "x"}])
            await until(lambda: broker.messages, "it is published")
    assert [message.headers for message in broker.messages] == [None]
    assert not traces.of("publish")


def test_threads_go_on_with_the_trace_of_the_caller() -> None:
    """And leave it as it was."""
    traces = Traces()
    twin = InMemoryLockStore().sync()
    twin.observe(traces.observer)
    try:
        tracer = traces.provider.get_tracer("test")
        with tracer.start_as_current_span("request") as around:
            for _ in range(2):
                with twin.lock("c"):
                    pass
                assert trace.get_current_span() is around
    finally:
        twin.close()
    (request,) = [span for span in traces.all() if span.name == "request"]
    assert [is_parent(request, turn) for turn in traces.of("turn")] == [True, True]


async def test_without_an_sdk_nothing_is_remembered() -> None:
    """The API alone makes spans of nothing: no header, no mark, nothing kept."""
    observer, broker = OpenTelemetry(), Sink()
    async with Conversations(event_broker=broker) as conversations:
        conversations.observe(observer)
        for _ in range(3):
            async with conversations.turn("c") as turn:
                assert observer.mark(turn.grant) is None
                turn.add({"event": "user", "text": "x"})
        await until(lambda: len(broker.messages) == 3, "all is published")
    assert [message.headers for message in broker.messages] == [None] * 3
    assert (observer._open, observer._commits) == ({}, {})


async def test_commits_that_nobody_here_publishes_are_bounded() -> None:
    """Another replica may publish all of a conversation: its contexts are not kept for ever."""
    traces = Traces()

    class Away(EventBroker):
        async def deliver(self, batch: Any, timeout: float | None = None) -> list[Outcome]:
            return [retry("it is away")] * len(batch)

    async with Conversations(event_broker=Away()) as conversations:
        conversations.observe(traces.observer)
        async with conversations.turn("c") as turn:
            for _ in range(120):
                turn.add({"event": "user", "text": "x"})
                await turn.commit()
        assert len(traces.observer._commits["c"]) == 100


async def test_nothing_is_kept_of_turns_that_are_over() -> None:
    traces, broker = Traces(), Sink()
    async with Conversations(event_broker=broker) as conversations:
        conversations.observe(traces.observer)
        for i in range(20):
            async with conversations.turn(f"c{i % 3}") as turn:
                turn.add({"event": "user", "text": "x"})
        await until(lambda: len(broker.messages) == 20, "all is published")
        await until(lambda: not traces.observer._commits, "and it is noted")
    assert traces.observer._open == {}
