"""One use of a lock: take a ticket, wait for the turn, hold it, leave."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from . import forks
from .errors import InvalidConversationId, LockError, LockTimeout
from .grant import Grant, clock

if TYPE_CHECKING:
    from .incoming import Incoming
    from .lock_store import LockStore

T = TypeVar("T")


def check_conversation_id(conversation_id: object) -> str:
    """Return the id; raise InvalidConversationId unless it is text that can be stored."""
    if not isinstance(conversation_id, str) or not conversation_id:
        raise InvalidConversationId(f"a conversation id is non-empty text, not {conversation_id!r}")
    try:
        conversation_id.isascii() or conversation_id.encode()
    except UnicodeEncodeError as error:
        raise InvalidConversationId(f"{conversation_id!r} is not valid Unicode: {error}") from None
    return conversation_id


def check_label(label: object) -> None:
    """Raise ValueError unless a label is text that can be stored."""
    if not isinstance(label, str):
        raise ValueError(f"a label is text, not {label!r}")  # noqa: TRY004  # as all others
    try:
        label.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"the label {label!r} is not valid Unicode: {error}") from None


class Waiter:
    """A ticket that somebody waits on, as the lock stores pass it around.

    Attributes:
        number: the ticket number, -1 until it is issued.
        deadline: moment of `clock()` at which waiting ends; None: never.
        future: resolved with the Grant; made by event-driven stores.
        issued: resolved with the number, where somebody waits for that alone.
        incoming: the message that the ticket is for, if any.
    """

    __slots__ = (
        "conversation_id", "deadline", "future", "incoming", "issued", "label", "lock_lifetime",
        "max_waiting", "member", "number", "pid", "poll", "request", "started", "wait_timeout",
    )  # fmt: skip

    def __init__(
        self,
        conversation_id: str,
        lock_lifetime: float,
        wait_timeout: float | None = None,
        max_waiting: int | None = None,
        label: str | None = None,
        poll: float = 1.0,
        incoming: Incoming | None = None,
    ) -> None:
        self.conversation_id = conversation_id
        self.lock_lifetime = lock_lifetime
        self.wait_timeout = wait_timeout
        self.max_waiting = max_waiting
        self.label = label
        self.poll = poll
        self.incoming = incoming
        self.started = 0.0
        self.deadline: float | None = None
        self.pid = forks.pid
        self.number = -1
        self.request = 0
        self.member = ""
        self.future: asyncio.Future[Grant] | None = None
        self.issued: asyncio.Future[int] | None = None

    def start(self) -> None:
        """Waiting begins now."""
        self.started = clock()
        self.deadline = None if self.wait_timeout is None else self.started + self.wait_timeout

    def wait(self) -> Awaitable[Grant]:
        """Await the future, up to the deadline. Raises asyncio.TimeoutError."""
        assert self.future is not None  # made when the ticket was issued
        return self.future if self.deadline is None else before(self.deadline, self.future)


async def before(deadline: float | None, future: asyncio.Future[T]) -> T:
    """Await a future up to a moment of `clock()`. Raises asyncio.TimeoutError."""
    if deadline is None or future.done():
        return await future

    def expire() -> None:
        if not future.done():
            future.set_exception(asyncio.TimeoutError())

    timer = asyncio.get_running_loop().call_later(max(0.0, deadline - clock()), expire)
    try:
        return await future
    finally:
        timer.cancel()


class Lock:
    """What `store.lock(...)` returns: an asynchronous context manager for one turn.

    `async with` takes a ticket and waits for its turn. `await lock.queue()` takes the
    ticket earlier, for instance to acknowledge a webhook once its place is certain.
    """

    __slots__ = ("_grant", "_spent", "_store", "_waiter")

    def __init__(self, store: LockStore, waiter: Waiter) -> None:
        self._store = store
        self._waiter = waiter
        self._grant: Grant | None = None
        self._spent = False

    async def queue(self) -> int:
        """Take the ticket without waiting for the turn, and return its number.

        The ticket keeps its place until the lock is entered or `withdraw` is called. 0: an
        `incoming` message needs none, another ticket has it.
        Raises QueueFull, LockStoreConnectionError.
        """
        if self._spent or self._waiter.number >= 0:
            raise LockError("this lock has its ticket already; a lock is for one turn")
        self._waiter.start()
        try:
            await self._store._issue(self._waiter)
        except BaseException:
            self.withdraw()
            raise
        return self._waiter.number

    def withdraw(self) -> None:
        """Give the ticket back without entering; the lock is of no use after that."""
        self._spent = True
        if self._waiter.pid == forks.pid:  # else it is the parent's, and not ours to give
            self._store._withdraw(self._waiter)

    async def acquire(self) -> Grant:
        """Wait for the turn; a caller that does not use `async with` must `release`."""
        return await self._take()

    async def _take(self, bind: bool = False) -> Grant:
        self._check_unused()
        try:
            grant = await self._begin()
        except BaseException:
            self.withdraw()
            raise
        self._grant = grant
        if bind:
            grant.bind()
        return grant

    def _check_unused(self) -> None:
        if self._spent or self._grant is not None:
            raise LockError("this lock has been entered already; a lock is for one turn")

    def _begin(self) -> Awaitable[Grant]:
        waiter = self._waiter
        if waiter.number >= 0:
            return self._store._granted(waiter)
        waiter.start()
        return self._store._enter(waiter)

    async def release(self) -> None:
        """End the turn. Raises LockLost if it had been lost before."""
        assert self._grant is not None  # acquire comes first
        await self._end(self._grant)
        self._grant.tell_lost()

    def _end(self, grant: Grant) -> Awaitable[None]:
        if grant.reason is None and clock() >= grant.deadline:
            grant.reason = grant.overdue()
        if self._waiter.pid == forks.pid:
            return self._store._release(grant)
        # The turn is the parent's, and not ours to end.
        grant.reason = "a forked child does not inherit the turn"
        return asyncio.sleep(0)

    def __aenter__(self) -> Awaitable[Grant]:
        return self._take(bind=True)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        grant = self._grant
        assert grant is not None  # __aenter__ has run
        ours = grant.unbind() and await grant.settle(error)
        await self._end(grant)
        grant.tell_lost(None if ours else error)


class OptionalLock(Lock):
    """What `store.try_lock(...)` returns: enters with None when the lock is not free."""

    __slots__ = ()

    async def __aenter__(self) -> Grant | None:  # type: ignore[override]  # that is its point
        try:
            return await self._take(bind=True)
        except LockTimeout:
            return None

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._grant is not None:
            await super().__aexit__(exc_type, error, traceback)
