"""Starting servers as children: ports that stay ours, ready when they answer, ended by pid.

What is started here, and the folders, do not outlive the process that runs the tests.
"""

from __future__ import annotations

import atexit
import os
import pwd
import random
import socket
import subprocess
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from ticketlock.files.scratch import Scratch

T = TypeVar("T")

#: How often a server is started at most: a machine under load, or a port that was taken between
#: the choice and the listening, is no failure of what is tested.
STARTS = 3
#: How many of the ports that a process has chosen it holds: more than it has servers at once.
PORTS_HELD = 200
_held: deque[socket.socket] = deque()


@atexit.register
def _let_go() -> None:
    while _held:
        _held.pop().close()


def free_port() -> int:
    """A port below the range of outgoing connections, which could take it meanwhile.

    The UDP port of the same number is held, so that other processes of the tests choose another:
    a server takes seconds to start on a busy machine, and what answers at its port must be it.
    """
    while True:
        port = random.randrange(20000, 26000)  # above are those of `EmbeddedRedis`
        held = socket.socket(type=socket.SOCK_DGRAM)
        with socket.socket() as probe:
            try:
                held.bind(("127.0.0.1", port))
                probe.bind(("127.0.0.1", port))
            except OSError:
                held.close()
                continue
        _held.append(held)
        if len(_held) > PORTS_HELD:
            _held.popleft().close()
        return port


@cache
def _scratch() -> Scratch:
    made = Scratch("tests", "/tmp")  # a short name: sockets are made below it
    made.path.chmod(0o755)  # servers of other users, too
    atexit.register(made.close)
    return made


def popen(command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
    """`subprocess.Popen`, in a session of its own, reading nothing; killed with this process."""
    with _scratch().tie(command) as (words, tied):
        return subprocess.Popen(words, **options, **tied)


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """A temporary folder that goes, at the latest, with this process."""
    return tempfile.TemporaryDirectory(dir=_scratch().path, ignore_cleanup_errors=True)


def unprivileged() -> dict[str, Any]:
    """Popen arguments for servers that refuse to run as root; empty for other users."""
    if os.getuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def own(folder: Path) -> None:
    """Give a folder to the user that `unprivileged` names, and let that user reach it."""
    if os.getuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)


@contextmanager
def persistent(make: Callable[[], AbstractContextManager[T]], what: str) -> Iterator[T]:
    """Enter what `make` makes, and if that fails another one, with a folder and ports of its own.

    pytest lists the warning of each failure at the end of its run.
    """
    with ExitStack() as stack:
        for start in range(1, STARTS + 1):
            try:
                server = stack.enter_context(make())
                break
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                if start == STARTS:
                    raise
                warnings.warn(f"{what} is started once more: {error}", stacklevel=3)
        yield server


def carry_out(command: list[str], **options: Any) -> None:
    """Run a command to its end. Raises RuntimeError with what it said, where that is not 0."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **options
    )
    if done.returncode:
        said = done.stdout.decode(errors="replace")[-2000:]
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {said}")


@contextmanager
def child(
    command: list[str],
    ready: Callable[[], bool],
    log: Path,
    seconds: float = 60,
    stop_with: int = 15,
    **options: Any,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends; `ready` is asked until it says yes."""
    with log.open("wb") as output:
        process = popen(command, stdout=output, stderr=subprocess.STDOUT, **options)
    try:
        end = time.monotonic() + seconds
        while True:
            # Asked first: what answers may be another program that has taken the port.
            if process.poll() is not None or time.monotonic() > end:
                said = log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{command[0]} did not start: {said}")
            if ready():
                break
            time.sleep(0.05)
        yield process
    finally:
        process.send_signal(stop_with)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
