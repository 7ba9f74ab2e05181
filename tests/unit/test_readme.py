"""The examples of the README run, and its tables name what exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ticketlock.brokers.kafka import KafkaEventBroker
from ticketlock.brokers.pika import PikaEventBroker
from ticketlock.stores._event_schema import metadata

from ticketlock import cli
from ticketlock.concurrent_lock_store import ConcurrentRedisLockStore
from ticketlock.config_schema import KEYS
from ticketlock.embedded import EmbeddedRedis
from ticketlock.endpoints import read_endpoints
from ticketlock.event_broker import HISTORY_FIELD, SEQUENCE_FIELD
from ticketlock.event_service.settings import ServiceSettings
from ticketlock.keys import declared
from ticketlock.registry import EVENT_BROKERS, create_event_database, create_event_source

README = Path(__file__).parents[2] / "README.md"
ALL_EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
#: Consumers run for ever, and need a broker: `integration/test_plain_consumers.py` runs them.
CONSUMERS = [code for code in ALL_EXAMPLES if "rasa_core_events" in code]
EXAMPLES = [code for code in ALL_EXAMPLES if code not in CONSUMERS]


@pytest.mark.parametrize("code", EXAMPLES, ids=range(len(EXAMPLES)))
def test_example(
    code: str, redis_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The example runs to its end."""
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(README), "exec"), {"__name__": "example"})  # noqa: S102  # ours


def test_there_are_examples() -> None:
    """The pattern above finds something."""
    assert len(EXAMPLES) >= 2


def test_every_key_is_in_the_table() -> None:
    """No setting without a row."""
    text = README.read_text()
    for kinds in KEYS.values():
        for keys in kinds.values():
            for key in keys:
                assert f"`{key}`" in text, key
    assert "`credential_provider`" in text


def test_every_key_of_the_event_brokers_is_in_a_table() -> None:
    """No setting without a row; the lists are those that the settings read."""
    text = README.read_text().partition("## Event brokers")[2].partition("\n## ")[0]
    keys = {key for kind in KEYS["event_broker"].values() for key in kind}
    for key in (*keys, *EVENT_BROKERS, SEQUENCE_FIELD):
        assert f"`{key}`" in text, key
    kafka, pika = KafkaEventBroker("h", security_protocol="SSL"), PikaEventBroker("h", "u", "p")
    assert f"`{kafka.settings.topic}`" in text
    assert f"`queues` | `{pika.settings.queues[0]}`" in text
    assert f"`exchange_name` | `{pika.settings.exchange}`" in text


def test_the_tables_defaults_are_true() -> None:
    """The defaults of the table are those of the code."""
    store = ConcurrentRedisLockStore()
    settings, timing = store.settings, store.timing
    assert (settings.host, settings.port, settings.db) == ("localhost", 6379, 1)
    assert (settings.socket_timeout, settings.sentinel_service) == (10, "mymaster")
    assert timing == (4000, 2500, 3_600_000)


def test_the_event_services_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sections are read as they stand, and its tables' names are those of the code."""
    text = README.read_text().partition("## The event service")[2].partition("\n## ")[0]
    monkeypatch.setenv("EVENTS_PASSWORD", "p@ss")
    path = tmp_path / "endpoints.yml"
    path.write_text(text.partition("```yaml\n")[2].partition("```")[0])
    endpoints = read_endpoints(path)
    settings, database = create_event_database(endpoints.section("event_service"))
    assert database.address == "postgresql database 'events' at localhost"
    source = create_event_source(endpoints.section("event_broker"), settings)
    assert source.address == "Kafka at localhost:9092, topic rasa_core_events"
    assert f"`group` | `{settings.group}`" in text
    for name in (*declared(ServiceSettings), *metadata.tables, HISTORY_FIELD):
        assert f"`{name}`" in text, name
    for line in re.findall(r"^ticketlock .*$", text, re.MULTILINE):
        with pytest.raises(SystemExit) as end:
            cli.main([*line.partition("#")[0].split()[1:], "--help"])
        assert end.value.code == 0
