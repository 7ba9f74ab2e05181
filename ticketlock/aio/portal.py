"""An event loop in a thread of its own, and the way into it from other threads."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any, TypeVar

from ..errors import CLOSED, LockStoreConnectionError
from . import native

T = TypeVar("T")
log = logging.getLogger("ticketlock.lock")

#: Seconds that closing waits for what is still going on, and again for what was cancelled.
_CLOSING = 2.0
#: Seconds after which a dropped portal ends: what it was dropped with has something to say first.
_LAST_WORDS = 0.01

Closer = Callable[[], Awaitable[object]]


def finalizer(owner: object, function: Callable[..., object], *args: object) -> Any:
    """A `weakref.finalize` that does nothing at the end of the interpreter.

    It is called when `owner` is dropped, on any thread, in the middle of anything.
    """
    made = weakref.finalize(owner, function, *args)
    made.atexit = False
    return made


class _Life:
    """One thread with its loop, from start to end. It knows no portal, and keeps none alive."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread = 0
        self.over = False
        #: Why there is no loop.
        self.problem: OSError | None = None
        self.closing: asyncio.Task[None] | None = None
        self.ending: asyncio.Task[None] | None = None
        #: Those that wait for the start, for something of the loop, or for the end.
        self.waiting: set[native.Answer] = set()
        native.start_thread(self._run, "ticketlock-portal")

    def _run(self) -> None:
        try:
            # Made here: gevent binds what a loop is made of to the OS thread that makes it.
            with closing(asyncio.new_event_loop()) as loop:
                self.thread, self.loop = native.thread_id(), loop
                self._tell()
                loop.run_forever()
        except OSError as error:  # too many open files
            self.problem = error
        finally:
            self.over = True
            self._tell()

    def _tell(self) -> None:
        # After what they wait for: who joins later sees that, all others are in the set.
        for answer in list(self.waiting):
            answer.put(None)

    def _wait_for(self, true: Callable[[], bool], seconds: float | None = None) -> None:
        done = native.answer()
        self.waiting.add(done)
        try:
            if not true():
                done.get(seconds)
        finally:
            self.waiting.discard(done)

    def started(self) -> _Life:
        """Wait until there is a loop; returns self. Raises LockStoreConnectionError."""
        if self.loop is None:
            self._wait_for(lambda: self.loop is not None or self.over)
        if self.loop is None:
            raise LockStoreConnectionError(
                f"the event loop of store.sync() cannot start: {self.problem}"
            ) from self.problem
        return self

    def join(self) -> None:
        """Wait until the thread has ended, for some seconds at most."""
        if not self.here():
            self._wait_for(lambda: self.over, 3 * _CLOSING)

    def here(self) -> bool:
        """Whether this thread is the loop's."""
        return self.thread == native.thread_id()

    def post(self, function: Callable[[], object]) -> None:
        """Call a function on the loop, without waiting; nothing happens after the end."""
        self.started()
        assert self.loop is not None  # started
        try:
            self.loop.call_soon_threadsafe(function)
        except RuntimeError:  # closed in this moment; `over` or the answer says so
            if not self.loop.is_closed():
                raise

    def close(self, *closers: Closer) -> None:
        """Close what is given, on the loop; does not wait."""

        def close() -> None:
            self.closing = asyncio.create_task(self._close(closers))

        self.post(close)

    def end(self, pause: float, *closers: Closer) -> None:
        """Close what runs on the loop, then end the loop and its thread; does not wait."""

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
            task.cancel()  # whoever waits on it in another thread is told
        await self._wait()
        for _ in range(3):
            await asyncio.sleep(0)  # transports that were closed let go of their sockets
        asyncio.get_running_loop().stop()

    async def _wait(self) -> None:
        if tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(tasks, timeout=_CLOSING)


