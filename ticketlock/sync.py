"""The threaded twin: the same stores on an event loop of their own, for servers of threads."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from . import forks
from .errors import LockLost, LockStoreConnectionError, LockTimeout
from .grant import Grant
from .inspection import Inspection
from .lock import Lock
from .tickets import TicketLock

if TYPE_CHECKING:
    from .lock_store import LockStore

T = TypeVar("T")

#: Seconds that closing waits for what was cancelled.
_CLOSING = 2.0


class Portal:
    """A thread that runs an event loop, and the way into it; starts anew after a fork."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._pid = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def call(self, work: Coroutine[Any, Any, T], *, finish: bool = False) -> T:
        """Run a coroutine on the portal's loop and return its result; see `run`."""
        return self.run(lambda: work, finish=finish)

    def run(self, work: Callable[[], Awaitable[T]], *, finish: bool = False) -> T:
        """Call a function on the portal's loop and return the result of what it returns.

        An interrupt (KeyboardInterrupt, a worker's time limit) cancels that, unless it is to
        `finish`. The answer comes through a SimpleQueue: an interrupt inside it leaves no
        lock behind that the loop would hang on. What is a future already needs no task, which
        would be a fifth of a turn's time.
        """
        loop = self._running_loop()
        done: queue.SimpleQueue[asyncio.Future[T]] = queue.SimpleQueue()
        futures: list[asyncio.Future[T]] = []

        def start() -> None:
            try:
                future: asyncio.Future[T] = asyncio.ensure_future(work(), loop=loop)
            except Exception as error:  # noqa: BLE001  # it belongs to the caller
                future = loop.create_future()
                future.set_exception(error)
            futures.append(future)
            future.add_done_callback(done.put)

        def cancel() -> None:
            if futures:
                futures[0].cancel()

        loop.call_soon_threadsafe(start)
        try:
            future = done.get()
        except BaseException:
            if not finish:
                loop.call_soon_threadsafe(cancel)
            raise
        if future.cancelled():
            raise LockStoreConnectionError("the lock store has been closed")
        return future.result()

    def post(self, function: Callable[[], object]) -> None:
        """Call a plain function on the portal's loop if it runs, without waiting for it."""
        if self._loop is not None and self._pid == forks.pid:
            self._loop.call_soon_threadsafe(function)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        loop = self._loop
        if loop is None or self._pid != forks.pid:
            with self._guard:
                if self._loop is None or self._pid != forks.pid:
                    self._loop, self._pid = asyncio.new_event_loop(), forks.pid
                    self._thread = threading.Thread(
                        target=self._loop.run_forever, name="ticketlock-portal", daemon=True
                    )
                    self._thread.start()
                loop = self._loop
        return loop

    def close(self) -> None:
        """Stop the loop and its thread."""
        loop, thread, self._loop = self._loop, self._thread, None
        if loop is not None and thread is not None and self._pid == forks.pid:

            async def stop() -> None:
                tasks = asyncio.all_tasks() - {asyncio.current_task()}
                for task in tasks:
                    task.cancel()  # whoever waits on it in another thread is told
                if tasks:
                    await asyncio.wait(tasks, timeout=_CLOSING)
                loop.stop()

            asyncio.run_coroutine_threadsafe(stop(), loop)
            thread.join(5)
            loop.close()


class SyncGrant:
    """A `Grant` for threads.

    A thread cannot be cancelled from outside: call `ensure_held` before each write.
    """

    def __init__(self, grant: Grant) -> None:
        self._grant = grant
        self.conversation_id = grant.conversation_id
        self.number = grant.number
        self.fence = grant.fence

    @property
    def lost(self) -> bool:
        """Whether the turn has been lost."""
        try:
            self._grant.ensure_held()
        except LockLost:
            return True
        return False

    def ensure_held(self) -> None:
        """Raise LockLost unless the turn is still certainly ours."""
        self._grant.ensure_held()

    def __repr__(self) -> str:
        return f"<Sync{repr(self._grant)[1:]}"


