"""An event loop in a thread of its own, and the way into it from other threads."""

from __future__ import annotations

import asyncio
import atexit
import logging
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any, TypeVar

from .. import process
from ..errors import CLOSED, LockStoreConnectionError
from . import native

T = TypeVar("T")
log = logging.getLogger("ticketlock.lock")

#: Seconds that closing waits for running work, and again for cancelled work.
_CLOSING = 2.0
#: Seconds until a dropped portal ends: objects that were dropped with it still send commands.
_LINGER = 0.01

Closer = Callable[[], Awaitable[object]]


def finalizer(owner: object, function: Callable[..., object], *args: object) -> Any:
    """A `weakref.finalize` that does nothing at the end of the interpreter.

    It is called when `owner` is dropped, on any thread, at any moment.
    """
    made = weakref.finalize(owner, function, *args)
    made.atexit = False
    return made


class _LoopThread:
    """One thread with its loop, from start to end. It has no reference to the portal."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread = 0
        self.over = False
        #: Why there is no loop.
        self.problem: OSError | None = None
        self.closing: asyncio.Task[None] | None = None
        self.ending: asyncio.Task[None] | None = None
        #: Answers of callers that wait for the start, and of those for a result or the end.
        self.starting: set[native.Answer] = set()
        self.waiting: set[native.Answer] = set()
        native.start_thread(self._run, "ticketlock-portal")

    def _run(self) -> None:
        try:
            # Made here, because gevent binds the parts of a loop to the OS thread that makes them.
            with closing(asyncio.new_event_loop()) as loop:
                self.thread, self.loop = native.thread_id(), loop
                # Not `waiting`: a caller that has seen the loop by now waits there for its result.
                self._wake(self.starting)
                loop.run_forever()
        except OSError as error:  # too many open files
            self.problem = error
        finally:
            self.over = True
            self._wake(self.starting)
            self._wake(self.waiting)

    def _wake(self, those: set[native.Answer]) -> None:
        # Called after the state has changed: later callers see it, the others are in the set.
        for answer in list(those):
            answer.put(None)

    def _wait_for(
        self, those: set[native.Answer], true: Callable[[], bool], seconds: float | None = None
    ) -> None:
        done = native.answer()
        those.add(done)
        try:
            if not true():
                done.get(seconds)
        finally:
            those.discard(done)

    def started(self) -> _LoopThread:
        """Wait until the loop runs; returns self. Raises LockStoreConnectionError."""
        if self.loop is None:
            self._wait_for(self.starting, lambda: self.loop is not None or self.over)
        if self.loop is None:
            raise LockStoreConnectionError(
                f"the event loop of store.sync() cannot start: {self.problem}"
            ) from self.problem
        return self

    def join(self) -> None:
        """Wait until the thread has ended, up to some seconds."""
        if not self.here():
            self._wait_for(self.waiting, lambda: self.over, 3 * _CLOSING)

    def here(self) -> bool:
        """Whether this thread is the loop's."""
        return self.thread == native.thread_id()

    def post(self, function: Callable[[], object]) -> None:
        """Call a function on the loop without waiting; after the end it does nothing."""
        self.started()
        assert self.loop is not None  # started
        try:
            self.loop.call_soon_threadsafe(function)
        except RuntimeError:  # closed at this moment, which `over` or the answer shows
            if not self.loop.is_closed():
                raise

    def close(self, *closers: Closer) -> None:
        """Run the closers on the loop, without waiting."""

        def close() -> None:
            self.closing = asyncio.create_task(self._close(closers))

        self.post(close)

    def end(self, pause: float, *closers: Closer) -> None:
        """Run the closers, then end the loop and its thread, without waiting."""

        def end() -> None:
            self.ending = asyncio.create_task(self._wind_up(pause, closers))

        self.post(end)

    async def _close(self, closers: tuple[Closer, ...]) -> None:
        for closer in closers:
            closing = asyncio.ensure_future(closer())
            await asyncio.wait([closing], timeout=_CLOSING)
            if closing.done() and not closing.cancelled() and (error := closing.exception()):
                log.warning("closing a dropped store: %s", error)

    async def _wind_up(self, pause: float, closers: tuple[Closer, ...]) -> None:
        await asyncio.sleep(pause)
        await self._close(closers)
        if pause:
            await self._wait()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()  # callers in other threads get an error
        await self._wait()
        for _ in range(3):
            await asyncio.sleep(0)  # closed transports release their sockets
        asyncio.get_running_loop().stop()

    async def _wait(self) -> None:
        if tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(tasks, timeout=_CLOSING)


