"""An event loop that stands still: it runs what is ready when it is told to, and no more."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any


class Timer(asyncio.TimerHandle):
    """A timer; those of one moment run in the order in which they were made."""


class ModelLoop(asyncio.AbstractEventLoop):
    """Real futures and tasks run on it. Its time is set from outside.

    Attributes:
        now: seconds; what the library's `clock()` says.
        heard: callbacks of other threads that the loop has not come to yet.
        errors: what callbacks have raised.
        moves: whether an event is being handled.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.heard: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self.errors: list[str] = []
        self.moves = False
        self.tasks: list[asyncio.Task[Any]] = []
        self._ready: deque[asyncio.Handle] = deque()
        self.timers: list[Timer] = []

    # -- told from outside ------------------------------------------------------------------------

    def settle(self) -> None:
        """Run all that is ready, and what that makes ready."""
        while self._ready:
            handle = self._ready.popleft()
            if not handle.cancelled():
                handle._run()

    def next_timer(self) -> float:
        """When the next timer is due."""
        self.timers = [timer for timer in self.timers if not timer.cancelled()]
        return min((timer.when() for timer in self.timers), default=float("inf"))

    def run_timers(self) -> None:
        """Run the timers whose time has come."""
        due = sorted((t for t in self.timers if t.when() <= self.now), key=lambda t: t.when())
        self.timers = [timer for timer in self.timers if timer not in due]
        self._ready.extend(due)
        self.settle()

    def hear_thread(self) -> None:
        """Run the next callback that another thread has handed over."""
        callback, args = self.heard.popleft()
        callback(*args)
        self.settle()

    # -- what asyncio asks of a loop --------------------------------------------------------------

    def time(self) -> float:
        return self.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], **_: Any) -> asyncio.Task[Any]:
        if not self.moves:  # a coroutine of a client that is forgotten has been closed
            coro.close()
            return self.create_future()  # type: ignore[return-value]  # no one awaits it
        task = asyncio.Task(coro, loop=self)
        self.tasks.append(task)
        return task

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> Any:
        self.heard.append((callback, args))

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Timer:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Timer:
        timer = Timer(when, callback, args, self, context)
        self.timers.append(timer)
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass  # `due` drops it

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if "exception" in context and "never retrieved" not in context["message"]:
            self.errors.append(f"{context['message']}: {context['exception']!r}")
