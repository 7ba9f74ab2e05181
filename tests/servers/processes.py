"""Starting servers as children: ports that stay ours, ready when they answer, ended by pid."""

from __future__ import annotations

import os
import pwd
import random
import socket
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

#: How often a server is started at most: a machine under load, or a port that was taken between
#: the choice and the listening, is no failure of what is tested.
STARTS = 3


def free_port() -> int:
    """A port below the range of outgoing connections, which could take it meanwhile."""
    while True:
        port = random.randint(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


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


def carry_out(command: list[str], **popen: Any) -> None:
    """Run a command to its end. Raises RuntimeError with what it said, where that is not 0."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **popen
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
    **popen: Any,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends; `ready` is asked until it says yes."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **popen,
        )
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
