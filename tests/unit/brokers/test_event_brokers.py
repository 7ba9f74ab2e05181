"""Event brokers without a server: types, files, SQLite, custom classes, missing drivers."""

from __future__ import annotations

import asyncio
import fcntl
import json
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from servers.event_brokers import PlainBroker
from ticketlock.brokers.file.broker import FileEventBroker
from ticketlock.brokers.kafka.broker import KafkaEventBroker
from ticketlock.brokers.sql.broker import SQLEventBroker

from ticketlock import ConfigurationError, EndpointConfig
from ticketlock.endpoints.registry import create_event_broker
from ticketlock.errors import EventBrokerConnectionError, EventBrokerError
from ticketlock.publishing.broker import EventBroker
from ticketlock.publishing.custom import CustomEventBroker
from ticketlock.publishing.message import BrokerMessage

LOGIN = {"username": "u", "password": "x-s3cret"}


def create(section: Any) -> Any:
    async def body() -> Any:
        broker = await create_event_broker(section)
        if broker is not None:
            await broker.close()
        return broker

    return asyncio.run(body())


def test_the_tracker_stores_database_is_refused(tmp_path: Path) -> None:
    """A table `events` of another kind is nothing to write to, before and after the start."""
    path = tmp_path / "rasa.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE events (id INTEGER, sender_id TEXT, type_name TEXT)")
    connection.close()
    with pytest.raises(ConfigurationError, match=r"events of another kind, .* of its own"):
        create({"type": "sql", "db": str(path)})


def test_sql_errors(tmp_path: Path) -> None:
    """They name the database and what to change."""
    with pytest.raises(EventBrokerConnectionError, match=r"x\.db: .*check db: its folder"):
        create({"type": "sql", "db": str(tmp_path / "no" / "x.db")})
    section = {"type": "sql", "dialect": "postgresql", "url": "127.0.0.1", "port": 1}
    with pytest.raises(EventBrokerConnectionError, match="check url and port"):
        create({**section, "username": "u", "password": "p"})


async def test_the_interface_makes_a_broker_of_a_section(tmp_path: Path) -> None:
    """`EventBroker.create` takes a section, a broker, or None."""
    broker = await EventBroker.create({"type": "file", "path": str(tmp_path / "events")})
    assert type(broker) is FileEventBroker
    assert await EventBroker.create(broker) is broker
    assert await EventBroker.create(None) is None
    await broker.close()


async def test_files_are_not_mixed_up(tmp_path: Path) -> None:
    """Two brokers write to two files; a file that was rotated away is made anew."""
    one, two = FileEventBroker(str(tmp_path / "1")), FileEventBroker(str(tmp_path / "2"))
    for number, broker in ((1, one), (2, two)):
        await broker.connect()
        await broker.deliver([BrokerMessage("c", number, {})])
    (tmp_path / "2").rename(tmp_path / "2.old")
    await two.deliver([BrokerMessage("c", 3, {})])
    await one.close()
    await two.close()
    found = [json.loads((tmp_path / name).read_text())["sequence"] for name in ("1", "2.old", "2")]
    assert found == [1, 2, 3]


@pytest.mark.parametrize("length", [1, 70_000])
async def test_half_a_line_of_a_killed_writer_goes(length: int, tmp_path: Path) -> None:
    """Also one left after we had opened the file: nothing may be appended to it."""
    path = tmp_path / "events"
    half = '{"sender_id": "' + length * "x"
    path.write_text(half)
    broker = FileEventBroker(str(path))
    for number in (1, 2):
        (outcome,) = await broker.deliver([BrokerMessage("c", number, {})])
        assert outcome.status == "delivered"
        with path.open("a") as file:
            file.write(half if number == 1 else '{"sequence": 3}')  # whole, but its end
    await broker.deliver([BrokerMessage("c", 4, {})])
    await broker.close()
    found = [json.loads(line)["sequence"] for line in path.read_text().splitlines()]
    assert found == [1, 2, 3, 4]


async def test_a_locked_file_is_waited_for(tmp_path: Path) -> None:
    """Another process has it while it writes; one that never lets go is told of."""
    path = tmp_path / "events"
    broker = FileEventBroker(str(path))
    with path.open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        (outcome,) = await broker.deliver([BrokerMessage("c", 1, {})], timeout=0.2)
        assert outcome.status == "retry"
        assert "locked" in outcome.reason
    (outcome,) = await broker.deliver([BrokerMessage("c", 1, {})])
    assert outcome.status == "delivered"
    await broker.close()
    assert len(path.read_text().splitlines()) == 1


