"""PikaEventBroker logs in at a real RabbitMQ, with TLS and without; what is refused says why."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from integration.pika_brokers import URL_PASSWORD, one, read, refusal, send, using
from servers.rabbitmq import PASSWORD, USER, VHOST
from ticketlock.brokers.pika.broker import PikaEventBroker

from ticketlock.errors import EventBrokerConnectionError
from ticketlock.stress.proxy import Proxy


@pytest.fixture
def name() -> str:
    return f"test-{time.time_ns()}"


@pytest.fixture
def section(rabbitmq: Any, name: str) -> dict[str, Any]:
    """Queue and exchange of the test's own."""
    once = {"connection_attempts": 1}
    return dict(rabbitmq.section(queues=name, exchange_name=f"{name}-x", **once))


def test_documented_construction(rabbitmq: Any, own_rabbitmq: Any, name: str) -> None:
    """host, user, password by position, queues, event_loop; and another loop than connect's."""
    loop = asyncio.new_event_loop()
    broker = PikaEventBroker(
        f"127.0.0.1:{own_rabbitmq.port}", USER, PASSWORD, queues=[name], event_loop=loop
    )
    loop.close()
    asyncio.run(broker.connect())
    assert asyncio.run(send(broker, 1))[0].status == "delivered"
    asyncio.run(broker.close())
    assert len(read(rabbitmq, name)) == 1


async def test_virtual_host_in_the_url(own_rabbitmq: Any, name: str) -> None:
    """Vhost, user and password of a URL are percent-decoded; the port is its own."""
    place = f"127.0.0.1:{own_rabbitmq.port}/{quote(VHOST, safe='')}"
    url = f"amqp://{USER}:{URL_PASSWORD}@{place}?heartbeat=30&connection_timeout=5"
    async with using({"url": url, "queues": [name]}) as broker:
        await one(broker)
    assert len(read(own_rabbitmq, name, VHOST)) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"password": "wr0ng"}, "refused the login: check username and password"),
        ({"username": "limited"}, "lacks a right"),
        ({"url": "amqp://127.0.0.1/nope"}, "virtual host"),
        ({"port": 1}, "nothing listens there"),
        ({"url": "no-such-host.invalid"}, "the host is not known"),
    ],
)
async def test_refusals(
    own_rabbitmq: Any, section: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    """The error names the server, why, and what to change; what is hopeless is not repeated."""
    attempts = {} if "port" in changes else {"connection_attempts": 20}
    text = await refusal({**section, **attempts, **changes})
    assert said in text
    assert "RabbitMQ at " in text


@pytest.mark.parametrize(
    ("answers", "said"),
    [(0, "does not speak AMQP"), (1, "does not accept the login"), (2, "virtual host")],
)
async def test_broken_while_opening(section: dict[str, Any], answers: int, said: str) -> None:
    """A connection that breaks in any step of the handshake may be a failing network, and is
    tried again; the error names what else it may be.
    """

    keys = {"connection_attempts": 2, "retry_delay_in_seconds": 0}
    async with Proxy(section["port"]) as proxy:
        proxy.most_answers = answers
        async with using({**section, **keys, "port": proxy.port}) as broker:
            with pytest.raises(EventBrokerConnectionError) as raised:
                await broker.connect()
            assert raised.value.again
            assert proxy.accepted == 2
            assert said in str(raised.value)
            assert "the network is failing" in str(raised.value)
            proxy.most_answers = math.inf
            await one(broker)


async def test_connection_attempts() -> None:
    """A server that comes up later is waited for, as the keys say."""
    keys = {"connection_attempts": 3, "retry_delay_in_seconds": 0.3}
    start = time.monotonic()
    await refusal({"type": "pika", "url": "127.0.0.1", "port": 1, "username": "u",
                  "password": "p", **keys})  # fmt: skip
    assert time.monotonic() - start > 0.6


def tls_url(server: Any, host: str = "127.0.0.1", **query: str) -> str:
    words = "&".join(f"{key}={quote(value, safe='')}" for key, value in query.items())
    return f"amqps://{USER}:{URL_PASSWORD}@{host}:{server.tls_port}?{words}"


@pytest.fixture
def environment(own_rabbitmq: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set the documented variables to a certificate of the tests."""

    def put(certificate: str = "client.pem", key: str = "client.key") -> None:
        files = own_rabbitmq.certificates
        monkeypatch.setenv("RABBITMQ_SSL_CLIENT_CERTIFICATE", files[certificate])
        monkeypatch.setenv("RABBITMQ_SSL_CLIENT_KEY", files[key])

    return put


async def test_tls_by_variables(
    own_rabbitmq: Any, name: str, environment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the documented variables, by host and by amqp:// URL alike."""
    environment()
    monkeypatch.setenv("SSL_CERT_FILE", own_rabbitmq.certificates["ca.pem"])
    login = {"username": USER, "password": PASSWORD, "port": own_rabbitmq.tls_port}
    for url in ("127.0.0.1", "amqp://127.0.0.1", "amqps://127.0.0.1"):
        async with using({"url": url, "queues": [name], **login}) as broker:
            await one(broker)
    assert len(read(own_rabbitmq, name)) == 3


async def test_tls_by_url(own_rabbitmq: Any, name: str) -> None:
    """amqps:// with cacertfile, certfile and keyfile."""
    files = own_rabbitmq.certificates
    pair = {"certfile": files["client.pem"], "keyfile": files["client.key"]}
    for trust in ({"cacertfile": files["ca.pem"]}, {"verify": "verify_none"}):
        async with using(
            {"url": tls_url(own_rabbitmq, **trust, **pair), "queues": [name]}
        ) as broker:
            await one(broker)
    assert len(read(own_rabbitmq, name)) == 2


@pytest.mark.parametrize(
    ("host", "authority", "pair", "said"),
    [
        ("127.0.0.1", "other-ca.pem", "client", "certificate is not trusted"),
        ("localhost", "ca.pem", "client", "certificate is not trusted"),
        ("127.0.0.1", "ca.pem", "stranger", "certificate"),
        ("127.0.0.1", "ca.pem", None, "certificate"),
    ],
)
async def test_wrong_tls(
    own_rabbitmq: Any, environment: Any, host: str, authority: str, pair: Any, said: str
) -> None:
    """A wrong authority, a wrong host name, a certificate that the server does not trust."""
    if pair:
        environment(f"{pair}.pem", f"{pair}.key")
    url = tls_url(own_rabbitmq, host, cacertfile=own_rabbitmq.certificates[authority])
    text = await refusal({"type": "pika", "url": url, "connection_attempts": 1})
    assert said in text
