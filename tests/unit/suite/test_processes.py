"""How the tests start servers: again if it fails, and never for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from servers.processes import STARTS, carry_out, child, persistent

ROOT = Path(__file__).parents[3]


class Server:
    """Fails so often before it starts."""

    def __init__(self, failures: int) -> None:
        self.left = failures
        self.log: list[str] = []

    @contextmanager
    def start(self) -> Iterator[str]:
        self.log.append("start")
        if self.left:
            self.left -= 1
            raise RuntimeError("no room")
        yield "server"
        self.log.append("stop")


def test_a_server_is_started_again() -> None:
    """And a warning says so, which pytest shows."""
    server = Server(STARTS - 1)
    with pytest.warns(UserWarning, match=r"^X is started once more: no room") as told:
        with persistent(server.start, "X") as started:
            assert started == "server"
    assert server.log == [*["start"] * STARTS, "stop"]
    assert len(told) == STARTS - 1


def test_a_server_that_never_starts() -> None:
    """The last failure is told."""
    server = Server(STARTS)
    with pytest.warns(UserWarning, match="once more"), pytest.raises(RuntimeError, match="no room"):
        with persistent(server.start, "X"):
            pytest.fail("it has not started")
    assert server.log == ["start"] * STARTS


def test_what_fails_in_the_block_starts_nothing_again() -> None:
    server = Server(0)
    with pytest.raises(RuntimeError, match="of the test"), persistent(server.start, "X"):
        raise RuntimeError("of the test")
    assert server.log == ["start"]


def test_a_command_that_fails_says_what_it_said() -> None:
    with pytest.raises(RuntimeError, match=r"ended with 3: b.d"):
        carry_out([sys.executable, "-c", "print('bad'); raise SystemExit(3)"])


def test_a_child_that_ends_has_not_started(tmp_path: Path) -> None:
    """Though another program answers on its port."""
    words = [sys.executable, "-c", "raise SystemExit('the port is taken')"]
    seen = []

    def answers() -> bool:
        seen.append(1)
        return len(seen) > 40  # by then it has ended

    with pytest.raises(RuntimeError, match="the port is taken"):
        with child(words, answers, tmp_path / "log"):
            pytest.fail("it has not started")


def test_servers_and_folders_end_with_killed_tests(tmp_path: Path) -> None:
    """Though nobody leaves the blocks that they were started in."""
    code = """
        import os, signal, sys
        from pathlib import Path
        from servers.processes import child, temporary_folder
        with temporary_folder() as folder:
            with child(["sleep", "600"], lambda: True, Path(folder, "log")) as process:
                print(process.pid, folder, flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        stdout=subprocess.PIPE, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    pid, folder = done.stdout.split()
    end = time.monotonic() + 20
    while psutil.pid_exists(int(pid)) or Path(folder).exists():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_tests_start_stores_its_bytecode() -> None:
    """Even where the environment forbids it, as that of a container may."""
    ask = [sys.executable, "-c", "import sys; print(sys.dont_write_bytecode)"]
    code = f"import conftest, subprocess; subprocess.run({ask}, check=True)"
    for command, said in ((ask, "True"), ([sys.executable, "-c", code], "False")):
        done = subprocess.run(
            command, cwd=ROOT / "tests", env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert done.stdout.strip() == said


def test_a_test_that_hangs_fails(tmp_path: Path) -> None:
    """It is ended, the others run, and the limit of ours is in pyproject.toml."""
    assert "\ntimeout = " in (ROOT / "pyproject.toml").read_text()
    (tmp_path / "pytest.ini").write_text("[pytest]\ntimeout = 0.3\n")
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent(
            """
            import asyncio, threading

            def test_lock():
                threading.Event().wait()

            def test_loop():
                asyncio.run(asyncio.sleep(3600))

            def test_good():
                pass
            """
        )
    )
    # Without the other plugins: it takes seconds to load them.
    options = ["-p", "pytest_timeout", "-p", "no:cacheprovider", "--tb=line"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *options, str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "2 failed, 1 passed" in done.stdout, done.stdout
    assert done.stdout.count("Timeout (>0.3s) from pytest-timeout") >= 2
