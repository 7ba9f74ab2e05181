"""`ticketlock config` and `ticketlock tracker`, and the schema that must not drift."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ticketlock import ConfigurationError, cli
from ticketlock.config_schema import KEYS, schema
from ticketlock.embedded import EmbeddedRedis, free_port
from ticketlock.registry import (
    create_event_broker,
    create_event_database,
    create_lock_store,
    create_tracker_store,
)
from ticketlock.server import Settings


def create_broker(section: dict[str, Any]) -> Any:
    return asyncio.run(create_event_broker({**section, **LEAST.get(section["type"], {})}))


CREATE: dict[str, Callable[[Any], Any]] = {
    "lock_store": create_lock_store,
    "tracker_store": create_tracker_store,
    "event_broker": create_broker,
    "event_service": create_event_database,
    "server": Settings.from_section,
}
#: Known to the constructors in Python only.
NOT_IN_YAML = {"credential_provider", "max_pool_connections", "oauth_cb"}
#: What a broker cannot be without.
LEAST = {
    "kafka": {"url": "h", "security_protocol": "SSL"},
    "pika": {"url": "h", "username": "u", "password": "p"},
}


@pytest.mark.parametrize(
    ("section", "kind"),
    [(s, k) for s, kinds in KEYS.items() for k in kinds if k != "in_memory"],
)
def test_the_schema_has_every_key(section: str, kind: str) -> None:
    """A key that no close match can be found for makes the error list all known ones."""
    with pytest.raises(ConfigurationError) as caught:
        CREATE[section]({"type": kind, "zzzzzzzzzz": 1})
    known = re.search(r"known keys: (.*)", str(caught.value))
    assert known
    in_code = set(known[1].split(", ")) - NOT_IN_YAML
    assert in_code == set(KEYS[section][kind]) - NOT_IN_YAML


def test_the_schema_judges(tmp_path: Path) -> None:
    """Good and bad documents, by an independent validator."""
    jsonschema = pytest.importorskip("jsonschema")  # moto brings it
    validator = jsonschema.Draft202012Validator(schema())
    good: list[dict[str, Any]] = [
        {},
        {"nlg": {"url": "x"}, "lock_store": {"type": "concurrent_redis", "port": "${PORT}"}},
        {"tracker_store": {"type": "my.module.Store", "anything": 1}},
        {"event_broker": {"url": "h", "username": "u", "queues": ["a", "b"]}},
        {"event_broker": {"type": "kafka", "url": ["a:1", "b:2"], "queue_size": "${SIZE}"}},
        {"event_broker": {"type": "my.module.Broker", "anything": 1}},
        {"event_service": {"dialect": "postgresql", "group": "g", "timeout": "${SECONDS}"}},
    ]
    bad: list[dict[str, Any]] = [
        {"lock_store": 3},
        {"lock_store": {"type": "redis", "prot": 1}},
        {"lock_store": {"type": "redis", "port": []}},
        {"tracker_store": {"type": "sql", "dialect": 3}},
        {"event_service": {"type": "sql", "groups": "g"}},
        {"event_service": {"groups": "g"}},
        {"event_broker": {"queue": "a"}},
        {"event_broker": {"type": "kafka", "topics": "a"}},
        {"event_broker": {"type": "file", "url": "a"}},
        {"event_broker": {"type": "sql", "dialect": ["a"]}},
    ]
    assert [document for document in good if not validator.is_valid(document)] == []
    assert [document for document in bad if validator.is_valid(document)] == []


def write(folder: Path, text: str) -> Path:
    path = folder / "endpoints.yml"
    path.write_text(text)
    return path


def test_config_check(
    tmp_path: Path, redis_server: EmbeddedRedis, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each component with what it would use, and a status for scripts."""
    path = write(
        tmp_path,
        f"""
        lock_store: {{type: concurrent_redis, url: "{redis_server.url}"}}
        tracker_store: {{type: sql, db: "{tmp_path}/bot.db"}}
        """,
    )
    assert cli.main(["config", "check", str(path)]) == cli.EXIT_OK
    said = capsys.readouterr().out
    assert f"ConcurrentRedisLockStore, Redis at 127.0.0.1:{redis_server.port}, db 1" in said
    assert "SQLTrackerStore, SQLite file" in said
    assert cli.main(["config", "check", str(path), "--json"]) == cli.EXIT_OK
    found = json.loads(capsys.readouterr().out)
    assert found["ok"]
    assert [c["section"] for c in found["components"]] == [
        "lock_store", "tracker_store", "event_broker",
    ]  # fmt: skip
    assert found["components"][2]["kind"] == "none"


