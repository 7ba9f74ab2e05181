"""Temporary folders and processes do not outlive who made them; what lives is left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from ticketlock.files import watchdog
from ticketlock.files.scratch import Scratch, sweep
from ticketlock.redis.embedded import EmbeddedRedis, free_port

#: Makes a scratch with a process in it and a child of that, tells their ids, and waits.
OWNER = """
    import subprocess, sys
    from ticketlock.files.scratch import Scratch
    made = Scratch("test", sys.argv[1])
    code = "import subprocess, time; print(subprocess.Popen(['sleep', '600']).pid, flush=True)"
    code += "; time.sleep(600)"
    with made.tie([sys.executable, "-c", code]) as (words, options):
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, **options)
    print(made._watchdog.pid, process.pid, process.stdout.readline().strip(), flush=True)
    sys.stdin.read()
"""


class Owner:
    """A process that has a scratch."""

    def __init__(self, place: Path) -> None:
        words = [sys.executable, "-c", textwrap.dedent(OWNER), str(place)]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        numbers = self.process.stdout.readline().split()
        self.watchdog, *self.started = (psutil.Process(int(number)) for number in numbers)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Callable[[], Owner]]:
    owners: list[Owner] = []

    def start() -> Owner:
        owners.append(Owner(tmp_path))
        return owners[-1]

    yield start
    for one in owners:
        one.kill()
        psutil.wait_procs(one.started, timeout=10)


def gone(path: Path, seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while path.exists() and time.monotonic() < end:
        time.sleep(0.01)
    return not path.exists()


def test_what_is_started_ends_with_a_killed_owner(
    tmp_path: Path, owner: Callable[[], Owner]
) -> None:
    """The process, its child, the folder and the one that watches."""
    one = owner()
    (folder,) = tmp_path.iterdir()
    assert all(process.is_running() for process in one.started)
    one.kill()
    _, alive = psutil.wait_procs([one.watchdog, *one.started], timeout=10)
    assert alive == []
    assert gone(folder)


def test_the_next_one_clears_what_the_watchdog_could_not(
    tmp_path: Path, owner: Callable[[], Owner]
) -> None:
    """And leaves alone what has an owner."""
    one, other = owner(), owner()
    one.watchdog.kill()
    one.kill()
    assert all(process.is_running() for process in (*one.started, *other.started))
    assert len(list(tmp_path.iterdir())) == 2
    sweep(str(tmp_path))
    _, alive = psutil.wait_procs(one.started, timeout=10)
    assert alive == []
    assert len(list(tmp_path.iterdir())) == 1
    assert all(process.is_running() for process in other.started)


def test_a_number_that_another_process_has_by_now_is_not_killed(tmp_path: Path) -> None:
    """The file says so, but that process has not locked it."""
    folder = tmp_path / "ticketlock-test-1"
    (folder / watchdog.PROCESSES).mkdir(parents=True)
    (folder / watchdog.OWNER).touch()
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as stranger:
        try:
            (folder / watchdog.PROCESSES / "x").write_text(f"{stranger.pid}\n")
            sweep(str(tmp_path))
            assert not folder.exists()
            with pytest.raises(subprocess.TimeoutExpired):
                stranger.wait(0.3)
        finally:
            stranger.kill()


def test_leaving_kills_and_removes(tmp_path: Path) -> None:
    with Scratch("test", str(tmp_path)) as made:
        (made.path / "file").touch()
        with made.tie(["sleep", "600"]) as (words, options):
            process = subprocess.Popen(words, **options)
        assert os.getsid(process.pid) == process.pid
    assert process.wait(10) == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []
    made.close()  # once more is harmless


def test_a_fork_leaves_it_to_the_first_process(tmp_path: Path) -> None:
    with Scratch("test", str(tmp_path)) as made:
        if (child := os.fork()) == 0:
            made.close()
            os._exit(0)
        os.waitpid(child, 0)
        assert made.path.is_dir()
        assert made._watchdog.poll() is None


def test_folders_of_another_kind_stay(tmp_path: Path) -> None:
    """Those of older versions too; of ours those go whose makers were killed while making them."""
    for name in ("other", "ticketlock-file", "ticketlock-demo-1", "ticketlock-demo-2"):
        (tmp_path / name).mkdir()
    (tmp_path / "ticketlock-file" / "log").touch()
    (tmp_path / "ticketlock-demo-2" / watchdog.OWNER).touch()
    (tmp_path / "ticketlock-link").symlink_to(tmp_path / "other")
    (tmp_path / "ticketlock").touch()
    sweep(str(tmp_path))
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"other", "ticketlock-file", "ticketlock-link", "ticketlock"}


def test_many_that_begin_at_once_do_not_take_each_others_folders(tmp_path: Path) -> None:
    code = """
        import sys
        from ticketlock.files import scratch
        for _ in range(20):
            scratch._swept.clear()
            with scratch.Scratch("test", sys.argv[1]) as made:
                (made.path / "file").touch()
                scratch.sweep(sys.argv[1])
                (made.path / "file").unlink()
    """
    words = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    started = [subprocess.Popen(words) for _ in range(4)]
    assert [process.wait(60) for process in started] == [0] * 4
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_another_server_took_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the choice of a port and the listening another server can take it."""
    with EmbeddedRedis() as other:
        ports = iter([other.port, free_port()])
        monkeypatch.setattr("ticketlock.redis.embedded.free_port", lambda: next(ports))
        with EmbeddedRedis() as ours:
            assert ours.port != other.port
