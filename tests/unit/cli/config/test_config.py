"""`ticketlock config` and `ticketlock tracker`, and the schema that must not drift."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from ticketlock import ConfigurationError, EndpointConfig, cli
from ticketlock.cli.config.schema import KEYS, schema
from ticketlock.deliveries.settings import CallbackSettings
from ticketlock.endpoints.file import FOREIGN, read_endpoints
from ticketlock.endpoints.registry import (
    TYPES,
    create_action_server,
    create_event_database,
    create_lock_store,
    create_tracker_store,
    prepare_event_broker,
)
from ticketlock.redis.embedded import EmbeddedRedis, free_port
from ticketlock.server import Settings

ROOT = Path(__file__).parents[4]


def create_broker(section: dict[str, Any]) -> Any:
    keys = {**LEAST.get(section["type"], {}), **section}
    return asyncio.run(prepare_event_broker(EndpointConfig(**keys)))


CREATE: dict[str, Callable[[Any], Any]] = {
    "lock_store": create_lock_store,
    "tracker_store": create_tracker_store,
    "event_broker": create_broker,
    "event_service": create_event_database,
    "server": Settings.from_section,
    "action_endpoint": lambda keys: create_action_server({"url": "http://h", **keys}),
    "callback": lambda keys: CallbackSettings.from_section({"url": "http://h", **keys}),
}
#: What a broker cannot be without.
LEAST = {
    "kafka": {"url": "h", "security_protocol": "SSL"},
    "pika": {"url": "h", "username": "u", "password": "p"},
}


@pytest.mark.parametrize(
    ("section", "kind"), [(s, k) for s, kinds in KEYS.items() for k in kinds if k != "in_memory"]
)
def test_the_schema_has_every_key(section: str, kind: str) -> None:
    """A key that no close match can be found for makes the error list all known ones."""
    with pytest.raises(ConfigurationError) as caught:
        CREATE[section]({"type": kind, "zzzzzzzzzz": 1})
    known = re.search(r"known keys: (.*)", str(caught.value))
    assert known
    assert set(known[1].split(", ")) == set(KEYS[section][kind])


def test_the_schema_judges(tmp_path: Path) -> None:
    """Good and bad documents, by an independent validator."""
    jsonschema = pytest.importorskip("jsonschema")  # moto brings it
    validator = jsonschema.Draft202012Validator(schema())
    yaml = YAML(typ="safe")
    good: list[dict[str, Any]] = [
        {},
        {"nlg": {"url": "x"}, "lock_store": {"type": "concurrent_redis", "port": "${PORT}"}},
        {"tracker_store": {"type": "my.module.Store", "anything": 1}},
        {"event_broker": {"url": "h", "username": "u", "queues": ["a", "b"]}},
        {"event_broker": {"type": "kafka", "url": ["a:1", "b:2"], "queue_size": "${SIZE}"}},
        {"event_broker": {"type": "my.module.Broker", "anything": 1}},
        {"event_service": {"dialect": "postgresql", "group": "g", "timeout": "${SECONDS}"}},
        {"server": {"max_turns": "${TURNS:-5}", "double_texting": "${WHAT}", "auth_token": None}},
        {"event_broker": {"type": "Kafka", "url": "h", "security_protocol": "ssl"}},
        {"lock_store": {"type": "rasa.core.lock_store.RedisLockStore", "host": "h"}},
        {"tracker_store": {"type": None}, "server": None},
        {"lock_store": {"type": "${LOCKS:-concurrent_redis}", "host": "h"}},
        *(yaml.load(path) for path in (ROOT / "docs/deploy").glob("endpoints*.yml")),
    ]
    bad: list[dict[str, Any]] = [
        {"lock_store": 3},
        {"lock_store": {"type": "redis", "prot": 1}},
        {"lock_store": {"type": "redis", "port": []}},
        {"tracker_store": {"type": "sql", "dialect": True}},
        {"tracker_stor": {"type": "sql"}},
        {"lock_store": {"type": "reddis"}},
        {"lock_store": {"host": "h"}},
        {"lock_store": {"type": "redis", "port": 70000}},
        {"lock_store": {"type": "redis", "deployment_mode": "clusters"}},
        {"event_broker": {"type": "kafka", "security_protocol": "TLS"}},
        {"server": {"double_texting": "drop"}},
        {"server": {"type": "ftp"}},
        {"server": {"open_channels": "perhaps"}},
        {"event_service": {"type": "sql", "groups": "g"}},
        {"event_service": {"groups": "g"}},
        {"event_broker": {"queue": "a"}},
        {"event_broker": {"type": "kafka", "topics": "a"}},
        {"event_broker": {"type": "file", "url": "a"}},
        {"event_broker": {"type": "sql", "dialect": ["a"]}},
    ]
    assert [document for document in good if not validator.is_valid(document)] == []
    assert [document for document in bad if validator.is_valid(document)] == []


def test_every_type_has_its_keys() -> None:
    """Those that the registry can make, and no other."""
    assert {s: set(kinds) for s, kinds in KEYS.items()} == {
        name: set(types) for name, (types, _) in TYPES.items()
    }


#: Of every sort that YAML has.
VALUES = (
    0, 1, -1, 3, 70_000, 2.5, 1e12, "", "5", "2.5", "x", "on", "FALSE", "enqueue", "ssl", "PLAIN",
    "a.example:1", True, False, [], ["a:1"], [1], {}, {"a": 1},
)  # fmt: skip


@pytest.mark.parametrize(
    ("section", "kind"), [(s, k) for s, kinds in KEYS.items() for k in kinds if k != "in_memory"]
)
def test_the_schema_refuses_nothing_that_is_read(section: str, kind: str) -> None:
    """Each key with values of every sort, by the reader and by the schema."""
    jsonschema = pytest.importorskip("jsonschema")  # moto brings it
    validator = jsonschema.Draft202012Validator(schema())
    read, refused = 0, 0
    for name, declared in KEYS[section][kind].items():
        for value in (*VALUES, *declared.options, None):
            document = {"type": kind, name: value}
            good = validator.is_valid({section: document})
            try:
                CREATE[section](document)
            except ConfigurationError:
                refused += not good
            else:
                read += 1
                assert good or declared.key.python_only, document
    assert read > len(KEYS[section][kind])
    assert refused > len(KEYS[section][kind])


def test_the_schema_describes() -> None:
    """What an editor shows: meaning, default, options, and where a section is not used."""
    described = schema()["properties"]
    assert all(described[name]["description"] for name in (*KEYS, *FOREIGN))
    kafka = described["event_broker"]["allOf"][1]["then"]["properties"]
    assert "with a login" in kafka["security_protocol"]["description"]
    assert kafka["security_protocol"]["default"] == "SASL_PLAINTEXT"
    assert "SASL_SSL" in kafka["security_protocol"]["anyOf"][0]["enum"]
    assert kafka["queue_size"]["anyOf"][0]["maximum"] == 10_000_000
    assert "oauth_cb" not in kafka
    assert "not used by ticketlock" in kafka["stream_pii"]["description"]


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


def told(folder: Path, text: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    """The status of `config check --json`, and what it printed."""
    status = cli.main(["config", "check", str(write(folder, text)), "--json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return status, found


@pytest.mark.parametrize(
    ("server", "says"),
    [
        ("max_turn: 3", "server: max_turn: is not a setting here; did you mean max_turns?"),
        ("double_texting: drop", "double_texting: 'drop' is not one of enqueue, reject"),
        ("auth_token: change-me", "auth_token: is a placeholder"),
        ("type: https", "type: 'https' is not known"),
        (
            "jwt_method: RS256, jwt_secret: 8fj3kd93kd02ld",
            "is not a valid key for jwt_method RS256",
        ),
        ("double_texting: coalesce", "RedisLockStore supports only enqueue and reject"),
    ],
)
def test_config_check_judges_the_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], server: str, says: str
) -> None:
    """What `run` would refuse, with the secret left out."""
    port = free_port()
    locks = f"lock_store: {{type: redis, host: 127.0.0.1, port: {port}}}\n"
    status, found = told(tmp_path, f"{locks}server: {{{server}}}\n", capsys)
    row = found["components"][-1]
    assert (status, row["section"], row["kind"]) == (cli.EXIT_FAILED, "server", row["kind"])
    assert says in row["problem"]
    assert "8fj3kd93kd02ld" not in str(found)
    assert row["problem"].startswith(f"{tmp_path}/endpoints.yml: server")
    assert found["components"][0]["problem"].count("nothing listens there") == 1


def test_config_check_of_a_good_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside a lock store that cannot be made, which is that row's business."""
    status, found = told(tmp_path, "server: {double_texting: interrupt}\n", capsys)
    assert (status, found["components"][-1]["problem"]) == (cli.EXIT_OK, None)
    assert found["components"][-1]["where"] == "double texting: interrupt"
    both = "lock_store: {type: redis, prt: 1}\nserver: {double_texting: interrupt}\n"
    status, found = told(tmp_path, both, capsys)
    assert [row["ok"] for row in found["components"]] == [False, True, True, True]
    assert status == cli.EXIT_FAILED


