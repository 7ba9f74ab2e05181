"""This process: its id, its name for others, and the clock that it measures time by."""

from __future__ import annotations

import os
import socket
import time

#: Its id, known without a system call: it is asked for on every turn.
pid = os.getpid()

#: Clock of all local deadlines, seconds: monotonic, and running on while the machine sleeps.
if hasattr(time, "CLOCK_BOOTTIME"):

    def clock() -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)
else:
    clock = time.monotonic


def host(length: int = 63) -> str:
    """The name of this machine, cut to that many characters; never empty."""
    return socket.gethostname()[:length] or "localhost"


def place() -> str:
    """Which process of which machine this is, for people: `host:pid`."""
    return f"{host()}:{pid}"


def _forked() -> None:
    global pid
    pid = os.getpid()


os.register_at_fork(after_in_child=_forked)
