"""The words of the command line, and what it says."""

from __future__ import annotations

import json
import sys

import pytest

from ticketlock import Holder, Inspection, Waiting, cli
from ticketlock.cli.locks import describe
from ticketlock.demo.judge.turns import Violation
from ticketlock.demo.report import Report


@pytest.mark.parametrize(
    "words",
    [
        ["dance"],
        ["demo", "--replicas", "0"],
        ["demo", "--kill", "0"],
        ["demo", "--count", "many"],
        ["inspect"],
        ["break", "c", "--fence", "-1"],
    ],
)
def test_wrong_words_end_with_bad_input(words: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    assert end.value.code == cli.EXIT_BAD_INPUT


@pytest.mark.parametrize(
    "words",
    [
        ["inspect", "c", "--redis", "http://here"],
        ["inspect", ""],
        ["break", "c", "--key-prefix", "a b"],
        ["demo", "--json", "--redis", "http://here"],
        ["demo", "--json", "--messages", "chat.jsonl", "--count", "3"],
        ["demo", "--json", "--endpoints", "not/there.yml"],
        ["demo", "--json", "--keep"],
    ],
)
def test_wrong_settings_end_with_bad_input(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == cli.EXIT_BAD_INPUT
    assert capsys.readouterr().err.startswith("ticketlock: ")


@pytest.mark.parametrize("command", [["inspect", "c"], ["break", "c"], ["demo", "--json"]])
def test_a_redis_that_is_not_there_is_told(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*command, "--redis", "redis://127.0.0.1:1"]) == cli.EXIT_UNAVAILABLE
    assert "Redis at 127.0.0.1:1: nothing listens there" in capsys.readouterr().err


def test_without_rich_the_error_is_the_command_to_type(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    for command, extra in (("demo", "embedded"), ("top", "cli")):
        assert cli.main([command]) == cli.EXIT_BAD_INPUT
        assert f'pip install "ticketlock[{extra}]"' in capsys.readouterr().err


def test_the_demo_tells_all_that_it_lacks_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("rich", "sqlalchemy", "uvicorn"):
        monkeypatch.setitem(sys.modules, name, None)
    assert cli.main(["demo"]) == cli.EXIT_BAD_INPUT
    line = 'pip install "ticketlock[embedded]"'
    assert f"demo needs rich, sqlalchemy, uvicorn: {line}" in capsys.readouterr().err


def test_a_violation_makes_the_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Report(1, 1, 1, seconds=1.0, kills=0)
    monkeypatch.setattr("ticketlock.cli.demo.run", lambda options: report)
    assert cli.main(["demo", "--json"]) == cli.EXIT_OK
    report.violations.append(Violation("overlaps", "c", 0, "began too early"))
    assert cli.main(["demo", "--json"]) == cli.EXIT_FAILED
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["overlaps"] == 1
    assert cli.main(["demo"]) == cli.EXIT_FAILED
    assert "overlaps: conversation 'c', message 0: began too early" in capsys.readouterr().err


def test_an_inspection_is_told_in_words() -> None:
    holder = Holder(7, 1234, 185.4, 2.5, "alpha", 42, "sms \x1b[2J")
    waiting = (Waiting(8, 1.25, True, "beta", 43, None), Waiting(9, 0.5, False))
    assert describe(Inspection("c", holder, waiting, 5, 12)) == [
        "conversation 'c'",
        "  held by host alpha process 42 ('sms \\x1b[2J') for 3 min 5 s, ticket 7, fence 1234",
        "    its lease has 2.5 s left",
        "  waiting: 5",
        "    host beta process 43 for 1.2 s, ticket 8",
        "    unknown process for 0.5 s, ticket 9, no heartbeat: will be skipped",
        "    ... and 3 more",
    ]
    assert "not held" in "".join(describe(Inspection("c", None, (), 0, 0)))
