"""`ticketlock doctor` as a user runs it, and what it finds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ticketlock import cli
from ticketlock.doctor import FAULTS

#: Runs the doctor on sections: name of a fault -> the findings of it.
Examine = Callable[..., dict[str, list[dict[str, str]]]]


@pytest.fixture
def examine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Examine:
    """Runs the doctor twice, as text and as JSON, and holds them against each other.

    Without a `tracker_store` there is an SQLite file. No output has a password.
    """

    def run(*options: str, **sections: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
        named = {"tracker_store": {"type": "sql", "db": str(tmp_path / "bot.db")}, **sections}
        path = tmp_path / "endpoints.yml"
        path.write_text(json.dumps(named))
        command = ["doctor", "--endpoints", str(path), *options]
        status = cli.main([*command, "--json"])
        told = capsys.readouterr()
        report = json.loads(told.out)
        found: dict[str, list[dict[str, str]]] = {}
        for visit in report["visits"]:
            for finding in visit["findings"]:
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

    return run
