"""The event service on RabbitMQ's streams: a log that keeps no place for its readers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ticketlock.brokers.pika import stream as _pika_stream
from ticketlock.brokers.pika.reader import PikaReader
from ticketlock.stores.event_service.database import SQLEventDatabase

from ticketlock.endpoints.registry import create_event_broker
from ticketlock.errors import EventBrokerConnectionError
from ticketlock.event_service.service import EventService
from ticketlock.event_service.settings import ServiceSettings
from ticketlock.publishing.message import BrokerMessage
from ticketlock.settings.section import Section

Run = Callable[..., None]
STREAM = {"x-queue-type": "stream"}


@pytest.fixture
def section(rabbitmq: Any) -> dict[str, Any]:
    name = f"stream-{time.time_ns()}"
    return dict(rabbitmq.section(queues=name, exchange_name=f"{name}-x", connection_attempts=1))


def make_stream(rabbitmq: Any, section: dict[str, Any]) -> None:
    connection = rabbitmq.connect()
    connection.channel().queue_declare(section["queues"], durable=True, arguments=STREAM)
    connection.close()


async def publish(section: dict[str, Any], first: int, count: int, text: str = "x") -> None:
    broker = await create_event_broker(section)
    assert broker is not None
    events = range(first, first + count)
    batch = [BrokerMessage("c", n, {"event": "user", "text": text}, history=1) for n in events]
    assert {o.status for o in await broker.deliver(batch)} == {"delivered"}
    await broker.close()


def reader_of(section: dict[str, Any]) -> PikaReader:
    return PikaReader(ServiceSettings(), **{k: v for k, v in section.items() if k != "type"})


def read(reader: PikaReader, count: int, seconds: float = 20) -> list[int]:
    """Read and confirm, reconnecting as the service does, until `count` events are here."""
    found: list[int] = []
    end = time.monotonic() + seconds
    while len(found) < count:
        assert time.monotonic() < end, f"{found} of {count}"
        try:
            deliveries = reader.read(4, 0.1)
        except EventBrokerConnectionError:
            reader.open(time.monotonic() + 5)
            continue
        found += [json.loads(delivery.body)["sequence"] for delivery in deliveries]
        reader.confirm(deliveries)
    return found


@pytest.fixture
def reader(section: dict[str, Any]) -> Iterator[PikaReader]:
    made = reader_of(section)
    yield made
    made.close(time.monotonic() + 2)


async def test_all_events_are_stored(
    rabbitmq: Any, section: dict[str, Any], tmp_path: Path
) -> None:
    """Also those from before it started; a second run stores nothing twice."""
    make_stream(rabbitmq, section)
    keys = {"db": str(tmp_path / "events.db")}

    async def consume() -> tuple[int, int]:
        async with SQLEventDatabase(Section(keys.copy(), "event_service")) as database:
            service = EventService(reader_of(section), database, until_idle=1.0)
            done = await service.run()
            assert await database.gaps() == []
            return done.stored, done.duplicates

    await publish(section, 0, 10)
    assert await consume() == (10, 0)
    await publish(section, 10, 5)
    assert await consume() == (5, 10)


def test_a_lost_connection_goes_on_where_it_was(
    run: Run, rabbitmq: Any, section: dict[str, Any], reader: PikaReader
) -> None:
    """Nothing is missing and nothing that was confirmed is read again."""
    make_stream(rabbitmq, section)
    run(publish(section, 0, 10))
    reader.open(time.monotonic() + 5)
    assert read(reader, 10) == list(range(10))
    run(publish(section, 10, 10))
    (some, *_) = (reader.read(3, 5),)
    assert len(some) == 3  # and they are not confirmed
    assert reader._link is not None
    reader._link._connection._terminate_stream(ConnectionError("broken"))
    reader._link.keep_alive()
    assert read(reader, 10) == list(range(10, 20))


@pytest.mark.parametrize("count", [3, 12, 30], ids="{} events".format)
def test_a_stream_that_was_made_again_while_it_was_away(
    run: Run, rabbitmq: Any, section: dict[str, Any], reader: PikaReader, count: int
) -> None:
    """Its numbers begin anew: fewer, as many, or more than were read of the first one."""
    make_stream(rabbitmq, section)
    run(publish(section, 0, 12))
    reader.open(time.monotonic() + 5)
    assert read(reader, 12) == list(range(12))
    assert reader._link is not None
    reader._link.drop()
    connection = rabbitmq.connect()
    connection.channel().queue_delete(section["queues"])
    connection.close()
    make_stream(rabbitmq, section)
    run(publish(section, 100, count, "another"))
    assert read(reader, count) == list(range(100, 100 + count))


def test_a_stream_that_is_deleted_under_it(
    run: Run, rabbitmq: Any, section: dict[str, Any], reader: PikaReader
) -> None:
    """It is declared as a queue of our own kind, or found as a stream again."""
    make_stream(rabbitmq, section)
    run(publish(section, 0, 5))
    reader.open(time.monotonic() + 5)
    assert read(reader, 5) == list(range(5))
    connection = rabbitmq.connect()
    connection.channel().queue_delete(section["queues"])
    connection.close()
    make_stream(rabbitmq, section)
    run(publish(section, 50, 5))
    assert read(reader, 5) == list(range(50, 55))


def test_a_quorum_queue_is_read_as_ever(
    run: Run, rabbitmq: Any, section: dict[str, Any], reader: PikaReader
) -> None:
    """Another kind of queue that an operator may have made."""
    connection = rabbitmq.connect()
    quorum = {"x-queue-type": "quorum"}
    connection.channel().queue_declare(section["queues"], durable=True, arguments=quorum)
    connection.close()
    run(publish(section, 0, 10))
    reader.open(time.monotonic() + 5)
    assert read(reader, 10) == list(range(10))


def test_a_stream_that_nothing_tells_of() -> None:
    """A virtual host may make streams by default: the first message of one shows it."""
    place = _pika_stream.StreamPosition()
    assert place.judge(7, b"new") == "other stream"
    assert place.begin() == {"x-stream-offset": "first"}
    assert place.judge(0, b"old") == "new"