def test_config_check_of_a_domain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is read, from the folder of the file, and what of it is not used is named."""
    (tmp_path / "bot").mkdir()
    domain = tmp_path / "bot" / "domain.yml"
    domain.write_text("intents: [greet]\nslots: {a: {type: text}}\n")
    status, found = told(tmp_path, "server: {domain: bot}\n", capsys)
    assert (status, found["components"][-1]["where"]) == (cli.EXIT_OK, str(domain.parent))
    assert found["unused"] == {"domain: intents": "messages are not parsed"}
    domain.write_text("slots: {a: {type: txt}}\n")
    status, found = told(tmp_path, "server: {domain: bot}\n", capsys)
    assert status == cli.EXIT_FAILED
    assert found["components"][-1]["problem"].startswith(f"{domain}: slots: a: type: 'txt' is not")


RASA = """
nlg: {url: "http://localhost:5056/nlg"}
models: {url: "http://localhost:8000/models"}
lock_store: {type: in_memory}
"""


def test_config_check_of_rasa_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """What is not used is told, each with what to do; a run tells it in its log."""
    status, found = told(tmp_path, RASA, capsys)
    assert (status, [*found["unused"]]) == (cli.EXIT_OK, ["nlg", "models"])
    assert "no model is loaded" in found["unused"]["models"]
    cli.main(["config", "check", str(tmp_path / "endpoints.yml")])
    assert "note nlg: not used: the bot's function yields" in capsys.readouterr().out
    caplog.set_level("INFO")
    read_endpoints(tmp_path / "endpoints.yml")
    assert "not used by ticketlock: nlg, models" in caplog.text
    channels = "rest:\nslack: {slack_token: hidden}\naddons.mine.Channel: {}\n"
    status, found = told(tmp_path, channels, capsys)
    assert (status, found["components"]) == (cli.EXIT_OK, [])
    assert [*found["unused"]] == ["rest", "slack", "addons.mine.Channel"]
    assert "hidden" not in str(found)
    with pytest.raises(ConfigurationError, match="is a Rasa credentials file"):
        read_endpoints(tmp_path / "endpoints.yml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lock_stor: {}", "lock_stor: is not a section; did you mean lock_store?"),
        ("lock_stor: {}\nservr: {}", "lock_store? servr: is not a section; did you mean server?"),
        ("x: {}", "x: is not a section; known: lock_store, tracker_store"),
        ("slack: {}\nlock_store: {}", "slack: is not a section"),
        (
            "x: {}\nlock_store: 3\nserver: {type: 3}",
            "lock_store: is not a mapping of settings, such as {type: ...}. server: ",
        ),
    ],
)
def test_a_wrong_section(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, says: str
) -> None:
    """The nearest name, or all of them."""
    assert cli.main(["config", "check", str(write(tmp_path, text))]) == cli.EXIT_BAD_INPUT
    assert says in capsys.readouterr().err


def test_config_schema(capsys: pytest.CaptureFixture[str]) -> None:
    """It is printed as JSON."""
    assert cli.main(["config", "schema"]) == cli.EXIT_OK
    assert json.loads(capsys.readouterr().out) == schema()
