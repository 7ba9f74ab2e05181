"""PikaEventBroker against a real RabbitMQ: topology, deliveries, outages."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from conftest import until
from integration.pika_brokers import URL_PASSWORD, one, read, send, using
from servers.processes import free_port
from servers.rabbitmq import USER

from ticketlock.endpoints.registry import create_event_broker
from ticketlock.errors import EventBrokerConnectionError
from ticketlock.publishing.message import BrokerMessage
from ticketlock.stress.proxy import Proxy


@pytest.fixture
def name() -> str:
    return f"test-{time.time_ns()}"


@pytest.fixture
def section(rabbitmq: Any, name: str) -> dict[str, Any]:
    """Queue and exchange of the test's own."""
    once = {"connection_attempts": 1}
    return dict(rabbitmq.section(queues=name, exchange_name=f"{name}-x", **once))


async def test_every_queue_gets_every_event(
    rabbitmq: Any, section: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Persistent, with a stable message id, the environment, and the headers of the event."""
    monkeypatch.setenv("RASA_ENVIRONMENT", "production")
    queues = [f"{name}-{i}" for i in range(3)]
    async with using({**section, "queues": queues}) as broker:
        again = BrokerMessage("c", 1, {"event": "user"}, {"rasa-export-process-id": "42"})
        assert [o.status for o in await broker.deliver([again, again])] == ["delivered"] * 2
        broker.publish({"sender_id": "c", "event": "bot"}, headers={"h": "1"})
    for queue in queues:
        first, second, third = read(rabbitmq, queue)
        assert first[1] == {"sender_id": "c", "event": "user", "sequence": 1}
        assert first[0].delivery_mode == 2
        assert first[0].app_id == "production"
        assert first[0].headers == {"rasa-export-process-id": "42"}
        assert first[0].message_id == second[0].message_id != third[0].message_id
        assert (third[1], third[0].headers) == ({"sender_id": "c", "event": "bot"}, {"h": "1"})


@pytest.mark.parametrize("kind", ["topic", "direct", "headers", "fanout"])
async def test_an_existing_exchange_of_any_kind(
    rabbitmq: Any, section: dict[str, Any], name: str, kind: str
) -> None:
    """Our queues are bound so that they get what we publish."""
    connection = rabbitmq.connect()
    connection.channel().exchange_declare(section["exchange_name"], kind, durable=True)
    connection.close()
    queues = [name, f"{name}-2"]
    async with using({**section, "queues": queues}) as broker:
        await one(broker)
    assert [len(read(rabbitmq, queue)) for queue in queues] == [1, 1]


async def test_the_documented_consumer(rabbitmq: Any, section: dict[str, Any], name: str) -> None:
    """basic_consume with a callback and auto_ack reads what was published."""
    async with using(section) as broker:
        await one(broker)
    got: list[Any] = []

    def callback(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        got.append(json.loads(body))
        channel.stop_consuming()

    connection = rabbitmq.connect()
    channel = connection.channel()
    channel.basic_consume(queue=name, on_message_callback=callback, auto_ack=True)
    channel.start_consuming()
    connection.close()
    assert got == [{"sender_id": "c", "event": "user", "sequence": 1}]


async def test_publish_before_connect(rabbitmq: Any, section: dict[str, Any], name: str) -> None:
    """Nothing is dropped because nobody called connect."""
    async with using(section) as broker:
        broker.publish({"sender_id": "c", "event": "first"})
    assert [event["event"] for _, event in read(rabbitmq, name)] == ["first"]


async def test_deleted_exchange_and_queue(
    rabbitmq: Any, section: dict[str, Any], name: str
) -> None:
    """What an operator has deleted is declared again, and no event is lost."""
    async with using(section) as broker:
        await one(broker)
        for what in ("exchange", "queue"):
            connection = rabbitmq.connect()
            channel = connection.channel()
            if what == "exchange":
                channel.exchange_delete(f"{name}-x")
            else:
                channel.queue_delete(name)
            connection.close()
            assert [o.status for o in await send(broker, 2, 3)] == ["delivered"] * 2
    assert [event["sequence"] for _, event in read(rabbitmq, name)] == [2, 3]


async def test_an_exchange_of_another_make(
    rabbitmq: Any, section: dict[str, Any], name: str
) -> None:
    """A non-durable exchange and a queue with a limit are used as they are."""
    connection = rabbitmq.connect()
    channel = connection.channel()
    channel.exchange_declare(f"{name}-x", exchange_type="fanout", durable=False)
    limit = {"x-max-length": 3, "x-overflow": "reject-publish"}
    channel.queue_declare(name, durable=True, arguments=limit)
    got: list[int] = []
    async with using(section) as broker:
        await broker.connect()
        outcomes = [o.status for o in await send(broker, *range(20))]
        taken = outcomes.index("retry")
        assert taken >= 3
        assert set(outcomes[taken:]) == {"retry"}
        todo = list(range(taken, 20))
        for _ in range(100):
            for _, event in read(rabbitmq, name):
                got.append(event["sequence"])
            outcomes = [*[o.status for o in await send(broker, *todo)], "retry"]
            todo = todo[outcomes.index("retry") :]
            if not todo:
                break
        got.extend(event["sequence"] for _, event in read(rabbitmq, name))
    connection.close()
    assert sorted(set(got)) == list(range(20))


async def test_two_brokers_on_one_topology(rabbitmq: Any, section: dict[str, Any]) -> None:
    """The second one finds what the first has declared."""
    async with using(section) as first:
        await one(first)
        second = await create_event_broker(section)
        assert second is not None
        assert second.is_ready()
        await second.close()


async def test_the_topology_survives_a_restart(
    own_rabbitmq: Any, section: dict[str, Any], name: str
) -> None:
    """Exchange and bindings are durable: others can publish before we are back."""
    async with using(section) as broker:
        await one(broker)
    own_rabbitmq.stop()
    own_rabbitmq.start()
    connection = own_rabbitmq.connect()
    channel = connection.channel()
    channel.confirm_delivery()
    channel.basic_publish(f"{name}-x", "", b"{}", mandatory=True)
    connection.close()
    assert len(read(own_rabbitmq, name)) == 2


async def test_a_blocked_server(own_rabbitmq: Any, section: dict[str, Any], name: str) -> None:
    """A memory alarm is `retry`, says so, holds up nothing, and passes."""
    async with using(section) as broker:
        await one(broker)
        own_rabbitmq.control("set_vm_memory_high_watermark", "absolute", "1MB")
        await asyncio.sleep(0)
        # The alarm stays until we end it: one that waited for that would never come back.
        outcomes = await asyncio.wait_for(send(broker, 2, 3, timeout=2), 20)
        assert [o.status for o in outcomes] == ["retry", "retry"]
        own_rabbitmq.control("set_vm_memory_high_watermark", "absolute", "512MB")
        for _ in range(20):
            outcomes = await send(broker, 2, 3, timeout=2)
            if outcomes[1].status == "delivered":
                break
        assert outcomes[1].status == "delivered"
    assert list(dict.fromkeys(e["sequence"] for _, e in read(own_rabbitmq, name))) == [1, 2, 3]


async def test_failures_of_publish(rabbitmq: Any, section: dict[str, Any], name: str,
                             caplog: pytest.LogCaptureFixture) -> None:  # fmt: skip
    """raise_on_failure raises to the caller; unpublished events are dropped only on demand."""
    target = section["port"]
    port = free_port()
    async with using(
        {**section, "url": "127.0.0.1", "port": port, "raise_on_failure": True}
    ) as broker:
        async with Proxy(target, port) as proxy:
            await broker.connect()
            broker.publish({"sender_id": "c", "event": "fine"})
            await send(broker, 1)
            proxy.mood = "refuse"
            proxy.reset()
            await until(lambda: not broker.is_ready(), "it notices")
            await until(lambda: broker._trouble, "and knows why")
            with pytest.raises(EventBrokerConnectionError):
                broker.publish({"sender_id": "c", "event": "lost"})
    assert [event["event"] for _, event in read(rabbitmq, name)] == ["fine", "user"]
    keep = {"should_keep_unpublished_messages": False}
    async with using({**section, "url": "127.0.0.1", "port": 1, **keep}) as broker:
        broker.publish({"sender_id": "c", "event": "dropped"})
        await until(lambda: "is dropped" in caplog.text, "it says so")
        assert not broker._waiting


async def test_a_silent_server(section: dict[str, Any]) -> None:
    """Confirmations that never come: `retry` in time, and the loop is free meanwhile."""
    async with Proxy(section["port"]) as proxy:
        async with using({**section, "port": proxy.port}) as broker:
            await one(broker)
            proxy.mood = "lose answers"
            # The answers are lost until we say so.
            outcomes = await asyncio.wait_for(send(broker, 2, 3, timeout=1), 20)
            assert [o.status for o in outcomes] == ["retry", "retry"]
            assert "in time" in outcomes[0].reason
            proxy.mood = "pass"
            assert [o.status for o in await send(broker, 2, 3)] == ["delivered"] * 2


async def test_idle_connections_live(section: dict[str, Any]) -> None:
    """Heartbeats are answered while nothing is sent."""
    login = f"{USER}:{URL_PASSWORD}@127.0.0.1:{section['port']}"
    keys = {"url": f"amqp://{login}?heartbeat=1", "queues": section["queues"]}
    async with using(keys) as broker:
        await one(broker)
        connection = broker._link._connection  # type: ignore[union-attr]  # to see it stay
        await asyncio.sleep(3.5)
        assert broker.is_ready()
        assert broker._link._connection is connection  # type: ignore[union-attr]  # as above
