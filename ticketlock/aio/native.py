"""Threads of the operating system, and waiting for values from them.

Where gevent has patched `threading`, threads are greenlets that share one OS thread, in which
only one event loop can run. The loop of the portal gets an OS thread of its own, and a greenlet
that waits for it lets the others run.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from ..errors import ConfigurationError


class Answer(Protocol):
    """One value from any thread, for the thread or greenlet that made this object."""

    def put(self, value: Any) -> None:
        """Set the value; it never waits."""

    def get(self, timeout: float | None = None) -> Any:
        """Wait for the value; None after `timeout` seconds. Call it once."""


class _ThreadAnswer:
    """For threads. A SimpleQueue stays usable after a KeyboardInterrupt."""

    __slots__ = ("_queue", "put")

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.put = self._queue.put

    def get(self, timeout: float | None = None) -> Any:
        try:
            return self._queue.get(timeout=timeout)
        except queue.Empty:
            return None


class _GeventAnswer:
    """For greenlets of gevent: others run while it waits."""

    def __init__(self) -> None:
        from gevent import get_hub
        from gevent.hub import Waiter

        self._value: Any = None
        self._waiter = Waiter()
        # Other OS threads may use only this part of a hub; it is started before another thread can reach it.
        self._wakeup = get_hub().loop.async_()
        self._wakeup.start(self._waiter.switch, None)

    def put(self, value: Any) -> None:
        self._value = value
        wakeup = self._wakeup
        if wakeup is not None:
            wakeup.send()

    def get(self, timeout: float | None = None) -> Any:
        from gevent import Timeout

        try:
            with Timeout(timeout, False):
                self._waiter.get()
            return self._value
        finally:
            wakeup, self._wakeup = self._wakeup, None
            wakeup.stop()
            wakeup.close()


def _patched_by() -> str | None:
    """The library that has replaced threads by greenlets; None: none has."""
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    if gevent is not None and gevent.is_module_patched("threading"):
        return "gevent"
    if eventlet is not None and eventlet.is_monkey_patched("thread"):
        return "eventlet"
    return None


def _greenlets() -> bool:
    """Whether greenlets of gevent share this OS thread, patched or not."""
    hubs = sys.modules.get("gevent._hub_local")
    return hubs is not None and (hubs.get_hub_if_exists() is not None or _patched_by() == "gevent")


def answer() -> Answer:
    """A new Answer for the calling thread or greenlet."""
    return _GeventAnswer() if _greenlets() else _ThreadAnswer()


def me() -> tuple[object, ...]:
    """The identity of this thread or greenlet, unique among those that are alive."""
    greenlet = sys.modules.get("greenlet")
    return threading.get_ident(), None if greenlet is None else greenlet.getcurrent()


def thread_id() -> int:
    """The number of the OS thread, also where threads are patched."""
    if _patched_by() == "gevent":
        get_ident: Callable[[], int] = sys.modules["gevent.monkey"].get_original(
            "_thread", "get_ident"
        )
        return get_ident()
    return threading.get_ident()


def start_thread(target: Callable[[], None], name: str) -> None:
    """Run `target` in a new OS thread, as a daemon.

    Raises ConfigurationError if eventlet has replaced threads.
    """
    patched = _patched_by()
    if patched == "eventlet":
        raise ConfigurationError(
            "eventlet has replaced threads, and store.sync() needs a real one. Eventlet is "
            "deprecated: run the server with threads (gunicorn -k gthread), gevent "
            "(gunicorn -k gevent) or asyncio, with the asynchronous lock store"
        )
    if patched == "gevent":
        start = sys.modules["gevent.monkey"].get_original("_thread", "start_new_thread")
        start(target, ())
    else:
        threading.Thread(target=target, name=name, daemon=True).start()


def pause(seconds: float) -> None:
    """Let an OS thread of `start_thread` sleep, also where sleeping is patched."""
    if _patched_by() == "gevent":
        sys.modules["gevent.monkey"].get_original("time", "sleep")(seconds)
    else:
        time.sleep(seconds)
