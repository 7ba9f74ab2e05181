"""What is not verified says so at each start, and names the key."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from ticketlock.brokers.kafka.broker import KafkaEventBroker
from ticketlock.brokers.pika.broker import PikaEventBroker

from ticketlock.endpoints.registry import create_tracker_store
from ticketlock.redis.settings import RedisSettings


def kafka(**keys: Any) -> object:
    return KafkaEventBroker("h", security_protocol="SSL", **keys)


def rabbit(parameters: str) -> object:
    return PikaEventBroker(f"amqps://u:p@h/?{parameters}")


def mongo(parameters: str) -> object:
    return create_tracker_store({"type": "mongod", "url": f"mongodb://h/?tls=true&{parameters}"})


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: kafka(), "ssl_check_hostname"),
        (lambda: kafka(ssl_check_hostname="false"), "ssl_check_hostname"),
        (lambda: rabbit("verify=verify_none"), "cacertfile"),
        (lambda: rabbit("no_verify_ssl=true"), "cacertfile"),
        (
            lambda: RedisSettings.of({"use_ssl": True, "ssl_check_hostname": False}),
            "ssl_check_hostname",
        ),
        (lambda: mongo("tlsAllowInvalidCertificates=true"), "tlsAllowInvalid"),
        (lambda: mongo("tlsInsecure=true"), "tlsInsecure"),
    ],
)
def test_it_warns(make: Any, key: str, caplog: pytest.LogCaptureFixture) -> None:
    make()
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert key in record.getMessage()


@pytest.mark.parametrize(
    "make",
    [
        lambda: kafka(ssl_check_hostname=True),
        lambda: KafkaEventBroker("h", security_protocol="PLAINTEXT"),
        lambda: rabbit("verify=verify_peer"),
        lambda: RedisSettings.of({"use_ssl": True}),
        lambda: RedisSettings.of({"ssl_check_hostname": False}),
        lambda: mongo("tlsInsecure=false"),
    ],
)
def test_what_is_verified_does_not(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    make()
    assert caplog.records == []
