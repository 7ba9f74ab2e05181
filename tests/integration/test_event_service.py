"""`ticketlock events consume` between real brokers and real databases."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from servers import kafka_server, postgres
from servers.consumers import Consumer, publish, query, stored, write_endpoints
from servers.event_flows import broker_section
from servers.processes import unprivileged

from ticketlock import cli
from ticketlock.publishing.message import HISTORY_FIELD, SEQUENCE_FIELD, BrokerMessage

BROKERS = ("pika", "kafka")
IDLE = ("--until-idle", "0.5")


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> dict[str, Any]:
    """A section for a topic or queue of the test's own."""
    return broker_section(request, request.param)


@pytest.fixture
def service(tmp_path: Path) -> dict[str, Any]:
    return {"db": str(tmp_path / "events.db")}


def wait(condition: Callable[[], object], what: str, seconds: float = 40) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def count(service: dict[str, Any]) -> int:
    with contextlib.suppress(Exception):  # no table, or no database, yet
        return int(query(service, "SELECT COUNT(*) FROM ticketlock_service_events")[0][0])
    return 0


def messages(number: int, conversation: str = "c", first: int = 0) -> list[BrokerMessage]:
    return [BrokerMessage(conversation, n, {"event": "user"}) for n in range(first, first + number)]


def send_raw(request: pytest.FixtureRequest, section: dict[str, Any], *bodies: bytes) -> None:
    """Publish bytes, as a program that is not ours may."""
    if section["type"] == "kafka":
        producer = Producer({"bootstrap.servers": section["url"]})
        for body in bodies:
            producer.produce(section["topic"], body)
        producer.flush(10)
        return
    connection = request.getfixturevalue("rabbitmq").connect()
    for body in bodies:
        connection.channel().basic_publish(section["exchange_name"], "", body)
    connection.close()