class SyncLock:
    """What `SyncLockStore.lock` returns: `with` takes a ticket and waits for its turn."""

    def __init__(self, portal: Portal, lock: Lock) -> None:
        self._portal = portal
        self._lock = lock

    def queue(self) -> int:
        """Take the ticket without waiting for the turn, and return its number."""
        return self._portal.call(self._lock.queue())

    def __enter__(self) -> SyncGrant:
        self._lock._check_unused()
        try:
            grant = self._lock._grant = self._portal.run(self._lock._begin)
            return SyncGrant(grant)
        except BaseException:
            # Also when the turn came in the moment of the interrupt.
            self._portal.post(self._lock.withdraw)
            raise

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        grant = self._lock._grant
        assert grant is not None  # __enter__ has run
        try:
            self._portal.run(lambda: self._lock._end(grant), finish=True)
        except BaseException:
            self._portal.post(self._lock.withdraw)  # an interrupt before the release was sent
            raise
        grant.tell_lost(error)


class SyncOptionalLock(SyncLock):
    """What `SyncLockStore.try_lock` returns: enters with None when the lock is not free."""

    _entered = False

    def __enter__(self) -> SyncGrant | None:  # type: ignore[override]  # that is its point
        try:
            grant = super().__enter__()
        except LockTimeout:
            return None
        self._entered = True
        return grant

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._entered:
            super().__exit__(exc_type, error, traceback)


class SyncLockStore:
    """Any lock store, for threads; made by `store.sync()`. Safe to share between threads.

    The store itself then belongs to the portal's loop: use one or the other.
    """

    def __init__(self, store: LockStore) -> None:
        self.store = store
        self._portal = Portal()

    def lock(self, conversation_id: str, *args: Any, **options: Any) -> SyncLock:
        """`with store.lock("id") as grant:`; parameters as for `LockStore.lock`."""
        return SyncLock(self._portal, self.store.lock(conversation_id, *args, **options))

    def try_lock(self, conversation_id: str, *args: Any, **options: Any) -> SyncOptionalLock:
        """`with store.try_lock("id") as grant:`; None when the lock is not free."""
        lock = self.store.try_lock(conversation_id, *args, **options)
        return SyncOptionalLock(self._portal, lock)

    def position(self, conversation_id: str, ticket_number: int) -> int | None:
        return self._portal.call(self.store.position(conversation_id, ticket_number))

    def inspect(self, conversation_id: str, limit: int = 100) -> Inspection:
        return self._portal.call(self.store.inspect(conversation_id, limit))

    def break_lock(self, conversation_id: str, fence: int | None = None) -> bool:
        return self._portal.call(self.store.break_lock(conversation_id, fence))

    def get_lock(self, conversation_id: str) -> TicketLock | None:
        lock: TicketLock | None = self._portal.call(_awaited(self.store.get_lock, conversation_id))
        return lock

    def save_lock(self, lock: TicketLock) -> None:
        self._portal.call(_awaited(self.store.save_lock, lock))

    def delete_lock(self, conversation_id: str) -> None:
        self._portal.call(_awaited(self.store.delete_lock, conversation_id))

    def issue_ticket(self, conversation_id: str, lock_lifetime: float | None = None) -> int:
        return self._portal.call(self.store.issue_ticket(conversation_id, lock_lifetime))

    def finish_serving(self, conversation_id: str, ticket_number: int) -> None:
        self._portal.call(self.store.finish_serving(conversation_id, ticket_number))

    def is_someone_waiting(self, conversation_id: str) -> bool:
        return self._portal.call(self.store.is_someone_waiting(conversation_id))

    def cleanup(self, conversation_id: str, ticket_number: int) -> None:
        self._portal.call(self.store.cleanup(conversation_id, ticket_number))

    def close(self) -> None:
        """Close the store and the thread."""
        self._portal.call(self.store.close())
        self._portal.close()

    def __enter__(self) -> SyncLockStore:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


async def _awaited(method: Any, argument: Any) -> Any:
    """Call a method of a custom store, plain or asynchronous, on the portal's loop."""
    value = method(argument)
    return await value if asyncio.iscoroutine(value) else value