class Portal:
    """A thread that runs an event loop, started at the first use, after `close`, and after a fork.

    Args:
        owner: what runs on the loop; at the end of the interpreter its `close` is run there.
            The portal does not keep it alive: once it is dropped, so is the thread.
    """

    def __init__(self, owner: Any) -> None:
        self._guard = threading.Lock()
        self._life: _Life | None = None
        self._parents: _Life | None = None
        self._ending: _Life | None = None
        self._exited = False
        self._owners = [weakref.ref(owner)]
        finalizer(owner, self._dropped)
        _portals.add(self)

    def adopt(self, owner: Any, *closers: Closer) -> None:
        """Close one more at the end of the interpreter, and `closers` once it is dropped; none
        of them may refer to it."""
        self._owners.insert(0, weakref.ref(owner))
        finalizer(owner, self._left, *closers)

    @property
    def life(self) -> object:
        """What changes when the portal starts anew; None while it does not run."""
        life = self._life
        return None if life is None or life.over else life

    def run(self, work: Callable[[], Awaitable[T]], *, finish: bool = False) -> T:
        """Call a function on the portal's loop and return the result of what it returns.

        An interrupt (KeyboardInterrupt, a worker's time limit) cancels that, unless it is to
        `finish`. What is a future already needs no task, which would be a fifth of a turn's
        time. Raises LockStoreConnectionError when the portal is closed meanwhile.
        """
        try:
            life = self._live()
        except RuntimeError as error:  # too late in the interpreter's end for a new thread
            raise LockStoreConnectionError(str(error)) from error
        if life.here():
            raise LockStoreConnectionError(
                "store.sync() was called on its own event loop, and would wait for itself"
            )
        done = native.answer()
        futures: list[asyncio.Future[T]] = []

        def start() -> None:
            try:
                future: asyncio.Future[T] = asyncio.ensure_future(work())
            except Exception as error:  # noqa: BLE001  # it belongs to the caller
                future = asyncio.get_running_loop().create_future()
                future.set_exception(error)
            futures.append(future)
            future.add_done_callback(done.put)

        def cancel() -> None:
            if futures:
                futures[0].cancel()

        life.waiting.add(done)
        try:
            life.post(start)
            future = None if life.over else done.get()
        except BaseException:
            if not finish:
                life.post(cancel)
            raise
        finally:
            life.waiting.discard(done)
        if self._exited and threading.current_thread().daemon:
            native.answer().get()  # such threads end with the interpreter, not with an error
        if future is None or future.cancelled():
            raise LockStoreConnectionError(CLOSED)
        result: T = future.result()
        return result

    def post(self, function: Callable[[], object]) -> None:
        """Call a plain function on the portal's loop if it runs, without waiting for it."""
        if self._life is not None:
            self._life.post(function)

    def runs_here(self) -> bool:
        """Whether this is the portal's own thread, which cannot wait for itself."""
        return self._life is not None and self._life.here()

    def _live(self) -> _Life:
        life = self._life
        if life is None or life.over:
            if self._ending is not None:
                self._ending.join()
                self._ending = None
            with self._guard:
                if self._life is None or self._life.over:
                    if sys.is_finalizing():
                        raise RuntimeError(
                            "the interpreter is shutting down: no turn can start any more"
                        )
                    self._life = _Life()
                life = self._life
        # Waited for without the guard, which may not know greenlets.
        return life.started()

    def close(self, closer: Closer) -> None:
        """Close what runs on the loop, then end the loop and its thread.

        It waits for that, but not on the portal's own thread, where a finalizer may run.
        """
        if self._exited or sys.is_finalizing():
            return  # closed already, when the interpreter began to end
        try:
            life = self._live()
        except (RuntimeError, LockStoreConnectionError):
            return  # no thread, or no loop, can be had any more: so nothing is in use
        if life.here():
            self._life, self._ending = None, life
            return life.end(0.0, closer)
        try:
            self.run(closer)
        finally:
            self._end(life)
        return None

    def _end(self, life: _Life, *closers: Closer) -> None:
        self._life = None
        life.end(0.0, *closers)
        life.join()

    def _dropped(self) -> None:
        """The owner is gone. This may run anywhere, in the middle of anything: it does not wait."""
        life, self._life = self._life, None
        if life is not None and not life.over:
            life.end(_LAST_WORDS)

    def _left(self, *closers: Closer) -> None:
        """What was adopted is gone; as `_dropped`."""
        if self._life is not None and not self._life.over:
            self._life.close(*closers)

    def _exit(self) -> None:
        """The interpreter ends: turns are given back while there are still threads to do it."""
        life, owners = self._life, [ref() for ref in self._owners]
        self._exited = True
        if life is not None and not life.over and not life.here():
            self._end(life, *(owner.close for owner in owners if owner is not None))

    def _forked(self) -> None:
        """In the child: the thread is the parent's, and the guard may have been in use."""
        self._parents, self._life, self._guard = self._life, None, threading.Lock()


_portals: weakref.WeakSet[Portal] = weakref.WeakSet()


def _exit_all() -> None:
    for portal in list(_portals):
        portal._exit()


def _all_forked() -> None:
    for portal in list(_portals):
        portal._forked()


atexit.register(_exit_all)
os.register_at_fork(after_in_child=_all_forked)
