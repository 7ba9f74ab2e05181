"""Places of a test's own in the brokers that the event service reads."""

from __future__ import annotations

import time
from typing import Any

import pytest

from . import kafka_server

#: Partitions of a topic, so that instances can share it.
PARTITIONS = 4


def broker_section(request: pytest.FixtureRequest, kind: str) -> dict[str, Any]:
    """An `event_broker` section for a new topic or queue of `kafka` or `pika`."""
    name = f"service-{time.time_ns()}"
    if kind == "kafka":
        server = request.getfixturevalue("kafka")
        kafka_server.make_topic(server.bootstrap, name, PARTITIONS)
        return dict(server.section(topic=name))
    server = request.getfixturevalue("rabbitmq")
    return dict(server.section(queues=[name], exchange_name=f"{name}-x"))
