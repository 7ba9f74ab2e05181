"""What is not installed is told with the command that installs it, all of it at once."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from ticketlock import ConfigurationError, Conversations, cli
from ticketlock.cli.config.schema import KEYS
from ticketlock.endpoints.registry import create_tracker_store
from ticketlock.imports import MODULES, extra_of, missing, pip_line

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]

THREE = """
tracker_store: {type: sql, dialect: postgresql+psycopg2, url: localhost}
event_broker: {type: kafka, url: "localhost:9092", security_protocol: PLAINTEXT}
event_service: {type: sql, url: "mysql://localhost/events"}
lock_store: {type: concurrent_redis}
server: {max_turns: 3}
"""


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file that needs four extras, of which three are not installed."""
    for name in ("psycopg", "confluent_kafka", "aiomysql"):
        monkeypatch.setitem(sys.modules, name, None)  # Python's way to say that it is not there
    path = tmp_path / "endpoints.yml"
    path.write_text(THREE)
    return path


def test_all_extras_are_told_at_once(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two for a bot, three for all that the file has; each row of the check has its own."""
    with pytest.raises(ConfigurationError) as caught:
        Conversations.from_endpoints(bare)
    line = 'pip install "ticketlock[kafka,postgresql]"'
    assert str(caught.value) == f"{bare}: needs confluent_kafka, psycopg: {line}"
    assert cli.main(["config", "check", str(bare)]) == cli.EXIT_FAILED
    said = capsys.readouterr().out
    assert 'needs psycopg: pip install "ticketlock[postgresql]"' in said
    assert said.endswith(
        'to install what is missing: pip install "ticketlock[kafka,mysql,postgresql]"\n'
    )


def test_run_tells_them_with_its_own(
    bare: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server's packages and those of the file, in one command."""
    for name in [name for name in sys.modules if name.startswith("ticketlock.server.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert cli.main(["run", "--endpoints", str(bare)]) == cli.EXIT_BAD_INPUT
    line = 'pip install "ticketlock[kafka,postgresql,server]"'
    assert f"run needs confluent_kafka, psycopg, uvicorn: {line}" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "worker"])
def test_a_part_of_the_server_is_there(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As beside FastAPI, which brings starlette and uvicorn, and no jwt."""
    monkeypatch.setitem(sys.modules, "jwt", None)
    assert cli.main([command]) == cli.EXIT_BAD_INPUT
    said = f'ticketlock: {command} needs jwt: pip install "ticketlock[server]"\n'
    assert capsys.readouterr().err == said


def test_what_is_installed_is_not_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No command where nothing is missing."""
    path = tmp_path / "endpoints.yml"
    path.write_text("lock_store: {type: in_memory}\n")
    assert cli.main(["config", "check", str(path)]) == cli.EXIT_OK
    assert "pip install" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("keys", "extra"),
    [
        ({}, "sql"),
        ({"dialect": "Postgres"}, "postgresql"),
        ({"host": "mariadb://h/d"}, "mysql"),
        ({"url": "oracle+cx_oracle://h/d", "dialect": "sqlite"}, "oracle"),
        ({"url": "h:1", "dialect": "mysql"}, "mysql"),
        ({"dialect": "postgresql+asyncpg"}, "sql"),
    ],
)
def test_the_extra_of_a_database(keys: dict[str, str], extra: str) -> None:
    """By its dialect, or by its URL, which wins."""
    assert extra_of("sql", keys) == extra


def test_a_driver_is_missed_before_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the store is made, not at its first use."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigurationError) as caught:
        create_tracker_store({"type": "sql", "dialect": "postgresql"}, where="here")
    needed = 'here: type sql needs psycopg: pip install "ticketlock[postgresql]"'
    assert str(caught.value) == needed


@pytest.mark.parametrize(
    ("module", "name", "driver", "extra"),
    [
        ("ticketlock.server", "create_app", "starlette", "server"),
        ("ticketlock.server", "Message", "jwt", "server"),
        ("ticketlock.stores", "MongoTrackerStore", "pymongo", "mongo"),
        ("ticketlock.brokers", "PikaEventBroker", "pika", "pika"),
    ],
)
def test_an_import_says_what_to_type(module: str, name: str, driver: str, extra: str) -> None:
    """In an interpreter of its own, in which the driver is not there."""
    code = f"import sys; sys.modules[{driver!r}] = None; from {module} import {name}"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    last = done.stderr.splitlines()[-1]
    line = f'pip install "ticketlock[{extra}]"'
    assert last == f"ModuleNotFoundError: {module}.{name} needs {driver}: {line}"


@pytest.mark.parametrize(
    ("module", "driver", "extra"),
    [("prometheus", "prometheus_client", "prometheus"), ("otel", "opentelemetry", "otel")],
)
def test_an_observer_says_what_to_type(module: str, driver: str, extra: str) -> None:
    code = f"import sys; sys.modules[{driver!r}] = None; import ticketlock.telemetry.{module}"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    line = f'needs {driver}: pip install "ticketlock[{extra}]"'
    assert (
        done.stderr.splitlines()[-1] == f"ModuleNotFoundError: ticketlock.telemetry.{module} {line}"
    )


def test_the_table_is_that_of_the_package() -> None:
    """Each type has an extra of the package, whose modules can be found."""
    if (ROOT / "pyproject.toml").exists():
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert set(MODULES) <= set(project["optional-dependencies"])
    extras = {extra_of(kind, {}) for types in KEYS.values() for kind in types}
    assert extras <= {None, *MODULES}
    assert {"sql", "kafka", "pika", "mongo", "dynamo", "server"} <= extras
    for extra, modules in MODULES.items():
        found = [name for name in modules if importlib.util.find_spec(name) is None]
        assert missing(extra) == found
    assert pip_line(["b", "a", "b"]) == 'pip install "ticketlock[a,b]"'
