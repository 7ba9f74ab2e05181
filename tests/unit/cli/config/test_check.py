"""What `config check` finds between sections, and in values that YAML changes."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from ticketlock import ConfigurationError, Conversations, cli
from ticketlock.cli.config.check import _where, check
from ticketlock.endpoints.registry import create_tracker_store


def test_two_sections_on_one_database(tmp_path: Path) -> None:
    """It is an error before either has made its table: the second one could not make its own."""
    path = tmp_path / "endpoints.yml"
    path.write_text(
        f"tracker_store: {{type: sql, db: {tmp_path}/one.db}}\n"
        f"event_broker: {{type: sql, db: {tmp_path}/one.db}}\n"
    )
    problems = {each.section: each.problem for each in asyncio.run(check(path)).components}
    assert problems["tracker_store"] is None
    assert f"{path}: event_broker: db: it is the database of the tracker store" in str(
        problems["event_broker"]
    )
    path.write_text(path.read_text().replace("one.db", "two.db", 1))
    assert asyncio.run(check(path)).ok


@pytest.mark.parametrize(
    ("keys", "where"),
    [
        ({"type": "mongod", "url": "mongodb://u:hidden@h"}, "MongoDB at h, rasa.conversations"),
        ({"type": "dynamo", "region": "eu-west-1"}, "DynamoDB at eu-west-1, states"),
        ({"type": "in_memory"}, "this process"),
    ],
)
def test_where_histories_are(keys: dict[str, Any], where: str) -> None:
    """The row of a tracker store names its server, and not `this process`."""
    assert _where(create_tracker_store(keys)) == where


@pytest.mark.parametrize("value", ["007", "0x1F", "1_000", "1.50", "true", "2026-11-27"])
def test_a_password_that_yaml_would_change(value: str, tmp_path: Path) -> None:
    """It needs quotes; without a word of it in the error."""
    path = tmp_path / "endpoints.yml"
    path.write_text(f"lock_store: {{type: redis, password: {value}}}")
    with pytest.raises(
        ConfigurationError, match="password: the value is not text: put it in quotes"
    ):
        Conversations.from_endpoints(path)
    path.write_text("lock_store: {type: redis, password: 12345}")
    Conversations.from_endpoints(path)


def test_a_store_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command is a script, for which Python does not look there; an error there has its line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    (tmp_path / "own_stores_x.py").write_text(
        "import ticketlock.stores\nclass Store(ticketlock.stores.InMemoryTrackerStore):\n"
        "    def __init__(self, host, domain, event_broker): super().__init__(domain, event_broker)\n"
    )
    (tmp_path / "own_stores_y.py").write_text("a = 1\nb = c\n")
    (tmp_path / "endpoints.yml").write_text("tracker_store: {type: own_stores_x.Store}")
    assert cli.main(["config", "check"]) == cli.EXIT_OK
    (tmp_path / "endpoints.yml").write_text("tracker_store: {type: own_stores_y.Store}")
    assert cli.main(["config", "check"]) == cli.EXIT_FAILED
    said = capsys.readouterr().out
    assert "own_stores_y cannot be run: NameError: name 'c' is not defined" in said
    assert f"({tmp_path}/own_stores_y.py, line 2)" in said