class Portal:
    """A thread that runs an event loop, started at the first use, after `close`, and after a fork.

    Args:
        owner: the object whose work runs on the loop; its `close` is run there at the end of the
            interpreter. The portal does not keep it alive, and ends when it is dropped.
    """

    def __init__(self, owner: Any) -> None:
        self._guard = threading.Lock()
        self._thread: _LoopThread | None = None
        self._parents: _LoopThread | None = None
        self._ending: _LoopThread | None = None
        self._exited = False
        self._owners = [weakref.ref(owner)]
        finalizer(owner, self._dropped)
        _portals.add(self)
        process.tell_of_forks(self)

    def adopt(self, owner: Any, *closers: Closer) -> None:
        """Close one more owner at the end of the interpreter; run `closers`, which must not refer
        to it, once it is dropped."""
        self._owners.insert(0, weakref.ref(owner))
        finalizer(owner, self._adopted_dropped, *closers)

    @property
    def life(self) -> object:
        """An object that changes with each start of the portal; None while it does not run."""
        thread = self._thread
        return None if thread is None or thread.over else thread

    def run(self, work: Callable[[], Awaitable[T]], *, finish: bool = False) -> T:
        """Call a function on the portal's loop, and return the result of its awaitable.

        An interrupt (KeyboardInterrupt, a worker's time limit) cancels it, unless `finish`. A
        future is awaited without a task, which would take a fifth of a turn's time. Raises
        LockStoreConnectionError if the portal is closed meanwhile.
        """
        try:
            thread = self._live()
        except RuntimeError as error:  # the interpreter is ending: no new thread
            raise LockStoreConnectionError(str(error)) from error
        if thread.here():
            raise LockStoreConnectionError(
                "store.sync() was called on its own event loop, and would wait for itself"
            )
        done = native.answer()
        futures: list[asyncio.Future[T]] = []

        def start() -> None:
            try:
                future: asyncio.Future[T] = asyncio.ensure_future(work())
            except Exception as error:  # noqa: BLE001  # raised in the calling thread
                future = asyncio.get_running_loop().create_future()
                future.set_exception(error)
            futures.append(future)
            future.add_done_callback(done.put)

        def cancel() -> None:
            if futures:
                futures[0].cancel()

        thread.waiting.add(done)
        try:
            thread.post(start)
            future = None if thread.over else done.get()
        except BaseException:
            if not finish:
                thread.post(cancel)
            raise
        finally:
            thread.waiting.discard(done)
        if self._exited and threading.current_thread().daemon:
            native.answer().get()  # daemon threads end with the interpreter, without an error
        if future is None or future.cancelled():
            raise LockStoreConnectionError(CLOSED)
        result: T = future.result()
        return result

    def post(self, function: Callable[[], object]) -> None:
        """Call a function on the portal's loop if it runs, without waiting."""
        if self._thread is not None:
            self._thread.post(function)

    def runs_here(self) -> bool:
        """Whether this is the thread of the portal, which cannot wait for itself."""
        return self._thread is not None and self._thread.here()

    def _live(self) -> _LoopThread:
        thread = self._thread
        if thread is None or thread.over:
            if self._ending is not None:
                self._ending.join()
                self._ending = None
            with self._guard:
                if self._thread is None or self._thread.over:
                    if sys.is_finalizing():
                        raise RuntimeError(
                            "the interpreter is shutting down: no turn can start any more"
                        )
                    self._thread = _LoopThread()
                thread = self._thread
        # Without the guard, which may block the other greenlets.
        return thread.started()

    def close(self, closer: Closer) -> None:
        """Run the closer on the loop, then end the loop and its thread.

        It waits for the end, except on the thread of the portal, where finalizers may run.
        """
        if self._exited or sys.is_finalizing():
            return  # closed when the interpreter began to end
        try:
            thread = self._live()
        except (RuntimeError, LockStoreConnectionError):
            return  # no new thread or loop is possible, so nothing is in use
        if thread.here():
            self._thread, self._ending = None, thread
            return thread.end(0.0, closer)
        try:
            self.run(closer)
        finally:
            self._end(thread)
        return None

    def _end(self, thread: _LoopThread, *closers: Closer) -> None:
        self._thread = None
        thread.end(0.0, *closers)
        thread.join()

    def _dropped(self) -> None:
        """The owner is gone. This may run on any thread at any moment, so it does not wait."""
        thread, self._thread = self._thread, None
        if thread is not None and not thread.over:
            thread.end(_LINGER)

    def _adopted_dropped(self, *closers: Closer) -> None:
        """An adopted owner is gone; as `_dropped`."""
        if self._thread is not None and not self._thread.over:
            self._thread.close(*closers)

    def exit(self) -> None:
        """Close all owners before the interpreter ends, while threads still run."""
        thread, owners = self._thread, [ref() for ref in self._owners]
        self._exited = True
        if thread is not None and not thread.over and not thread.here():
            self._end(thread, *(owner.close for owner in owners if owner is not None))

    def forked(self) -> None:
        """Start anew in a forked child: the thread is the parent's, the guard may be locked."""
        self._parents, self._thread, self._guard = self._thread, None, threading.Lock()


_portals: weakref.WeakSet[Portal] = weakref.WeakSet()


def _exit_all() -> None:
    for portal in list(_portals):
        portal.exit()


atexit.register(_exit_all)
