"""Traces from process to process: over a real Redis, and to real brokers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import redis
from conftest import until
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from servers.event_brokers import BACKENDS

from ticketlock import ConcurrentRedisLockStore, Conversations, LockLost, LockStore
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.telemetry.otel import OpenTelemetry


class Replica:
    """A store, and the turns that its own tracer has seen."""

    def __init__(self, store: LockStore, traced: bool = True) -> None:
        self.store = store
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        if traced:
            store.observe(OpenTelemetry(provider))

    def turns(self) -> list[Any]:
        spans = self._exporter.get_finished_spans()
        return [span for span in spans if span.name == "ticketlock.turn"]

    def links(self) -> list[list[int]]:
        return [[link.context.span_id for link in turn.links] for turn in self.turns()]


async def test_a_turn_is_linked_to_that_of_another_replica(own_redis: EmbeddedRedis) -> None:
    """One waits for the other; a key that expires is all that is left of it."""
    async with (
        ConcurrentRedisLockStore(url=own_redis.url) as first,
        ConcurrentRedisLockStore(url=own_redis.url) as second,
    ):
        one, two = Replica(first), Replica(second)
        for _ in range(2):
            lock = second.lock("c")
            async with first.lock("c"):
                await lock.queue()
            await lock.acquire()
            await lock.release()
        ids = [turn.context.span_id for turn in one.turns()]
        assert two.links() == [[ids[0]], [ids[1]]]
        assert one.links() == [[], []]  # they found it free
    with redis.Redis.from_url(own_redis.url) as client:
        assert 0 < client.pttl("concurrent_lock:{c}:mark") <= 3_600_000


async def test_the_turn_of_a_replica_without_traces_gets_no_link(
    own_redis: EmbeddedRedis,
) -> None:
    """And none to a turn that was over before is made in its place."""
    async with (
        ConcurrentRedisLockStore(url=own_redis.url) as first,
        ConcurrentRedisLockStore(url=own_redis.url) as second,
    ):
        one = Replica(first)
        Replica(second, traced=False)
        async with first.lock("c"):
            pass
        lock = first.lock("c")
        async with second.lock("c"):
            await lock.queue()
        await lock.acquire()
        await lock.release()
        assert one.links() == [[], []]


async def test_a_store_without_traces_leaves_no_mark(own_redis: EmbeddedRedis) -> None:
    async with ConcurrentRedisLockStore(url=own_redis.url) as store, store.lock("c"):
        pass
    with redis.Redis.from_url(own_redis.url) as client:
        assert client.exists("concurrent_lock:{c}:mark") == 0


async def test_a_lost_redis_costs_links_alone(own_redis: EmbeddedRedis) -> None:
    """The turn that cannot leave its mark goes on, and ends as it would without traces."""
    async with ConcurrentRedisLockStore(url=own_redis.url, lease=0.6) as store:
        one, found = Replica(store), list[str]()
        with pytest.raises(LockLost, match="lease"):
            async with store.lock("c") as grant:
                own_redis.stop(kill=True)
                store._turn_queue.leave_mark(grant, "1 of a trace", found.append)
                await asyncio.sleep(20)
        assert found == []
        assert [turn.attributes["ticketlock.outcome"] for turn in one.turns()] == ["lost"]


@pytest.mark.parametrize("name", ["kafka", "pika"])
async def test_messages_carry_the_trace_of_their_turn(
    name: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    """In the headers of Kafka and AMQP, as W3C names it."""
    fixture, make = BACKENDS[name]
    assert fixture is not None  # a server of its own
    backend: Any = make(request.getfixturevalue(fixture), tmp_path)
    replicas: list[Replica] = []
    async with Conversations(event_broker=backend.section()) as conversations:
        replicas.append(Replica(conversations.lock_store))
        async with conversations.turn("c") as turn:
            turn.add({"event": "user", "text": "x"})
        assert conversations.relay is not None
        counts = conversations.relay.counts
        await until(lambda: counts.published == 1, "it is published", 30)
    (turn,) = replicas[0].turns()
    version, trace_id, span_id, _ = backend.headers()["traceparent"].split("-")
    assert (version, trace_id, span_id) == (
        "00", f"{turn.context.trace_id:032x}", f"{turn.context.span_id:016x}"
    )  # fmt: skip
