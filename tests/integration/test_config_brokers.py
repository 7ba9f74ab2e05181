"""`ticketlock config check` of an `event_broker`, with real servers up, down, and locked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ticketlock import cli
from ticketlock.redis.embedded import free_port

Capture = pytest.CaptureFixture[str]

SECRET = "x-s3cret-x"


#: A class of somebody else whose error quotes what it was given.
RAISING = """
class Raising:
    @classmethod
    async def from_endpoint_config(cls, broker_config):
        raise ValueError(f"no broker for {broker_config.kwargs}")

    def publish(self, event):
        pass
"""


def check(folder: Path, section: dict[str, Any], capsys: Capture) -> tuple[int, dict[str, Any]]:
    """The exit status and the broker's row; nothing that is printed holds a secret."""
    path = folder / "endpoints.yml"
    path.write_text(json.dumps({"event_broker": section}))
    status = cli.main(["config", "check", str(path)])
    text = capsys.readouterr()
    assert cli.main(["config", "check", str(path), "--json"]) == status
    told = capsys.readouterr()
    row: dict[str, Any] = json.loads(told.out)["components"][2]
    assert row["section"] == "event_broker"
    assert row["ok"] == (status == cli.EXIT_OK)
    assert f"event_broker: {row['kind']}, {row['where']}" in text.out
    for secret in (SECRET, *(v for k, v in section.items() if "password" in k)):
        assert secret not in text.out + text.err + told.out + told.err
    return status, row


def problem(folder: Path, section: dict[str, Any], capsys: Capture) -> str:
    status, row = check(folder, section, capsys)
    assert status == cli.EXIT_FAILED
    text = str(row["problem"])
    assert text.startswith(f"{folder}/endpoints.yml: event_broker: ")
    return text


def test_pika(rabbitmq: Any, tmp_path: Path, capsys: Capture) -> None:
    section = rabbitmq.section(queues=["config check"], exchange_name="config check")
    status, row = check(tmp_path, section, capsys)
    assert (status, row["kind"]) == (cli.EXIT_OK, "PikaEventBroker")
    if not hasattr(rabbitmq, "stop"):
        return
    assert row["where"] == f"RabbitMQ at 127.0.0.1:{rabbitmq.port}"
    wrong = {**section, "password": SECRET}
    assert "check username and password" in problem(tmp_path, wrong, capsys)
    # Documented are 20 attempts, 5 s apart: who checks does not want to wait for them.
    away = {**section, "port": free_port()}
    said = problem(tmp_path, away, capsys)
    assert "nothing listens there: check url and port" in said
    assert "server runs (ConnectionRefusedError: " in said  # without the names of pika's own
    url = f"amqp://tester:{SECRET}@127.0.0.1:{rabbitmq.port}"
    assert "refused the login" in problem(tmp_path, {"type": "pika", "url": url}, capsys)
    untyped = {key: value for key, value in section.items() if key != "type"}
    assert check(tmp_path, untyped, capsys)[1]["kind"] == "PikaEventBroker"


def test_kafka(kafka: Any, tmp_path: Path, capsys: Capture) -> None:
    from servers.kafka_server import make_topic

    make_topic(kafka.bootstrap, "config-check")
    status, row = check(tmp_path, kafka.section(topic="config-check"), capsys)
    assert (status, row["kind"]) == (cli.EXIT_OK, "KafkaEventBroker")
    assert row["where"].startswith("Kafka at ")
    if not hasattr(kafka, "stop"):
        return
    wrong = kafka.section("SASL_PLAINTEXT", topic="config-check")
    wrong = {**wrong, "sasl_username": "tester", "sasl_password": SECRET}
    assert "check sasl_username, sasl_password" in problem(tmp_path, wrong, capsys)


def test_kafka_that_is_away(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits longer than one connection may take; the test less than that."""
    monkeypatch.setattr("ticketlock.brokers.threaded.DELIVER_TIMEOUT", 1.0)
    section = {"type": "kafka", "url": f"127.0.0.1:{free_port()}", "security_protocol": "PLAINTEXT"}
    assert "no connection: check url" in problem(tmp_path, section, capsys)


def test_files(tmp_path: Path, capsys: Capture) -> None:
    """SQLite and plain files; wrong folders and keys name what to change."""
    for kind, key in (("sql", "db"), ("file", "path")):
        status, row = check(tmp_path, {"type": kind, key: f"{tmp_path}/{kind}"}, capsys)
        assert (status, str(tmp_path) in row["where"]) == (cli.EXIT_OK, True)
        assert "did you mean" in problem(tmp_path, {"type": kind, f"{key}x": "y"}, capsys)
    bad = {"type": "file", "path": f"{tmp_path}/no/file"}
    assert "check path, its folder" in problem(tmp_path, bad, capsys)


def test_custom_classes(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that works, one that raises what holds a password, one that is not there."""
    good = {"type": "servers.event_brokers.PlainBroker", "url": "config check"}
    status, row = check(tmp_path, good, capsys)
    assert (status, row["kind"], row["where"]) == (cli.EXIT_OK, "PlainBroker", "-")
    (tmp_path / "raising_broker.py").write_text(RAISING)
    monkeypatch.syspath_prepend(tmp_path)
    raising = {"type": "raising_broker.Raising", "password": SECRET}
    assert "ValueError: no broker for" in problem(tmp_path, raising, capsys)
    assert "no class Nobody" in problem(
        tmp_path, {"type": "servers.event_brokers.Nobody", "password": SECRET}, capsys
    )
