"""Starting servers as children: ports that stay ours, ready when they answer, ended by pid."""

from __future__ import annotations

import os
import pwd
import random
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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
        while not ready():
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{command[0]} did not start: {log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield process
    finally:
        process.send_signal(stop_with)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
