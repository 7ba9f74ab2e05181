"""`.ci/servers` asks before it installs, where there is somebody to ask."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
from pathlib import Path

import pytest
from documents import ROOT
from servers import left_out

pytestmark = pytest.mark.skipif(not (ROOT / ".ci").is_dir(), reason="no folder .ci in the archive")

#: Programs that the script calls as they are.
NEEDED = ("sh", "id", "grep", "ls", "sed")
#: And those that would change the machine. `apt-get` writes down what it is asked for.
FAKE = {
    "apt-get": 'echo "$@" >>"$ASKED"; echo "0 upgraded, 7 newly installed, 0 to remove"',
    "sudo": 'shift; "$@"',
    **dict.fromkeys(("tee", "chmod", "rm"), "true"),
}


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine without any server, whose apt-get installs nothing."""
    for name in NEEDED:
        found = shutil.which(name)
        assert found
        (tmp_path / name).symlink_to(found)
    for name, code in FAKE.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{code}\n")
        (tmp_path / name).chmod(0o755)
    return {"PATH": str(tmp_path), "ASKED": str(tmp_path / "asked")}


def installs(environment: dict[str, str]) -> bool:
    """Whether something was installed, and not just asked for its size."""
    asked = Path(environment["ASKED"]).read_text().splitlines()
    return any("install -y" in line and "redis-server" in line for line in asked)


@pytest.mark.parametrize(
    ("answer", "more", "installed"),
    [("n", {}, False), ("", {}, False), ("y", {}, True), ("", {"CI": "true"}, True)],
)
def test_on_a_terminal(
    machine: dict[str, str], answer: str, more: dict[str, str], installed: bool
) -> None:
    """It says what and how large; nothing but a yes installs it. CI is not asked."""
    ours, its = pty.openpty()
    try:
        process = subprocess.Popen(
            ["sh", ROOT / ".ci/servers"], stdin=its, stdout=its, stderr=its, env={**machine, **more}
        )
        os.write(ours, f"{answer}\n".encode())
        assert process.wait(30) == 0
        said = os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(its)
    assert installs(machine) == installed
    assert ("Install them?" in said) == (not more)
    if not more:
        assert "redis-server" in said
        assert "7 newly installed" in said


def test_without_a_terminal(machine: dict[str, str]) -> None:
    """A script goes on as before: what is missing is installed."""
    subprocess.run(
        ["sh", ROOT / ".ci/servers"], stdin=subprocess.DEVNULL, env=machine, check=True, timeout=30
    )
    assert installs(machine)


def test_what_was_left_out_is_counted(pytester_report: list[pytest.TestReport]) -> None:
    """By server, the one that most tests wanted first, and how to get it."""
    assert left_out(pytester_report) == [
        "2 tests: RabbitMQ is not installed: apt-get install rabbitmq-server",
        "1 test: nginx is not installed: apt-get install nginx-light",
    ]


@pytest.fixture
def pytester_report() -> list[pytest.TestReport]:
    """Reports as pytest makes them of skipped tests."""
    texts = [
        "nginx is not installed: apt-get install nginx-light",
        "RabbitMQ is not installed: apt-get install rabbitmq-server",
        "SQLite takes anything",
        "RabbitMQ is not installed: apt-get install rabbitmq-server",
    ]
    return [
        pytest.TestReport(
            "t", ("t", 1, "t"), {}, "skipped", ("t.py", 1, f"Skipped: {text}"), "call"
        )
        for text in texts
    ]
