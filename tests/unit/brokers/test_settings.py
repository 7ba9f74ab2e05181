"""Settings of the event brokers: what is accepted, and errors that name key and way out."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from servers.certificates import Certificates
from ticketlock.brokers.kafka.broker import KafkaEventBroker
from ticketlock.brokers.pika.broker import PikaEventBroker
from ticketlock.brokers.sql.broker import SQLEventBroker

from ticketlock import ConfigurationError
from ticketlock.endpoints.registry import create_event_broker

LOGIN = {"username": "u", "password": "x-s3cret"}


def create(section: Any) -> Any:
    async def body() -> Any:
        broker = await create_event_broker(section)
        if broker is not None:
            await broker.close()
        return broker

    return asyncio.run(body())


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"url": "localhost"}, ("localhost", 5672, "u", "x-s3cret", "/")),
        ({"url": "host:7"}, ("host", 7, "u", "x-s3cret", "/")),
        ({"host": "host", "port": "8"}, ("host", 8, "u", "x-s3cret", "/")),
        ({"url": "amqp://localhost"}, ("localhost", 5672, "u", "x-s3cret", "/")),
        ({"url": "amqp://host5672"}, ("host5672", 5672, "u", "x-s3cret", "/")),
        ({"url": "amqps://host"}, ("host", 5671, "u", "x-s3cret", "/")),
        ({"url": "amqps://host:5671"}, ("host", 5671, "u", "x-s3cret", "/")),
        ({"url": "amqps://host:9", "port": 9}, ("host", 9, "u", "x-s3cret", "/")),
        ({"url": "amqp://u:x-s3cret@h/v%2Fw"}, ("h", 5672, "u", "x-s3cret", "v/w")),
        ({"url": "amqp://u@h/v"}, ("h", 5672, "u", "x-s3cret", "v")),
        (
            {"url": "amqp://a%40b:p%40ss%3Aw@h", "username": None, "password": "p@ss:w"},
            ("h", 5672, "a@b", "p@ss:w", "/"),
        ),
        ({"url": "h", "password": "p@ss w:o/r%d"}, ("h", 5672, "u", "p@ss w:o/r%d", "/")),
        ({"url": "amqp://[::1]:7"}, ("::1", 7, "u", "x-s3cret", "/")),
    ],
)
def test_rabbitmq_places(keys: dict[str, Any], expected: tuple[Any, ...]) -> None:
    """Host, URL and keys are merged by their parts, never by gluing texts together."""
    settings = PikaEventBroker(**{**LOGIN, **keys}).settings
    found = (settings.host, settings.port, settings.username, settings.password, settings.vhost)
    assert found == expected
    assert "x-s3cret" not in repr(settings) + settings.address


def test_rabbitmq_defaults() -> None:
    """The documented ones; one queue may be a text."""
    settings = PikaEventBroker("h", "u", "p").settings
    assert (settings.queues, settings.exchange) == (("rasa_core_events",), "rasa-exchange")
    assert (settings.attempts, settings.retry_delay, settings.keep) == (20, 5, True)
    assert settings.raise_on_failure is False
    assert settings.tls is None
    assert PikaEventBroker("h", "u", "p", queues="one").settings.queues == ("one",)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({}, "url: is missing"),
        ({"url": "h", "host": "h"}, "url: and host are the same setting"),
        ({"url": "http://u:x-s3cret@h"}, "neither a host nor an amqp:// or amqps:// URL"),
        ({"url": "amqp://h:70000"}, "url: its port is not a number"),
        ({"url": "amqp://h:1", "port": 2}, "port: is not the one in url"),
        ({"url": "amqp://other@h"}, "username: is not the one in url"),
        ({"url": "amqp://u:x-s3cret2@h"}, "password: is not the one in url"),
        ({"url": "h", "username": None}, "username: is missing"),
        ({"url": "h", "port": "many"}, "port: 'many' is not a number"),
        ({"url": "h", "queue": "q"}, "event_service, or did you mean queues?"),
        ({"url": "h", "queues": 3}, "queues: 3 is not a list of texts"),
        ({"url": "amqp://h?heartbeet=1"}, "heartbeet: is not a setting here; did you mean heartbe"),
        ({"url": "amqps://h?cacertfile=/no/such"}, "/no/such"),
    ],
)
def test_refused_rabbitmq(keys: dict[str, Any], said: str) -> None:
    """The error names the key, never a secret."""
    with pytest.raises(ConfigurationError) as caught:
        PikaEventBroker(**{**LOGIN, **keys})
    assert said in str(caught.value)
    assert "x-s3cret" not in str(caught.value)


def test_rabbitmq_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Both variables or none; an encrypted key is refused, not asked for; old ones are named."""
    files = Certificates(tmp_path)
    monkeypatch.setenv("RABBITMQ_SSL_CLIENT_CERTIFICATE", files["client.pem"])
    with pytest.raises(ConfigurationError, match="RABBITMQ_SSL_CLIENT_KEY is missing"):
        PikaEventBroker("h", "u", "p")
    monkeypatch.setenv("RABBITMQ_SSL_CLIENT_KEY", files["locked.key"])
    with pytest.raises(ConfigurationError, match="not encrypted"):
        PikaEventBroker("h", "u", "p")
    monkeypatch.setenv("RABBITMQ_SSL_CLIENT_KEY", files["client.key"])
    monkeypatch.setenv("RABBITMQ_SSL_CA_FILE", files["ca.pem"])
    monkeypatch.setenv("RABBITMQ_SSL_KEY_PASSWORD", "x-s3cret")
    for url in ("h", "amqp://h", "amqps://h"):
        settings = PikaEventBroker(url, "u", "p").settings
        assert settings.tls is not None
        assert settings.server_name == "h"
    assert "RABBITMQ_SSL_CA_FILE is no longer supported: give the URL parameter" in caplog.text
    assert "RABBITMQ_SSL_KEY_PASSWORD is no longer supported" in caplog.text
    assert "x-s3cret" not in caplog.text


