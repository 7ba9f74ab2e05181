"""This process: its id, its name, and the clock for deadlines."""

from __future__ import annotations

import os
import socket
import threading
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


def shared_lock() -> threading.RLock:
    """A lock for the threads of this process, for moments only; a fork waits for it.

    So it is free in a forked child, and what it guards is whole there.
    """
    made = threading.RLock()
    os.register_at_fork(
        before=made.acquire, after_in_parent=made.release, after_in_child=made.release
    )
    return made


def _forked() -> None:
    global pid
    pid = os.getpid()


os.register_at_fork(after_in_child=_forked)
