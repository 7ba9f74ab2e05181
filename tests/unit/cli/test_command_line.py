"""The `ticketlock` command as a process: help, version, pipes that nobody reads, completion."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import urllib.request
from importlib.metadata import version
from pathlib import Path

import pytest

from ticketlock import ConfigurationError, Conversations, cli
from ticketlock.cli import EXIT_BAD_INPUT, EXIT_OK, EXIT_SIGNAL
from ticketlock.endpoints.registry import create_event_database
from ticketlock.server.run import listen

COMMAND = [sys.executable, "-m", "ticketlock"]
ENDPOINTS = """
tracker_store: {type: sql, db: %(db)s}
event_service: {db: %(events)s}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With an `endpoints.yml`, a conversation in its tracker store, and an empty event service."""
    made = tmp_path_factory.mktemp("command")
    places = {"db": made / "bot.db", "events": made / "events.db"}
    (made / "endpoints.yml").write_text(ENDPOINTS % places)
    asyncio.run(_fill(made / "endpoints.yml", made / "events.db"))
    done = ticketlock(made, "tracker", "export", "history.jsonl")
    assert done.returncode == EXIT_OK, done.stderr
    return made


async def _fill(endpoints: Path, events: Path) -> None:
    async with create_event_database({"db": str(events)})[1]:
        pass
    async with Conversations.from_endpoints(endpoints) as conversations:
        async with conversations.turn("anna") as turn:
            turn.add({"event": "user", "text": "hi"})


def ticketlock(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


def test_alone_it_prints_help(tmp_path: Path) -> None:
    """And what it says of exit statuses is so: it has done nothing."""
    for words in ([], ["events"], ["tracker"], ["config"]):
        done = ticketlock(tmp_path, *words)
        assert (done.returncode, done.stdout) == (EXIT_BAD_INPUT, "")
        assert done.stderr.startswith(" ".join(["usage: ticketlock", *words, "[-h]"]))
    said = ticketlock(tmp_path, "--help").stdout
    for text in ("0    done", "1    ", "2    a wrong", "3    ", "128  plus"):
        assert text in said


def test_its_version(tmp_path: Path) -> None:
    done = ticketlock(tmp_path, "--version")
    assert (done.returncode, done.stdout) == (EXIT_OK, f"ticketlock {version('ticketlock')}\n")


@pytest.mark.parametrize(
    "words",
    [
        "--help", "config schema", "config check endpoints.yml", "completion bash",
        "tracker list", "tracker show anna", "tracker export -", "tracker import history.jsonl",
        "events status", "events gaps", "events dead",
    ],
)  # fmt: skip
def test_a_pipe_that_nobody_reads_is_silent(words: str, folder: Path) -> None:
    """As in `ticketlock ... | head -1`: no traceback, and the status of SIGPIPE."""
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [*COMMAND, *words.split()], cwd=folder, stdout=write, stderr=subprocess.PIPE,
            text=True, timeout=60, check=False, env={**os.environ, "PYTHONUNBUFFERED": ""},
        )  # fmt: skip
    finally:
        os.close(write)
    assert done.returncode == EXIT_SIGNAL + signal.SIGPIPE
    # An export counts on the other stream what it has written.
    assert done.stderr == ("1 conversations, 1 events, 0 skipped\n" if "export" in words else "")


def test_errors_that_nobody_reads_are_silent(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        words = [*COMMAND, "inspect", "c"]
        done = subprocess.run(words, cwd=tmp_path, stderr=write, timeout=60, check=False)
    finally:
        os.close(write)
    assert done.returncode == EXIT_SIGNAL + signal.SIGPIPE


def test_no_output_at_all_is_no_error(tmp_path: Path) -> None:
    words = " ".join(map(shlex.quote, [*COMMAND, "--version"]))
    done = subprocess.run(["sh", "-c", f"exec {words} >&- 2>&-"], timeout=60, check=False)
    assert done.returncode == EXIT_OK


def test_another_broken_pipe_is_no_end_of_output(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whoever writes to a connection that is gone has a fault that must be seen."""

    def broken(_: object) -> int:
        raise BrokenPipeError("a connection")

    monkeypatch.setattr(cli, "_run", broken)
    with capfd.disabled(), pytest.raises(BrokenPipeError, match="a connection"):
        cli.main(["config", "schema"])


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["to"], {"top"}),
        (["tracker", "mi"], {"migrate"}),
        (["demo", "--ki"], {"--kill"}),
        (["completion", ""], {"bash", "zsh", "fish"}),
        (["tracker", "show", "--endpoints", "endp"], {"endpoints.yml"}),
    ],
)
def test_bash_completes(words: list[str], found: set[str], folder: Path) -> None:
    (folder / "completion.bash").write_text(ticketlock(folder, "completion", "bash").stdout)
    line = " ".join(map(shlex.quote, ["ticketlock", *words]))
    script = (
        f"source ./completion.bash; COMP_WORDS=({line}); COMP_CWORD={len(words)};"
        f" $(complete -p ticketlock | sed 's/.*-F \\([^ ]*\\).*/\\1/') ticketlock"
        ' "${COMP_WORDS[COMP_CWORD]}" ; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script], cwd=folder, capture_output=True, text=True, timeout=20,
        check=False,
    )  # fmt: skip
    assert set(done.stdout.split()) == found, done.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_all_commands(shell: str, folder: Path) -> None:
    done = ticketlock(folder, "completion", shell)
    assert done.returncode == EXIT_OK
    for word in ("demo", "inspect", "migrate", "until-idle"):
        assert word in done.stdout


FILES = {
    "none": "",
    "memory": "lock_store: {type: in_memory}",
    "closed": "server: {channel_token: opens-it-1, auth_token: opens-it-2}",
    "open": "server: {auth_token: opens-it-2, open_channels: true}",
}


