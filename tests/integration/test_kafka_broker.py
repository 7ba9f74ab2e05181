"""KafkaEventBroker against real servers: logging in, TLS, topics, outages."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from conftest import until
from servers.kafka_server import PASSWORD, USER, consume, delete_topic, make_topic
from servers.processes import free_port
from ticketlock.brokers.kafka.broker import KafkaEventBroker

from ticketlock.endpoints.registry import create_event_broker
from ticketlock.errors import EventBrokerConnectionError, EventBrokerError
from ticketlock.publishing.message import BrokerMessage, Outcome
from ticketlock.stress.proxy import Proxy

LOGIN = {"sasl_username": USER, "sasl_password": PASSWORD}


@pytest.fixture
def topic(kafka: Any) -> str:
    name = f"test-{time.time_ns()}"
    make_topic(kafka.bootstrap, name)
    return name


@asynccontextmanager
async def using(section: dict[str, Any]) -> AsyncIterator[KafkaEventBroker]:
    broker = KafkaEventBroker(**{key: section[key] for key in section if key != "type"})
    try:
        yield broker
    finally:
        await broker.close()


async def send(broker: KafkaEventBroker, *numbers: int, timeout: float = 5) -> list[Outcome]:
    batch = [BrokerMessage("c", number, {"event": "user"}) for number in numbers]
    return await broker.deliver(batch, timeout)


async def refusal(section: dict[str, Any], within: float = 20.0) -> str:
    """What `connect` and `deliver` say about a server that cannot be used."""
    async with using(section) as broker:
        start = time.monotonic()
        with pytest.raises(EventBrokerConnectionError) as caught:
            await broker.connect(timeout=2)
        (outcome,) = await send(broker, 1, timeout=2)
        assert time.monotonic() - start < within
        assert outcome.status == "retry"
        assert not broker.is_ready()
    said = str(caught.value)
    assert PASSWORD not in said + outcome.reason
    assert "wr0ng" not in said + outcome.reason
    return said


@pytest.mark.parametrize("kind", ["SASL_PLAINTEXT", "SASL_SSL"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "scram-sha-256", "SCRAM-SHA-512"])
async def test_logins(own_kafka: Any, topic: str, kind: str, mechanism: str) -> None:
    """Each mechanism logs in, over TLS too with host names unchecked, which is the default."""
    files = {"ssl_cafile": own_kafka.certificates["ca.pem"]} if kind == "SASL_SSL" else {}
    section = own_kafka.section(kind, topic=topic, sasl_mechanism=mechanism, **LOGIN, **files)
    async with using(section) as broker:
        await broker.connect()
        assert (await send(broker, 1))[0].status == "delivered"
    assert len(consume(own_kafka.bootstrap, topic, 1)) == 1


async def test_oauth(own_kafka: Any, topic: str) -> None:
    """A token of `oauth_cb` logs in."""

    def token(_: str) -> tuple[str, float]:
        import base64

        def part(value: dict[str, Any]) -> str:
            return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

        now = time.time()
        claims = {"sub": USER, "iat": now, "exp": now + 600}
        return f"{part({'alg': 'none'})}.{part(claims)}.", now + 600

    section = own_kafka.section("SASL_PLAINTEXT", topic=topic, sasl_mechanism="OAUTHBEARER")
    async with using({**section, "oauth_cb": token}) as broker:
        await broker.connect()
        assert (await send(broker, 1))[0].status == "delivered"


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
async def test_wrong_password(own_kafka: Any, topic: str, mechanism: str) -> None:
    """It is named at once, without the password, and as what no retry cures."""
    wrong = {**LOGIN, "sasl_password": "wr0ng", "sasl_mechanism": mechanism}
    said = await refusal(own_kafka.section("SASL_PLAINTEXT", topic=topic, **wrong))
    assert "refused the login: check sasl_username" in said


def tls(server: Any, **changes: str | None) -> dict[str, Any]:
    files = server.certificates
    keys = {
        "ssl_cafile": files["ca.pem"],
        "ssl_certfile": files["client.pem"],
        "ssl_keyfile": files["client.key"],
        **changes,
    }
    return {key: value for key, value in keys.items() if value is not None}


@pytest.mark.parametrize("check", [False, True])
async def test_tls(own_kafka: Any, topic: str, check: bool) -> None:
    """With the right files, and the right name, it works."""
    section = own_kafka.section("SSL", topic=topic, ssl_check_hostname=check, **tls(own_kafka))
    async with using(section) as broker:
        await broker.connect()
        assert (await send(broker, 1))[0].status == "delivered"


@pytest.mark.parametrize("kind", ["SSL", "SASL_SSL"])
async def test_host_names_are_checked(own_kafka: Any, topic: str, kind: str) -> None:
    """`ssl_check_hostname` counts for both protocols: the certificate is not for localhost."""
    section = own_kafka.section(kind, topic=topic, **LOGIN, **tls(own_kafka))
    section["url"] = section["url"].replace("127.0.0.1", "localhost")
    async with using({**section, "ssl_check_hostname": "false"}) as broker:
        await broker.connect()
    assert "TLS failed" in await refusal({**section, "ssl_check_hostname": True})


@pytest.mark.parametrize(
    "changes",
    [
        {"ssl_cafile": "other-ca.pem"},
        {"ssl_certfile": None, "ssl_keyfile": None},
        {"ssl_certfile": "stranger.pem", "ssl_keyfile": "stranger.key"},
    ],
    ids=["authority", "none", "stranger"],
)
async def test_wrong_tls(own_kafka: Any, topic: str, changes: dict[str, Any]) -> None:
    """A wrong authority, no certificate, one that the server does not trust."""
    files = own_kafka.certificates
    paths = {key: value and files[value] for key, value in changes.items()}
    said = await refusal(own_kafka.section("SSL", topic=topic, **tls(own_kafka, **paths)))
    assert "TLS failed" in said or "no connection: check url and security_protocol" in said


async def test_plain_towards_tls(own_kafka: Any, topic: str) -> None:
    """The advice names the protocol."""
    section = own_kafka.section("SSL", topic=topic, security_protocol="PLAINTEXT")
    assert "security_protocol" in await refusal(section)


@pytest.mark.parametrize("host", ["127.0.0.1:1", "no-such-host.invalid:9092"])
async def test_nobody_there(host: str) -> None:
    """The error names the server and what to check."""
    said = await refusal({"url": host, "security_protocol": "PLAINTEXT"})
    assert host in said
    assert "check url" in said


async def test_the_first_event_is_kept_and_nothing_waits(kafka: Any, topic: str) -> None:
    """A broker that starts while Kafka is away publishes when Kafka comes, first event first."""
    port = free_port()
    target = int(kafka.bootstrap.rpartition(":")[2])
    section = {**kafka.section(topic=topic), "url": f"127.0.0.1:{port}"}
    broker = await create_event_broker(section)
    assert broker is not None
    for number in range(3):
        broker.publish({"sender_id": "c", "event": "user", "text": str(number)})
    # It has not waited for a server that is not there until the proxy is.
    assert not broker.is_ready()
    async with Proxy(target, port):
        await until(broker.is_ready, "the broker finds its server", 20)
        await broker.close()
    texts = [json.loads(message.value())["text"] for message in consume(kafka.bootstrap, topic, 3)]
    assert texts == ["0", "1", "2"]


async def test_is_ready_notices_an_outage_by_itself(kafka: Any, topic: str) -> None:
    """Errors are served while nothing is sent."""
    async with using(kafka.section(topic=topic)) as broker:
        await broker.connect()
        assert broker.is_ready()
        broker._on_error(_AllDown())  # type: ignore[arg-type]  # what the driver calls
        assert not broker.is_ready()
        await until(broker.is_ready, "it looks again", 10)


class _AllDown:
    def code(self) -> int:
        from confluent_kafka import KafkaError

        return int(KafkaError._ALL_BROKERS_DOWN)


async def test_deleted_topic(kafka: Any, topic: str) -> None:
    """Its events are `retry`, saying why, and arrive once the topic is there again."""
    async with using(kafka.section(topic=topic)) as broker:
        assert (await send(broker, 1, 2))[1].status == "delivered"
        delete_topic(kafka.bootstrap, topic)
        outcomes = await send(broker, 3, 4, timeout=10)
        assert [outcome.status for outcome in outcomes] == ["retry", "retry"]
        assert "the topic does not exist: create it" in outcomes[0].reason
        make_topic(kafka.bootstrap, topic)
        for _ in range(20):
            outcomes = await send(broker, 3, 4)
            if outcomes[0].status == "delivered":
                break
        assert [outcome.status for outcome in outcomes] == ["delivered", "delivered"]
    found = [json.loads(m.value())["sequence"] for m in consume(kafka.bootstrap, topic, 2)]
    assert found == [3, 4]


async def test_a_full_queue(kafka: Any, topic: str) -> None:
    """A batch larger than `queue_size` goes through; `publish` refuses what it cannot keep."""
    async with using(kafka.section(topic=topic, queue_size=7)) as broker:
        assert {o.status for o in await send(broker, *range(500))} == {"delivered"}
    async with using(
        {"url": "127.0.0.1:1", "security_protocol": "PLAINTEXT", "queue_size": 7}
    ) as broker:
        with pytest.raises(EventBrokerError, match="7 events wait already"):
            for _ in range(8):
                broker.publish({"sender_id": "c"})


@pytest.mark.parametrize("keyed", [None, True, False])
async def test_keys_and_headers(
    kafka: Any, topic: str, keyed: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is the sender unless that is switched off; the header names the environment."""
    monkeypatch.setenv("RASA_ENVIRONMENT", "production")
    section = kafka.section(topic=topic, partition_by_sender=keyed)
    async with using(section) as broker:
        batch = [BrokerMessage(f"ä{i % 5}", i, {}, {"extra": "1"}) for i in range(60)]
        assert {o.status for o in await broker.deliver(batch)} == {"delivered"}
        broker.publish({"event": "without a sender"})
    found = consume(kafka.bootstrap, topic, 61)
    keys = {message.key() for message in found}
    expected = {None} if keyed is False else {f"ä{i}".encode() for i in range(5)} | {None}
    assert keys == expected
    assert found[0].headers()[0] == ("RASA_ENVIRONMENT", b"production")
    assert {len(message.headers()) for message in found} == {1, 2}