# Not all pairs: the database and the broker know nothing of each other.
@pytest.mark.parametrize(
    ("kind", "database"), [("pika", "sqlite"), ("kafka", "postgres"), ("pika", "mariadb")]
)
def test_from_end_to_end(
    request: pytest.FixtureRequest,
    kind: str,
    tracker_sections: Any,
    tmp_path: Path,
    database: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Events, other publishers' events, repeats, gaps and rejects; a second run finds nothing."""
    broker = broker_section(request, kind)
    service = tracker_sections(database)
    endpoints = write_endpoints(tmp_path / "endpoints.yml", broker, service)
    sent = messages(5, "ä 🎟") + messages(3, "b ") + messages(2, "b ") + messages(2, "b", 3)
    publish(broker, sent)
    other = {"sender_id": "other", "event": "user", "text": "no number"}
    publish(broker, [BrokerMessage.of_event(other)])
    later = json.dumps({"sender_id": "b", SEQUENCE_FIELD: 0, HISTORY_FIELD: 7}).encode()
    send_raw(request, broker, later, b"\xff", b"[1]", b'{"sender_id": ""}')
    with Consumer(endpoints, *IDLE) as consumer:
        assert consumer.summary() == {"stored": 12, "duplicates": 2, "rejected": 3, "gaps": 1}
        assert "conversation 'b': events 0 to 2 are missing" in consumer.log
        assert "rejected a message" in consumer.log
    expected = {(m.conversation_id, 0, m.sequence) for m in sent}
    assert stored(service) == sorted({*expected, ("b", 7, 0)})
    rows = query(service, "SELECT data FROM ticketlock_service_unnumbered")
    assert [json.loads(row[0]) for row in rows] == [other]
    assert cli.main(["events", "gaps", "--endpoints", str(endpoints), "--json"]) == cli.EXIT_FAILED
    gap = {"conversation": "b", "history": 0, "from": 0, "to": 2}
    assert json.loads(capsys.readouterr().out) == {"gaps": [gap]}
    publish(broker, messages(3, "b"))
    with Consumer(endpoints, *IDLE) as consumer:
        assert consumer.summary() == {"stored": 3, "duplicates": 0, "rejected": 0, "gaps": 0}
    assert cli.main(["events", "gaps", "--endpoints", str(endpoints)]) == cli.EXIT_OK
    assert capsys.readouterr().out.startswith("nothing is missing in ")


def test_the_consumer_of_pika_may_come_first(
    request: pytest.FixtureRequest, tmp_path: Path, service: dict[str, Any]
) -> None:
    """RabbitMQ's queue is made as the publisher makes it: nothing sent from then on is lost."""
    broker = broker_section(request, "pika")
    endpoints = write_endpoints(tmp_path / "endpoints.yml", broker, service)
    with Consumer(endpoints) as consumer:
        wait(lambda: "INFO reading from" in consumer.log, "it reads")
        publish(broker, messages(10))
        wait(lambda: count(service) == 10, "they arrive")
        connection = request.getfixturevalue("rabbitmq").connect()
        connection.channel().queue_delete(broker["queues"][0])
        wait(lambda: "the queue was deleted" in consumer.log, "it notices")
        publish(broker, messages(10, first=10))
        wait(lambda: count(service) == 20, "the queue is there again")
        connection.close()
        assert consumer.stop()["stored"] == 20


def test_a_missing_kafka_topic_is_waited_for(
    kafka: Any, tmp_path: Path, service: dict[str, Any]
) -> None:
    """It says so, is not idle, and reads the topic when it is there."""
    broker = kafka.section(topic=f"late-{time.time_ns()}")
    endpoints = write_endpoints(tmp_path / "endpoints.yml", broker, service)
    with Consumer(endpoints, "--until-idle", "0.2") as consumer:
        wait(lambda: "the topic does not exist: create it" in consumer.log, "it says so")
        kafka_server.make_topic(kafka.bootstrap, broker["topic"])
        publish(broker, messages(10))
        assert consumer.summary()["stored"] == 10


@pytest.mark.parametrize(("kind", "number"), [("pika", signal.SIGINT), ("kafka", signal.SIGTERM)])
def test_a_signal_drains(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    service: dict[str, Any],
    kind: str,
    number: int,
) -> None:
    """Of what was read nothing is stored twice: the next one begins where this one ended."""
    broker = broker_section(request, kind)
    endpoints = write_endpoints(tmp_path / "endpoints.yml", broker, service)
    publish(broker, [m for n in range(20_000 // 100) for m in messages(100, f"c{n}")])
    with Consumer(endpoints) as consumer:
        wait(lambda: count(service) > 0, "it stores")
        first = consumer.stop(number)
    assert 0 < first["stored"] < 20_000
    with Consumer(endpoints, *IDLE) as consumer:
        second = consumer.summary()
    assert first["stored"] + second["stored"] == 20_000 == count(service)
    assert (first["duplicates"], second["duplicates"], second["gaps"]) == (0, 0, 0)


def stop_postgres(service: dict[str, Any]) -> Callable[[], subprocess.Popen[bytes]]:
    """Stop a PostgreSQL of ours; what is returned starts it again on its data."""
    folder = Path(query(service, "SHOW data_directory")[0][0])
    process = int((folder / "postmaster.pid").read_text().split()[0])
    command = Path(f"/proc/{process}/cmdline").read_bytes().decode().split("\0")[:-1]
    program = os.readlink(f"/proc/{process}/exe")
    os.kill(process, signal.SIGINT)
    wait(lambda: not (folder / "postmaster.pid").exists(), "it stops")

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command, executable=program, cwd="/", stderr=subprocess.DEVNULL, **unprivileged()
        )

    return start


def test_the_database_goes_and_comes(broker: dict[str, Any], tmp_path: Path) -> None:
    """Meanwhile it confirms nothing, and lives; then everything is there, once."""
    with postgres.server() as login:
        service = {"dialect": "postgresql", "db": "events", "login_db": "postgres", **login}
        endpoints = write_endpoints(tmp_path / "endpoints.yml", broker, service)
        with Consumer(endpoints) as consumer:
            publish(broker, messages(100))
            wait(lambda: count(service) == 100, "it stores")
            start = stop_postgres(service)
            publish(broker, messages(100, first=100))
            wait(lambda: "waiting for the database" in consumer.log, "it notices")
            assert consumer.process.poll() is None
            server = start()
            try:
                wait(lambda: count(service) == 200, "it goes on")
                done = consumer.stop()
            finally:
                server.send_signal(signal.SIGINT)
                server.wait(20)
        assert done == {"stored": 200, "duplicates": 0, "rejected": 0, "gaps": 0}


@pytest.mark.slow
@pytest.mark.parametrize("kind", BROKERS)
def test_the_broker_goes_and_comes(
    request: pytest.FixtureRequest, tmp_path: Path, service: dict[str, Any], kind: str
) -> None:
    """It connects again by itself."""
    server = request.getfixturevalue(f"own_{'rabbitmq' if kind == 'pika' else kind}")
    broker = broker_section(request, kind)
    endpoints = write_endpoints(tmp_path / "endpoints.yml", broker, service)
    with Consumer(endpoints) as consumer:
        publish(broker, messages(100))
        wait(lambda: count(service) == 100, "it stores")
        server.stop(kill=True)
        wait(lambda: "waiting for the broker" in consumer.log, "it notices")
        server.start()
        publish(broker, messages(100, first=100))
        wait(lambda: count(service) == 200, "it goes on")
        assert consumer.stop()["stored"] == 200


@pytest.mark.parametrize(
    ("document", "status", "said"),
    [
        ({}, cli.EXIT_BAD_INPUT, "event_broker: is missing: it names the Kafka or RabbitMQ"),
        ({"event_broker": {"type": "file"}}, cli.EXIT_BAD_INPUT, "cannot be consumed"),
        ({"event_broker": {"type": "kafka"}}, cli.EXIT_BAD_INPUT, "event_broker: url: is missing"),
        ({"event_service": {"type": "x"}}, cli.EXIT_BAD_INPUT, "event_service: type: 'x' is not"),
    ],
)
def test_wrong_settings(
    tmp_path: Path,
    document: dict[str, Any],
    status: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They end it before anything is opened, naming file, section and key."""
    path = tmp_path / "endpoints.yml"
    path.write_text(json.dumps(document))
    assert cli.main(["events", "consume", "--endpoints", str(path)]) == status
    error = capsys.readouterr().err
    assert said in error
    assert str(path) in error


def test_a_wrong_password_of_pika(
    own_rabbitmq: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ends at once with the status of a server that cannot be used."""
    broker = own_rabbitmq.section(password="wr0ng")
    path = write_endpoints(tmp_path / "e.yml", broker, {"db": str(tmp_path / "events.db")})
    assert cli.main(["events", "consume", "--endpoints", str(path)]) == cli.EXIT_UNAVAILABLE
    assert "check username and password" in capsys.readouterr().err
