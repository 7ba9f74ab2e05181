"""Wrong keys of `endpoints.yml`: all are named, each with the section that it belongs in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ticketlock import ConfigurationError, cli
from ticketlock.endpoints import read_endpoints
from ticketlock.endpoints.registry import (
    create_lock_store,
    create_tracker_store,
    event_broker_maker,
)
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.server import Settings

MAKE: dict[str, Callable[[Any], object]] = {
    "lock_store": create_lock_store,
    "tracker_store": create_tracker_store,
    "event_broker": event_broker_maker,
    "server": Settings.from_section,
}


def write(folder: Path, text: str) -> Path:
    path = folder / "endpoints.yml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("section", "keys", "says"),
    [
        (
            "lock_store", {"type": "concurrent_redis", "lock_lifetime": 60},
            "lock_store: lock_lifetime: is not a setting here; it belongs in the section server",
        ),
        (
            "lock_store", {"max_turns": 6, "dialect": "sqlite"},
            "in the section server. dialect: is not a setting here; it belongs in the section tracker_",
        ),
        (
            "tracker_store", {"type": "sql", "collection": "c"},
            "tracker_store: collection: is not a setting here; it is a setting of type mongod",
        ),
        ("tracker_store", {"type": "redis", "prot": 1}, "prot: is not a setting here; did you mean"),
        (
            "event_broker", {"type": "pika", "url": "amqp://u:p@h", "queue": "q"},
            "queue: is not a setting here; it belongs in the section event_service, or did you mean ",
        ),
        (
            "server", {"socket_timeout": 3},
            "it belongs in the section lock_store or tracker_store, or did you mean head_timeout?",
        ),
        ("server", {"oauth_cb": 3}, "server: oauth_cb: is not a setting here; known keys: double"),
    ],
)  # fmt: skip
def test_an_unknown_key_that_is_one_elsewhere(
    section: str, keys: dict[str, Any], says: str
) -> None:
    """The error names the section or the type that has it."""
    with pytest.raises(ConfigurationError) as caught:
        MAKE[section](keys)
    assert says in str(caught.value)
    assert str(caught.value).count("known keys") <= 1


def test_a_key_outside_of_all_sections(tmp_path: Path) -> None:
    path = write(tmp_path, "lock_lifetime: 60\n")
    with pytest.raises(ConfigurationError, match="lock_lifetime: is not a section; it belongs in "):
        read_endpoints(path)


def test_config_check_tells_every_mistake_of_every_section(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line for each wrong key, and none for what is wrong only because another one is."""
    path = write(
        tmp_path,
        """
        lock_store: {type: concurrent_redis, port: many, prot: 3, endpoints: [x], username: u,
                     password: [hidden]}
        tracker_store: {type: sql, pool_size: 0, timeout: never, url: "postgres:x"}
        event_broker: {type: kafka, url: h, security_protocol: SASL, sasl_username: u, topik: x}
        event_service: {grup: x, group: ""}
        server: {request_timeout: 0, auth_token: change-me, lock_lifetme: 3, allowed_hosts: ["a:80"]}
        """,
    )
    assert cli.main(["config", "check", str(path)]) == cli.EXIT_FAILED
    said = capsys.readouterr().out
    found = re.findall(rf"^     {re.escape(str(path))}: (\w+: \w+): ", said, re.MULTILINE)
    assert found == [
        "lock_store: port", "lock_store: password", "lock_store: prot", "lock_store: endpoints",
        "tracker_store: timeout", "tracker_store: pool_size", "tracker_store: url",
        "event_broker: security_protocol", "event_broker: topik",
        "event_service: group", "event_service: grup",
        "server: request_timeout", "server: auth_token", "server: lock_lifetme",
        "server: allowed_hosts",
    ]  # fmt: skip
    assert "hidden" not in said


@pytest.mark.parametrize("text", ["", "{lock_store: {type: in_memory}, tracker_store: null}"])
def test_config_check_warns_of_what_replicas_cannot_share(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, text)
    assert cli.main(["config", "check", str(path)]) == cli.EXIT_OK
    lines = capsys.readouterr().out.splitlines()
    for name, way in (("lock_store", "concurrent_redis"), ("tracker_store", "redis, sql")):
        place = next(i for i, line in enumerate(lines) if line.startswith(f"ok   {name}: "))
        assert lines[place + 1].startswith("     warning: in_memory works for one process only")
        assert way in lines[place + 1]


def test_config_check_does_not_warn_of_what_is_shared(
    tmp_path: Path, redis_server: EmbeddedRedis, capsys: pytest.CaptureFixture[str]
) -> None:
    store = f"{{type: redis, url: '{redis_server.url}'}}"
    path = write(tmp_path, f"lock_store: {store}\ntracker_store: {store}\n")
    assert cli.main(["config", "check", str(path), "--json"]) == cli.EXIT_OK
    found = json.loads(capsys.readouterr().out)
    assert [row["warning"] for row in found["components"]] == [None, None, None]


@pytest.mark.parametrize(
    ("section", "kind", "says"),
    [
        ("lock_store", "concurent_redis", "did you mean concurrent_redis?"),
        ("tracker_store", "mongo", "did you mean mongod?"),
        ("tracker_store", "POSTGRESQL", "known: in_memory, sql, redis, mongod, dynamo"),
        ("event_broker", "kafak", "did you mean kafka?"),
    ],
)
def test_a_wrong_type(section: str, kind: str, says: str) -> None:
    """The nearest name, or all of them."""
    with pytest.raises(ConfigurationError) as caught:
        MAKE[section]({"type": kind})
    assert f"type: {kind!r} is neither a known type nor the path of a class; {says}" in str(
        caught.value
    )


def test_a_section_without_type_takes_no_keys() -> None:
    """Never a store in memory where a host was given."""
    with pytest.raises(ConfigurationError) as caught:
        create_lock_store({"host": "redis.example"})
    assert str(caught.value) == (
        "lock_store: host: is not a setting here; it is a setting of type concurrent_redis or redis"
    )
