"""This process: its id, its name, and the clock for deadlines."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from functools import partial

#: Its id, cached because it is read on every turn.
pid = os.getpid()

#: Clock of all local deadlines, seconds: monotonic, and it runs on while the machine sleeps.
clock: Callable[[], float] = time.monotonic
if hasattr(time, "CLOCK_BOOTTIME"):
    clock = partial(time.clock_gettime, time.CLOCK_BOOTTIME)


def host(length: int = 63) -> str:
    """The name of this machine, cut to `length` characters; never empty."""
    return socket.gethostname()[:length] or "localhost"


def place() -> str:
    """The name of this process: `host:pid`."""
    return f"{host()}:{pid}"


def _forked() -> None:
    global pid
    pid = os.getpid()


os.register_at_fork(after_in_child=_forked)
