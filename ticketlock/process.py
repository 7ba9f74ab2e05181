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


_shared: list[threading.RLock] = []


def shared_lock() -> threading.RLock:
    """A lock for the threads of this process, for moments only; a fork waits for it.

    So it is free in a forked child, and what it guards is whole there.
    """
    made = threading.RLock()
    _shared.append(made)
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


class Paused(Protocol):
    """What a fork waits for: a driver's own locks would never be free in the child."""

    def pause(self) -> None:
        """Return when nothing of it runs. Nothing begins until `resume`, which the parent calls."""

    def resume(self) -> None: ...


_to_pause: weakref.WeakSet[Paused] = weakref.WeakSet()
_pausing: list[Paused] = []
_forking = shared_lock()


def pause_for_forks(one: Paused) -> None:
    """Call `pause` before each fork. It begins anew in the child, or is left to the parent there."""
    _to_pause.add(one)


def _before() -> None:
    with _forking:  # one fork after the other
        _pausing.extend(_to_pause)
        for one in _pausing:
            one.pause()
        for lock in _shared:  # behind: what is to pause may need them
            lock.acquire()


def _after() -> None:
    paused = list(_pausing)
    _pausing.clear()
    for lock in _shared:
        lock.release()
    for one in paused:
        one.resume()


def _forked() -> None:
    global pid
    pid = os.getpid()
    leave_to_parent(*_pausing)
    _pausing.clear()
    _to_pause.clear()
    for lock in _shared:
        lock.release()
    for one in list(_begin_anew):
        one.forked()


os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_forked)
