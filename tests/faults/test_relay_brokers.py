"""Real brokers that fail in mid-stream: no turn notices, and every committed event arrives.

Two replicas serve the conversations, on Redis. What is asserted at the end is what an independent
client reads from the broker: all that was committed, in order once repeats are dropped by name.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from conftest import until
from faults.talk import NAMES, Talk, drained, followed, heard
from servers import kafka_server
from servers.event_brokers import BACKENDS, Backend, KafkaBackend

from ticketlock import Conversations
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.stress.proxy import Proxy

pytestmark = pytest.mark.slow

#: More than the broker takes of one event, and less than the store does.
TOO_LARGE = "x" * 300_000


@pytest.fixture(params=["kafka", "pika"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """A topic or queue of the test's own, on a server of ours."""
    fixture, make = BACKENDS[request.param]
    return make(request.getfixturevalue(f"own_{fixture}"), tmp_path)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outages are noticed, and looked after, in a second instead of ten."""
    monkeypatch.setattr("ticketlock.publishing.relay.DELIVER_SECONDS", 1.0)
    monkeypatch.setattr("ticketlock.publishing.relay.LONGEST_PAUSE", 0.5)
    monkeypatch.setattr("ticketlock.publishing.relay.SWEEP_SECONDS", 0.5)
    monkeypatch.setattr("ticketlock.publishing.relay.LEFT_SECONDS", 0.2)


@pytest.fixture
def locks(redis_server: EmbeddedRedis, tmp_path: Path) -> dict[str, Any]:
    prefix = "".join(c for c in tmp_path.name if c.isalnum())
    return {"type": "concurrent_redis", "url": redis_server.url, "key_prefix": prefix}


@pytest.fixture
def tracker(locks: dict[str, Any]) -> dict[str, Any]:
    return {**locks, "type": "redis"}


class Replicas:
    """Two replicas, and how they see their broker."""

    def __init__(self, locks: Any, tracker: Any, *sections: dict[str, Any]) -> None:
        self.all = [Conversations(locks, tracker, section) for section in sections]

    async def __aenter__(self) -> Replicas:
        for replica in self.all:
            await replica.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(replica.close() for replica in self.all))

    async def working(self) -> None:
        """Wait until each relay has published something from now on."""
        await self._each_has_more("published")

    async def noticed(self) -> None:
        """Wait until the broker has failed each relay from now on.

        They need not be in trouble in the same moment: while one tries, the other finds nothing
        to send.
        """
        await self._each_has_more("retries")

    async def _each_has_more(self, count: str) -> None:
        counts = [replica.relay.counts for replica in self.all if replica.relay]
        before = [getattr(one, count) for one in counts]
        await until(
            lambda: all(getattr(c, count) > b for c, b in zip(counts, before, strict=True)),
            f"{count} of each relay",
            20,
        )

    async def drained(self) -> None:
        await drained(self.all[0].tracker_store)

    @contextlib.asynccontextmanager
    async def talk(self, **options: Any) -> AsyncIterator[Talk]:
        """Turns go on during the block; at its end all that they committed is published."""
        async with Talk(*self.all, **options) as talk:
            await talk.more()
            await self.working()  # so that what then goes away was there
            yield talk
            await talk.more()
        await self.drained()


async def test_killed_and_restarted(backend: Any, locks: Any, tracker: Any) -> None:
    section = backend.section()
    async with Replicas(locks, tracker, section, section) as replicas, replicas.talk() as talk:
        await asyncio.to_thread(backend.server.stop, kill=True)
        await replicas.noticed()
        await talk.more()
        await asyncio.to_thread(backend.server.start)
    assert heard(backend.read(talk.count)) == talk.committed


@contextlib.asynccontextmanager
async def proxied(backend: Backend) -> AsyncIterator[tuple[Proxy, dict[str, Any]]]:
    """A network between the replicas and the broker, which can be broken."""
    section = backend.section()
    if isinstance(backend, KafkaBackend):
        ports = backend.server.ports["PROXIED"], backend.server.proxy_port
        section["url"] = f"127.0.0.1:{ports[1]}"
    else:
        ports = section["port"], 0
    async with Proxy(*ports) as proxy:
        yield proxy, section if ports[1] else {**section, "port": proxy.port}


async def test_network(backend: Any, locks: Any, tracker: Any) -> None:
    """It is cut; then it swallows everything; then it holds everything back and lets it go late."""
    async with (
        proxied(backend) as (proxy, section),
        Replicas(locks, tracker, section, section) as replicas,
        replicas.talk() as talk,
    ):
        for mood in ("refuse", "black hole", "hold"):
            proxy.mood = mood
            if mood == "refuse":
                proxy.reset()
            await replicas.noticed()
            await talk.more()
            proxy.mood = "pass"
            if mood == "black hole":
                proxy.reset()  # a network that forgets bytes has forgotten the connections too
            await replicas.drained()
    assert heard(backend.read(talk.count)) == talk.committed


async def test_away_from_one_replica_only(backend: Any, locks: Any, tracker: Any) -> None:
    """Wrong credentials, or no way there: the replica that can log in publishes for both."""
    right = backend.section()
    wrong = {**right, "password": "wrong"}
    if isinstance(backend, KafkaBackend):
        login = {"sasl_username": kafka_server.USER, "sasl_password": "wrong"}
        wrong = backend.server.section("SASL_PLAINTEXT", topic=backend.topic, **login)
    async with Replicas(locks, tracker, wrong) as first, Talk(*first.all) as talk:
        await first.noticed()
        await talk.more()
        async with Replicas(locks, tracker, right) as second:
            talk.replicas += second.all
            await talk.more()
            talk.replicas.remove(second.all[0])  # and then it has no turns, but still publishes
            await talk.more()
            talk._over = True
            await second.drained()
    assert heard(backend.read(talk.count)) == talk.committed


async def test_too_large_and_deleted(backend: Any, locks: Any, tracker: Any) -> None:
    """An event that no broker takes is set apart. Then the topic, or exchange, is not there."""
    section = backend.section()
    if isinstance(backend, KafkaBackend):
        section["queue_size"] = 20  # the driver's queue is full all the time
    async with Replicas(locks, tracker, section, section) as replicas:
        async with replicas.talk() as talk:
            for name in NAMES[:2]:
                await talk.say(name, "before", TOO_LARGE, "after")
        letters = await replicas.all[0].tracker_store.outbox.dead_letters()
        assert [letter.sender_id for letter in letters] == ["a", "b"]
        assert {letter.event["text"] for letter in letters} == {TOO_LARGE}
        for letter in letters:
            talk.committed[letter.sender_id].remove(TOO_LARGE)
        before = backend.read(talk.count)
        assert heard(before) == talk.committed

        delete(backend)
        async with Talk(*replicas.all) as later:
            if isinstance(backend, KafkaBackend):
                await replicas.noticed()
                await later.more()
                kafka_server.make_topic(backend.given.bootstrap, backend.topic)
                before = [*before, *backend.read(0)]
            await later.more()
        await replicas.drained()
    # An exchange takes no event with it, a topic takes those that it had.
    found = backend.read(later.count)
    everything = [*before, *found]
    expected = {name: talk.committed[name] + later.committed[name] for name in NAMES}
    assert heard(everything) == expected


def delete(backend: Any) -> None:
    if isinstance(backend, KafkaBackend):
        kafka_server.delete_topic(backend.given.bootstrap, backend.topic)
        return
    connection = backend.given.connect()
    connection.channel().exchange_delete(f"{backend.name} x")
    connection.close()


@pytest.mark.parametrize("backend", ["pika"], indirect=True)
async def test_a_full_queue(backend: Any, locks: Any, tracker: Any) -> None:
    """RabbitMQ refuses what does not fit; a consumer makes room. Of events that are on their way
    together it may refuse one and take the next, which is then sent again: who takes nothing but
    the next number sees all of it in order.
    """
    section, found = backend.section(), []
    connection = backend.given.connect()
    channel = connection.channel()
    limit = {"x-max-length": 5, "x-overflow": "reject-publish"}
    channel.queue_declare(backend.name, durable=True, arguments=limit)

    def read() -> bool:
        method, _, body = channel.basic_get(backend.name, auto_ack=True)
        found.extend([body] if method else [])
        return method is not None

    async with Replicas(locks, tracker, section, section) as replicas:
        async with Talk(*replicas.all) as talk:
            await replicas.noticed()
            await talk.more()
            while talk.count < 150:
                await asyncio.to_thread(read)
        while (await replicas.all[0].tracker_store.outbox.backlog()).events:
            await asyncio.to_thread(read)
    while read():
        pass
    connection.close()
    assert followed(list(map(json.loads, found))) == talk.committed
