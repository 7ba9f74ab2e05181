"""`ticketlock doctor` as a user runs it, and what it finds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ticketlock import cli
from ticketlock.doctor import FAULTS


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