@pytest.mark.parametrize("broker", ["sql", "file"])
def test_config_check_makes_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], broker: str
) -> None:
    """What is not there yet could be made, or its row says why not; what is there is opened."""
    key = {"sql": "db", "file": "path"}[broker]

    def check(folder: Path) -> list[dict[str, Any]]:
        text = f"""
        tracker_store: {{type: sql, db: "{folder}/bot.db"}}
        event_broker: {{type: {broker}, {key}: "{folder}/events"}}
        event_service: {{db: "{folder}/service.db"}}
        """
        cli.main(["config", "check", str(write(tmp_path, text)), "--json"])
        found = json.loads(capsys.readouterr().out)["components"]
        return [row for row in found if row["section"] != "lock_store"]

    folder = tmp_path / "data"
    folder.mkdir()
    rows = check(folder)
    assert [row["problem"] for row in rows[:2]] == [None, None]
    assert all(str(folder) in row["where"] for row in rows)
    assert list(folder.iterdir()) == []
    rows = check(tmp_path / "missing")
    assert all("its folder must exist" in row["problem"] for row in rows[:2])
    assert not (tmp_path / "missing").exists()
    for name in ("bot.db", "service.db"):
        (folder / name).write_text("this is no database, only a text" * 100)
    assert "not a database" in check(folder)[0]["problem"]


def test_config_check_of_the_event_service(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its database is connected to, and its broker must be one that can be read."""

    def told(service: str, broker: str) -> dict[str, Any]:
        sections = f"event_broker: {{{broker}}}\nevent_service: {{{service}}}\n"
        status = cli.main(["config", "check", str(write(tmp_path, sections)), "--json"])
        text = capsys.readouterr().out
        assert "hidden" not in text
        found: dict[str, Any] = json.loads(text)["components"][3]
        assert found["section"] == "event_service"
        assert found["ok"] or status == cli.EXIT_FAILED
        return found

    broker = f"url: 127.0.0.1, port: {free_port()}, username: u, password: hidden"
    good = told(f"db: '{tmp_path}/service.db'", broker)  # that the broker is away is its own row
    assert (good["ok"], good["kind"]) == (True, "SQLEventDatabase")
    assert good["where"] == f"SQLite file {tmp_path}/service.db"
    file = f"type: file, path: '{tmp_path}/events.log'"
    unread = told(f"db: '{tmp_path}/service.db'", file)["problem"]
    assert "event_service: event_broker: type: events of 'file' cannot be consumed" in unread
    server = f"dialect: postgresql, url: 127.0.0.1, port: {free_port()}, password: hidden"
    away = told(server, broker)
    assert away["problem"].startswith(f"{tmp_path}/endpoints.yml: event_service: ")
    assert "check url and port" in away["problem"]
    assert "grup: is not a setting here; did you mean group?" in told("grup: g", broker)["problem"]


def test_config_check_tells_every_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not only the first one, and no secret."""
    port = free_port()
    path = write(
        tmp_path,
        f"""
        lock_store: {{type: redis, host: 127.0.0.1, port: {port}, password: hidden}}
        tracker_store: {{type: redis, host: 127.0.0.1, port: {port}, password: hidden}}
        """,
    )
    assert cli.main(["config", "check", str(path)]) == cli.EXIT_FAILED
    said = capsys.readouterr().out
    assert said.count("nothing listens there") == 2
    assert "hidden" not in said


def test_config_check_of_a_broken_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A status of its own, and the line."""
    path = write(tmp_path, "lock_store:\n  host: ${NOT_SET_ANYWHERE}\n")
    assert cli.main(["config", "check", str(path)]) == cli.EXIT_BAD_INPUT
    assert "line 2: environment variable NOT_SET_ANYWHERE" in capsys.readouterr().err


def test_config_schema(capsys: pytest.CaptureFixture[str]) -> None:
    """It is printed as JSON."""
    assert cli.main(["config", "schema"]) == cli.EXIT_OK
    assert json.loads(capsys.readouterr().out) == schema()
