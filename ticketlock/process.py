"""This process: its id, its name, the clock for deadlines, and what a fork does to its objects."""

from __future__ import annotations

import os
import socket
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Protocol

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


class Forked(Protocol):
    """What has to begin anew in a forked child."""

    def forked(self) -> None:
        """Give up threads, connections, tasks and locks: they are the parent's."""


_begin_anew: weakref.WeakSet[Forked] = weakref.WeakSet()
_parents: list[object] = []


def tell_of_forks(one: Forked) -> None:
    """Call `forked` in each forked child, before anything else runs there."""
    _begin_anew.add(one)


def leave_to_parent(*things: object) -> None:
    """Keep what the parent uses, so that it is not finalized here: a driver might say goodbye on a
    connection that both have.
    """
    _parents.extend(things)


def _forked() -> None:
    global pid
    pid = os.getpid()
    for one in list(_begin_anew):
        one.forked()


os.register_at_fork(after_in_child=_forked)
