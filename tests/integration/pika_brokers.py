"""What the tests of PikaEventBroker share: brokers on a RabbitMQ, and what they have sent."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import pytest
from servers.rabbitmq import PASSWORD
from ticketlock.brokers.pika.broker import PikaEventBroker

from ticketlock.endpoints.registry import create_event_broker
from ticketlock.errors import EventBrokerConnectionError
from ticketlock.publishing.message import BrokerMessage, Outcome

URL_PASSWORD = quote(PASSWORD, safe="")


@asynccontextmanager
async def using(section: dict[str, Any]) -> AsyncIterator[PikaEventBroker]:
    broker = PikaEventBroker(**{key: section[key] for key in section if key != "type"})
    try:
        yield broker
    finally:
        await broker.close()


async def send(broker: PikaEventBroker, *numbers: int, timeout: float = 5) -> list[Outcome]:
    batch = [BrokerMessage("c", number, {"event": "user"}) for number in numbers]
    return await broker.deliver(batch, timeout)


async def one(broker: PikaEventBroker) -> None:
    await broker.connect()
    assert (await send(broker, 1))[0].status == "delivered"


def read(server: Any, queue: str, vhost: str = "/") -> list[tuple[Any, dict[str, Any]]]:
    connection = server.connect(vhost)
    try:
        channel, found = connection.channel(), []
        while True:
            method, properties, body = channel.basic_get(queue, auto_ack=True)
            if method is None:
                return found
            found.append((properties, json.loads(body)))
    finally:
        connection.close()


async def refusal(section: dict[str, Any], within: float = 20.0) -> str:
    """What `create` and `deliver` say about a server that cannot be used."""
    start = time.monotonic()
    with pytest.raises(EventBrokerConnectionError) as caught:
        await create_event_broker(section)
    async with using(section) as broker:
        (outcome,) = await send(broker, 1, timeout=2)
        assert outcome.status == "retry"
        assert not broker.is_ready()
    assert time.monotonic() - start < within
    said = str(caught.value)
    assert PASSWORD not in said + outcome.reason
    assert "wr0ng" not in said + outcome.reason
    return said