@pytest.mark.parametrize("record_format", ["text", "json"])
@pytest.mark.parametrize("name", FILES)
def test_run_tells_how_to_use_it(name: str, record_format: str, tmp_path: Path) -> None:
    """A line of the log each: the address, the page, and a message to paste, which is answered."""
    if FILES[name]:
        (tmp_path / "endpoints.yml").write_text(FILES[name])
    words = ["run", "--port", "0", "--log-format", record_format]
    with subprocess.Popen(
        [*COMMAND, *words], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            log = (_message(line, record_format) for line in process.stderr)
            if name == "none":
                assert next(log).startswith("no endpoints.yml with stores: the echo bot runs in ")
            address = next(line for line in log if line.startswith("listening on "))
            page, curl = next(log), next(log)
            assert page == f"page: {address.split()[2]}/"
            asked = urllib.request.Request(page.split()[1], headers={"Accept": "text/html"})
            with urllib.request.urlopen(asked, timeout=60) as answer:
                assert b"<title>" in answer.read()
            tried, command, url, *options = shlex.split(curl)
            assert (tried, command, options[-2]) == ("try:", "curl", "-d")
            asked = urllib.request.Request(url, options[-1].encode())
            assert options[:-2] == ["-H", "Authorization: Bearer <channel_token>"] * (
                name == "closed"
            )
            if name == "closed":
                asked.add_header("Authorization", "Bearer opens-it-1")
            with urllib.request.urlopen(asked, timeout=60) as answer:
                assert json.load(answer) == [{"recipient_id": "anna", "text": "hi"}]
        finally:
            process.terminate()
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (EXIT_OK, ""), err
    assert [path.name for path in tmp_path.iterdir()] == ["endpoints.yml"] * bool(FILES[name])


def _message(line: str, record_format: str) -> str:
    if record_format == "json":
        return str(json.loads(line)["message"])
    return line.rstrip("\n").split(" ", 3)[3]


def test_run_with_a_named_file_that_is_missing(tmp_path: Path) -> None:
    done = ticketlock(tmp_path, "run", "--endpoints", "endpoints.yml")
    assert done.returncode == EXIT_BAD_INPUT
    assert f"endpoints.yml: not found in {tmp_path}" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        "doctor", "config check", "tracker list", "tracker migrate --to other.yml", "events status",
        "doctor --endpoints other/endpoints.yml", "config check other/endpoints.yml",
    ],
)  # fmt: skip
def test_a_file_that_is_not_there(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which one, where it was looked for, and what to type."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(words.split()) == EXIT_BAD_INPUT
    said = capsys.readouterr().err
    folder = tmp_path / "other" if "other/" in words else tmp_path
    assert f"endpoints.yml: not found in {folder}: name another file" in said
    assert "--endpoints FILE" in said
    assert "tracker_store: {type: sql, db: bot.db}" in said


def test_run_warns_of_locks_that_no_other_replica_sees(tmp_path: Path) -> None:
    """Unless that is said in the file."""
    file = tmp_path / "endpoints.yml"
    for locks, told in (("", True), ("lock_store: {type: in_memory}", False)):
        file.write_text(f"tracker_store: {{type: sql, db: bot.db}}\n{locks}\n")
        done = ticketlock(tmp_path, "run", "--host", "192.0.2.1")  # it ends before it listens
        assert done.returncode == EXIT_BAD_INPUT
        assert ("lock_store is missing" in done.stderr) is told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "run --prot 4",
            "ticketlock run: error: unrecognized arguments: --prot 4; did you mean --p",
        ),
        (
            "tracker list --jsn",
            "ticketlock tracker list: error: unrecognized arguments: --jsn; did",
        ),
        ("demo more", "ticketlock demo: error: unrecognized arguments: more\n"),
        ("--nope", "ticketlock: error: unrecognized arguments: --nope\n"),
    ],
)
def test_an_unknown_option_is_told_by_its_command(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(words.split())
    assert caught.value.code == EXIT_BAD_INPUT
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("run --port 99999", "argument --port: 99999 is not from 0 to 65535"),
        ("worker --port x", "argument --port: invalid port value: 'x'"),
        ("run --drain-timeout -1", "argument --drain-timeout: -1 is not from 0 to 1e+06"),
        ("tracker export no/x.jsonl --endpoints {file}", "no/x.jsonl: No such file or directory"),
        ("tracker import no.jsonl --endpoints {file}", "no.jsonl: cannot be read: No such file"),
        ("tracker import {file} --endpoints {file}", "endpoints.yml: line 2: is not JSON"),
        ("tracker migrate --to {file} --endpoints {file}", "has the tracker store of"),
    ],
)
def test_what_is_wrong_is_said(
    folder: Path, words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a traceback; nothing was started."""
    try:
        status = cli.main(words.format(file=folder / "endpoints.yml").split())
    except SystemExit as left:  # argparse
        status = int(left.code or 0)
    assert status == EXIT_BAD_INPUT
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("127.0.0.1", "Address already in use: end what listens there, or choose another --port$"),
        ("192.0.2.1", "Cannot assign requested address: --host is an address of this machine"),
        ("no.such.host.invalid", "the host is not known: --host is an address of this machine$"),
    ],
)
def test_where_nothing_can_listen(host: str, said: str) -> None:
    """The error says why, and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            ConfigurationError, match=f"^cannot listen on {host} port {port}: {said}"
        ):
            listen(host, port)


def test_ctrl_c_while_a_command_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """That takes half a second: it ends as quietly as later."""

    def interrupted(name: str, package: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ticketlock.cli.import_module", interrupted)
    assert cli.main(["top"]) == EXIT_SIGNAL + signal.SIGINT
