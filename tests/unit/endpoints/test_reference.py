"""The page of every key says what the code does."""

from __future__ import annotations

from endpoints_reference import COMMAND, PAGE, page
from ticketlock.brokers import FileEventBroker, KafkaEventBroker, PikaEventBroker
from ticketlock.stores import SQLTrackerStore

from ticketlock import ConcurrentRedisLockStore


def test_the_page_is_that_of_the_declarations() -> None:
    """Keys, values, defaults and meanings."""
    assert PAGE.read_text() == page(), f"write it anew: {COMMAND}"


def test_rows_are_what_stores_do() -> None:
    """A row of each kind, beside what is made without its key."""
    locks, tracker = ConcurrentRedisLockStore(), SQLTrackerStore()
    kafka, pika = KafkaEventBroker("h", security_protocol="SSL"), PikaEventBroker("h", "u", "p")
    text = page()
    for row in (
        f"| `port` | whole number, 1 to 65535 | {locks.settings.port} |",
        f"| `lease` | number, at least 0.5 | {locks.timing.lease // 1000} |",
        f"| `timeout` | number, at least 0.1 | {tracker.settings.timeout:g} |",
        f"| `topic` | text | `{kafka.settings.topic}` |",
        f"| `queues` | list of texts, or one text | `{pika.settings.queues[0]}` |",
        f"| `path` | text | `{FileEventBroker().path.rpartition('/')[2]}` |",
    ):
        assert row in text, row