KAFKA = {"url": "h:1", "sasl_username": "u", "sasl_password": "x-s3cret"}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN",
              "sasl.username": "u", "bootstrap.servers": "h:1"}),
        ({"url": ["a:1", "b:2"]}, {"bootstrap.servers": "a:1,b:2"}),
        ({"client_id": "me", "queue_size": "5"},
         {"client.id": "me", "queue.buffering.max.messages": 5}),
        ({"security_protocol": "plaintext"}, {"sasl.mechanism": None}),
        ({"security_protocol": "SSL"}, {"ssl.endpoint.identification.algorithm": "none"}),
        ({"security_protocol": "ssl", "ssl_check_hostname": "true"},
         {"ssl.endpoint.identification.algorithm": "https", "sasl.mechanism": None}),
        ({"security_protocol": "SASL_SSL"},
         {"ssl.endpoint.identification.algorithm": "none", "sasl.password": "x-s3cret"}),
        ({"security_protocol": "SASL_SSL", "ssl_check_hostname": True},
         {"ssl.endpoint.identification.algorithm": "https"}),
        ({"sasl_mechanism": "scram-sha-512"}, {"sasl.mechanism": "SCRAM-SHA-512"}),
        ({"sasl_mechanism": "GSSAPI", "sasl_password": None}, {"sasl.mechanism": "GSSAPI"}),
        ({"sasl_mechanism": "OAUTHBEARER", "sasl_oauthbearer_token_endpoint_url": "https://t"},
         {"sasl.oauthbearer.method": "oidc", "sasl.oauthbearer.client.id": "u"}),
        ({"socket_keepalive_enable": True, "reconnect_backoff_ms": 5},
         {"socket.keepalive.enable": True, "reconnect.backoff.ms": 5,
          "reconnect.backoff.max.ms": 10000, "topic.metadata.refresh.interval.ms": 300000}),
        ({"reconnect_backoff_ms": 5}, {"reconnect.backoff.ms": None}),
    ],
)  # fmt: skip
def test_kafka_keys(keys: dict[str, Any], expected: dict[str, Any]) -> None:
    """What the keys mean to the driver."""
    settings = KafkaEventBroker(**{**KAFKA, **keys}).settings
    config = settings.config()
    assert {key: config.get(key) for key in expected} == expected
    assert "x-s3cret" not in repr(settings)
    assert settings.topic == "rasa_core_events"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"url": None}, "url: is missing"),
        ({"url": 5.5}, "url: 5.5 is not a list of texts"),
        ({"topic": "a b"}, "topic: 'a b' is not a valid Kafka topic name"),
        ({"security_protocol": "TLS"}, "one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
        ({"sasl_mechanism": "MD5"}, "one of PLAIN, GSSAPI"),
        ({"sasl_username": None}, "sasl_username: is missing: SASL_PLAINTEXT with PLAIN logs in"),
        ({"sasl_mechanism": "OAUTHBEARER"}, "sasl_oauthbearer_token_endpoint_url: is missing"),
        ({"ssl_cafile": "/no/such"}, "ssl_cafile: '/no/such' cannot be read"),
        ({"ssl_certfile": __file__}, "ssl_keyfile: is missing"),
        ({"oauth_cb": 3}, "oauth_cb: is not callable"),
        ({"queue_size": 0}, "queue_size: 0"),
        ({"partition_by_sendr": True}, "did you mean partition_by_sender?"),
        ({"sasl_password": ["x-s3cret"]}, "sasl_password: the value is not text"),
    ],
)
def test_refused_kafka(keys: dict[str, Any], said: str) -> None:
    """The error names the key, never a secret."""
    with pytest.raises(ConfigurationError) as caught:
        KafkaEventBroker(**{**KAFKA, **keys})
    assert said in str(caught.value)
    assert "x-s3cret" not in str(caught.value)


def test_what_the_kafka_driver_refuses() -> None:
    """GSSAPI is not in the wheels: that is said when the broker is made."""
    section = {"type": "kafka", "url": "h:1", "sasl_mechanism": "GSSAPI"}
    with pytest.raises(ConfigurationError, match=r"event_broker: the driver refuses: .*GSSAPI"):
        create(section)


@pytest.mark.parametrize(
    ("keys", "url"),
    [
        ({}, "sqlite+pysqlite:///events.db"),
        ({"dialect": "postgresql", "url": "h", "port": 1, "db": "d", "username": "u",
          "password": "p@s"}, "postgresql+psycopg://u:p%40s@h:1/d"),
        ({"dialect": "postgresql+psycopg2", "url": "h:7"}, "postgresql+psycopg://h:7/events.db"),
        ({"url": "postgres://u:p@h/d"}, "postgresql+psycopg://u:p@h/d"),
    ],
)  # fmt: skip
def test_sql_places(keys: dict[str, Any], url: str) -> None:
    """The documented keys, with a driver that does not block."""
    assert SQLEventBroker(**keys).settings.url.render_as_string(hide_password=False) == url


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"dialect": "foo"}, "'foo' is not one of sqlite"),
        ({"port": "x"}, "port: 'x'"),
        ({"login_db": "x"}, "login_db: is for PostgreSQL only"),
        ({"url": "://u:x-s3cret@"}, "not a database URL"),
    ],
)
def test_refused_sql(keys: dict[str, Any], said: str) -> None:
    """The error names the key, never a secret."""
    with pytest.raises(ConfigurationError) as caught:
        SQLEventBroker(**keys)
    assert said in str(caught.value)
    assert "x-s3cret" not in str(caught.value)