def test_another_event_loop(kafka: Any, topic: str) -> None:
    """A broker outlives the loop that it was connected in."""
    keys = {k: v for k, v in kafka.section(topic=topic).items() if k != "type"}
    broker = KafkaEventBroker(**keys)
    asyncio.run(broker.connect())
    assert asyncio.run(send(broker, 1))[0].status == "delivered"
    asyncio.run(broker.close())


async def test_small_events_in_a_topic_with_a_lower_limit(kafka: Any) -> None:
    """A record batch above the topic's limit is not the fault of the events in it."""
    name = f"low-{time.time_ns()}"
    make_topic(kafka.bootstrap, name, 1, **{"max.message.bytes": "20000"})
    async with using(kafka.section(topic=name)) as broker:
        batch = [BrokerMessage("c", n, {"text": "x" * 1000}) for n in range(60)]
        batch[30] = BrokerMessage("c", 30, {"text": "x" * 30_000})
        outcomes = await broker.deliver(batch, 20)
        assert [i for i, o in enumerate(outcomes) if o.status != "delivered"] == [30]
        assert outcomes[30].status == "poisoned"
    found = [json.loads(m.value())["sequence"] for m in consume(kafka.bootstrap, name, 59)]
    assert list(dict.fromkeys(found)) == [n for n in range(60) if n != 30]