def test_file_errors(tmp_path: Path) -> None:
    """They name the file; keys of other brokers are refused."""
    with pytest.raises(EventBrokerConnectionError, match="check path, its folder"):
        create({"type": "file", "path": str(tmp_path / "no" / "x")})
    with pytest.raises(ConfigurationError, match="url: is not a setting here"):
        create({"type": "file", "url": "x"})
    if Path("/dev/full").exists():
        broker = FileEventBroker("/dev/full")
        (outcome,) = asyncio.run(broker.deliver([BrokerMessage("c", 1, {})]))
        assert outcome.status == "retry"
        asyncio.run(broker.close())


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (None, type(None)),
        ({"type": "File", "path": "{tmp}/f"}, FileEventBroker),
        ({"type": "rasa.core.brokers.file.FileEventBroker", "path": "{tmp}/f"}, FileEventBroker),
        (
            {"type": "ticketlock.brokers.file.FileEventBroker", "path": "{tmp}/f"},
            EventBroker,
        ),
        ({"type": "ticketlock.brokers.FileEventBroker", "path": "{tmp}/f"}, FileEventBroker),
        ({"type": "SQL", "db": "{tmp}/d"}, SQLEventBroker),
        ({"type": "kafka", "url": "h", "security_protocol": "PLAINTEXT"}, KafkaEventBroker),
        ({"type": "servers.event_brokers.PlainBroker", "url": "x"}, EventBroker),
    ],
)
def test_types(section: Any, expected: type[Any], tmp_path: Path) -> None:
    """`type` in any case, as a short name or as a module path, documented ones included."""
    if section:
        section = {key: value.replace("{tmp}", str(tmp_path)) for key, value in section.items()}
    assert isinstance(create(section), expected)
    if section:
        assert isinstance(create(EndpointConfig(**section)), expected)


def test_without_a_type_it_is_rabbitmq() -> None:
    """As documented."""
    with pytest.raises(EventBrokerConnectionError, match="RabbitMQ at 127"):
        create({"url": "127.0.0.1:1", "connection_attempts": 1, **LOGIN})


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("kafak", "neither a known type nor the path of a class"),
        ("no.such.module.Class", "No module named 'no'"),
        ("ticketlock.locks.tickets.Nope", "has no class Nope"),
        ("ticketlock.locks.tickets.Ticket", "has no from_endpoint_config, publish"),
        ("ticketlock.publishing.broker.EventBroker", "has no from_endpoint_config, publish"),
    ],
)
def test_unresolvable_types_are_errors(kind: str, said: str) -> None:
    """Never no broker at all."""
    with pytest.raises(ConfigurationError) as caught:
        create({"type": kind})
    assert said in str(caught.value)


#: (type, its driver, the extra that brings it)
DRIVERS = (
    ("kafka", "confluent_kafka", "kafka"),
    ("pika", "pika", "pika"),
    ("sql", "sqlalchemy", "sql"),
)


def test_a_missing_driver(tmp_path: Path) -> None:
    """The error is the command to type."""
    # Each in a fork of one process: what they all import is imported once.
    code = """
        import asyncio, os, sys
        from ticketlock.endpoints.registry import create_event_broker
        for kind, driver, _ in DRIVERS:
            if not os.fork():
                sys.modules[driver] = None
                try:
                    asyncio.run(create_event_broker({"type": kind}))
                except Exception as error:
                    print(driver, type(error).__name__, error, flush=True)
                os._exit(0)
            os.wait()
        """
    result = subprocess.run(
        [sys.executable, "-c", f"DRIVERS = {DRIVERS}\n{textwrap.dedent(code)}"],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    said = result.stdout.splitlines()
    assert len(said) == len(DRIVERS), result
    for line, (_, driver, extra) in zip(said, DRIVERS, strict=True):
        assert line.startswith(f"{driver} ConfigurationError ")
        assert f'pip install "ticketlock[{extra}]"' in line


class Faulty(PlainBroker):
    """Fails for the third event, once."""

    failed = False

    def publish(self, event: dict[str, Any]) -> None:
        if event.get("sequence") == 3 and not self.failed:
            self.failed = True
            raise OSError("away")
        super().publish(event)


async def test_a_custom_broker_that_raises() -> None:
    """What it raises is `retry`; nothing of the conversation overtakes, others go on."""
    broker = CustomEventBroker(Faulty("faulty"))
    batch = [BrokerMessage("c", n, {}) for n in range(1, 6)] + [BrokerMessage("d", 1, {})]
    outcomes = await broker.deliver(batch)
    assert [o.status[0] for o in outcomes] == ["d", "d", "r", "r", "r", "d"]
    assert "OSError: away" in outcomes[2].reason
    outcomes = await broker.deliver(batch[2:5])
    assert {o.status for o in outcomes} == {"delivered"}
    await broker.close()
    events = [
        event["sequence"] for event in PlainBroker.kept["faulty"] if event["sender_id"] == "c"
    ]
    assert events == [1, 2, 3, 4, 5]


def test_publish_refuses_what_is_not_json(tmp_path: Path) -> None:
    """At the call, where the mistake is."""
    broker = FileEventBroker(str(tmp_path / "f"))
    with pytest.raises(EventBrokerError, match="not JSON"):
        broker.publish({"sender_id": "c", "text": object()})
    asyncio.run(broker.close())
