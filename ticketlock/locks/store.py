"""`LockStore`: the documented methods of every lock store, built-in or custom."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, TypeVar

from ..aio.portal import Portal
from ..aio.running import result
from ..checks import check_conversation_id, check_count, check_floor, check_number, check_seconds
from ..errors import ConfigurationError
from ..imports import registry
from ..observers import BaseObserver
from .documents import LEASE, CustomQueue
from .grant import Grant
from .incoming import WINDOW, Incoming
from .inspection import Inspection
from .lock import Lock, OptionalLock
from .queue import TurnQueue
from .sync import SyncGrant, SyncLock, SyncOptionalLock
from .tickets import TicketLock
from .waiter import Waiter, checked

T = TypeVar("T")

#: Seconds a served ticket lives at most, when neither the call nor the environment says.
DEFAULT_LOCK_LIFETIME = 60.0
LIFETIME_VARIABLE = "TICKET_LOCK_LIFETIME"


def default_lock_lifetime() -> float:
    """Seconds of `TICKET_LOCK_LIFETIME`; 60 when it is unset, empty or 0."""
    text = os.environ.get(LIFETIME_VARIABLE, "")
    try:
        lifetime = float(text or 0)
    except ValueError:
        lifetime = -1.0
    if not 0 <= lifetime < float("inf"):
        raise ConfigurationError(
            f"environment variable {LIFETIME_VARIABLE}: {text!r} is not a number of seconds"
        )
    return lifetime or DEFAULT_LOCK_LIFETIME


class LockStore:
    """Issues tickets for conversations and serves them first in, first out.

    A custom store subclasses it and implements `get_lock`, `save_lock` and `delete_lock`,
    plain or async; the rest is made of these. See `documents.py`.

    Args:
        endpoint_config: the `lock_store` section, given to a custom store by its factory.
        max_waiting: most tickets that may wait for one conversation; None: any number.
    """

    #: Whether tickets know the messages they are for; see `Incoming`.
    keeps_messages = False

    #: Seconds that a ticket in a document lives without being renewed.
    lease: float = LEASE

    def __init__(self, endpoint_config: Any = None, *, max_waiting: int | None = None) -> None:
        self.lock_lifetime = default_lock_lifetime()
        if max_waiting is not None:
            max_waiting = check_count("max_waiting", max_waiting)
        self.max_waiting = max_waiting
        self._turn_queue = self._make_queue()
        self.observers = self._turn_queue.observers
        self._lock_type: type[Lock] = Lock
        self._optional_type: type[OptionalLock] = OptionalLock
        #: Of its threaded twins.
        self._portal: Portal | None = None

    @property
    def turn_queue(self) -> TurnQueue:
        """Where its tickets wait and turns begin."""
        return self._turn_queue

    def make_lock(self, turns: TurnQueue, waiter: Waiter) -> Lock:
        """A lock of this store's kind, observed or not, over another queue."""
        return self._lock_type(turns, waiter)

    def _make_queue(self) -> TurnQueue:
        """Where tickets wait: in the documents of the three methods."""
        return CustomQueue(self)

    # -- using it ----------------------------------------------------------------------

    def lock(
        self,
        conversation_id: str,
        lock_lifetime: float | None = None,
        wait_time_in_seconds: float = 1.0,
        *,
        wait_timeout: float | None = None,
        max_waiting: int | None = None,
        label: str | None = None,
        incoming: Incoming | None = None,
    ) -> Lock:
        """`async with store.lock("id") as grant:` one turn of a conversation.

        Args:
            lock_lifetime: seconds the turn may last, counted from the grant: waiting does
                not count. Default `TICKET_LOCK_LIFETIME` or 60.
            wait_time_in_seconds: longest pause between two polls of a store that polls;
                other stores ignore it.
            wait_timeout: seconds to wait for the turn; None: as long as it takes;
                0: do not queue at all.
            max_waiting: how many tickets may wait already; default: the store's.
            label: a text that `inspect` shows; for an `incoming` message it is the id.
            incoming: the message the ticket is for; see `Incoming`. Stores whose `keeps_messages`
                is False use only the id, as the label.

        Raises (at once): InvalidConversationId, ValueError for any other argument.
            On entering: LockTimeout, QueueFull, LockStoreConnectionError, DuplicateMessage;
            AlreadyHeld, if the task that enters already has the turn. On leaving: LockLost, if the turn
            was lost; the task that entered has been cancelled by then, see `Grant.bind`.
        """
        waiter = checked(
            conversation_id,
            self.lock_lifetime if lock_lifetime is None else lock_lifetime,
            wait_timeout,
            self.max_waiting if max_waiting is None else max_waiting,
            label,
            wait_time_in_seconds,
            incoming,
        )
        return self._lock_type(self._turn_queue, waiter)

    def try_lock(
        self, conversation_id: str, lock_lifetime: float | None = None, *, label: str | None = None
    ) -> OptionalLock:
        """Like `lock`, without waiting: the grant is None when the lock is not free."""
        lifetime = self.lock_lifetime if lock_lifetime is None else lock_lifetime
        waiter = checked(conversation_id, lifetime, 0, None, label)
        return self._optional_type(self._turn_queue, waiter)

    def observe(self, observer: BaseObserver) -> None:
        """Call an observer's methods for all turns from now on. See `Observer`."""
        self.observers.add(observer)
        if self.observers.of_turns:
            from .observed import ObservedLock, ObservedOptionalLock  # only where there is one

            self._lock_type, self._optional_type = ObservedLock, ObservedOptionalLock

    async def collect(self, grant: Grant, most: int = 100) -> list[tuple[str, str]]:
        """Take the messages that wait right behind a turn into it: (message id, text) of each.

        It stops at the first one that needs its own turn. The turn must `answer` each of them; those
        without an answer are back in their old places when it ends.
        """
        return await self._turn_queue.collect(grant, check_count("most", most, 1))

    def answer(self, grant: Grant, replies: Mapping[str, str], window: float = WINDOW) -> None:
        """Keep the turn's replies by message id, for duplicates; call it before the turn ends.

        It does not wait and does not fail. If there is no reply, or one of more than 64 KiB, a
        duplicate gets a turn.
        """
        self._turn_queue.answer(grant, replies, check_seconds("window", window, above=True))

    async def raise_fence(self, grant: Grant, floor: int) -> None:
        """Give a turn that is held a fence above `floor`, the highest that its tracker store has seen.

        This is needed when the lock store has lost its data and its clock is behind. Raises
        LockLost if the turn is no longer held.
        """
        grant.ensure_held()
        await self._turn_queue.raise_fence(grant, check_floor(grant.conversation_id, floor))
        grant.ensure_held()

    # -- looking and breaking -----------------------------------------------------------------

    async def position(self, conversation_id: str, ticket_number: int) -> int | None:
        """How many turns come before this ticket's; 0: it is being served; None: not there."""
        number = check_number("ticket_number", ticket_number)
        return await self._turn_queue.position(check_conversation_id(conversation_id), number)

    async def inspect(self, conversation_id: str, limit: int = 100) -> Inspection:
        """Who holds the conversation and who waits, without changing anything.

        Args:
            limit: most waiting tickets that are listed.
        """
        limit = check_count("limit", limit)
        return await self._turn_queue.inspect(check_conversation_id(conversation_id), limit)

    async def break_lock(self, conversation_id: str, fence: int | None = None) -> bool:
        """End the turn that holds the conversation; its process gets LockLost.

        Args:
            fence: break only the turn with this fence.

        Returns: whether a turn was ended.
        """
        if fence is not None:
            fence = check_number("fence", fence)
        return await self._turn_queue.break_turn(check_conversation_id(conversation_id), fence)

    # -- the documented interface: a custom store implements the first three ---------------

    def get_lock(self, conversation_id: str) -> Any:
        """The stored TicketLock or None; a custom store implements it, plain or async."""
        raise NotImplementedError(f"{type(self).__name__} must implement get_lock")

    def save_lock(self, lock: TicketLock) -> Any:
        """Store a TicketLock; a custom store implements it, plain or async."""
        raise NotImplementedError(f"{type(self).__name__} must implement save_lock")

    def delete_lock(self, conversation_id: str) -> Any:
        """Remove the lock; a custom store implements it, plain or async."""
        raise NotImplementedError(f"{type(self).__name__} must implement delete_lock")

    async def get_or_create_lock(self, conversation_id: str) -> TicketLock:
        """The stored lock, or a new one that is not saved."""
        lock = await result(self.get_lock(check_conversation_id(conversation_id)))
        return lock if isinstance(lock, TicketLock) else TicketLock(conversation_id)

    async def _queue_missing(self, lock: TicketLock) -> None:
        """Queue a lock's tickets that are not there yet, each for the rest of its life."""
        known = await self.get_or_create_lock(lock.conversation_id)
        there = {ticket.number for ticket in known.tickets}
        for ticket in lock.tickets:
            lifetime = ticket.expires - time.time()
            if ticket.number not in there and lifetime > 0:
                await self._turn_queue.issue_bare(lock.conversation_id, lifetime, ticket.number)

    async def issue_ticket(self, conversation_id: str, lock_lifetime: float | None = None) -> int:
        """Issue a ticket that lives `lock_lifetime` seconds from now, and return its number.

        The low-level interface: the ticket is not renewed. Raises LockError.
        """
        lifetime = self.lock_lifetime if lock_lifetime is None else lock_lifetime
        lifetime = check_seconds("lock_lifetime", lifetime, above=True)
        return await self._turn_queue.issue_bare(check_conversation_id(conversation_id), lifetime)

    async def update_lock(self, conversation_id: str) -> None:
        """Store the lock without its expired tickets, which count for nothing anyway."""
        await self._turn_queue.drop_expired(check_conversation_id(conversation_id))

    async def finish_serving(self, conversation_id: str, ticket_number: int) -> None:
        """Remove a ticket; the next one is served."""
        number = check_number("ticket_number", ticket_number)
        await self._turn_queue.finish(check_conversation_id(conversation_id), number)

    async def is_someone_waiting(self, conversation_id: str) -> bool:
        """Whether a valid ticket waits behind the one being served."""
        state = await self.inspect(conversation_id)
        return any(waiting.alive for waiting in state.waiting)

    async def cleanup(self, conversation_id: str, ticket_number: int) -> None:
        """Finish a ticket, and remove the lock if that was the last one."""
        await self.finish_serving(conversation_id, ticket_number)

    # -- its life -----------------------------------------------------------------------

    def sync(self) -> SyncLockStore:
        """The same store for threads: `with store.sync().lock("id") as grant:`."""
        return SyncLockStore(self)

    def shared_portal(self) -> Portal:
        """The event loop of its threaded twins, one for all of them."""
        self._portal = self._portal or Portal(self)
        return self._portal

    async def close(self) -> None:
        """Give tickets back, end the turns and their bodies, and close connections."""
        await self._turn_queue.close()

    async def __aenter__(self: T) -> T:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @staticmethod
    def create(obj: Any = None) -> LockStore:
        """A store from a `lock_store` section; a store passes through, None is in-memory.

        Raises ConfigurationError; never falls back to another store.
        """
        created: LockStore = registry().create_lock_store(obj)
        return created

    @staticmethod
    def create_lock(conversation_id: str) -> TicketLock:
        """A new, empty lock; it is not saved."""
        return TicketLock(check_conversation_id(conversation_id))


class SyncLockStore:
    """Any lock store, for threads; made by `store.sync()`. Safe to share between threads.

    The store itself then belongs to the portal's loop: use one or the other. All twins of a
    store are one: closing one of them closes all. Dropped with its store, or at the end of the
    interpreter, it is closed by itself.
    """

    def __init__(self, store: LockStore) -> None:
        self.store = store
        self._portal = store.shared_portal()

    def lock(self, conversation_id: str, *args: Any, **options: Any) -> SyncLock:
        """`with store.lock("id") as grant:`; parameters as for `LockStore.lock`."""
        lock = self.store.lock(conversation_id, *args, **options)
        return SyncLock(self.store, self._portal, lock)

    def try_lock(self, conversation_id: str, *args: Any, **options: Any) -> SyncOptionalLock:
        """`with store.try_lock("id") as grant:`; None when the lock is not free."""
        lock = self.store.try_lock(conversation_id, *args, **options)
        return SyncOptionalLock(self.store, self._portal, lock)

    def collect(self, grant: SyncGrant, most: int = 100) -> list[tuple[str, str]]:
        """Take the messages that wait behind a turn into it; see `LockStore.collect`."""
        return self._portal.run(lambda: self.store.collect(grant.grant, most))

    def answer(self, grant: SyncGrant, replies: Mapping[str, str], window: float = WINDOW) -> None:
        """Keep the turn's replies for duplicates; see `LockStore.answer`."""

        async def answer() -> None:
            self.store.answer(grant.grant, replies, window)

        self._portal.run(answer)

    def raise_fence(self, grant: SyncGrant, floor: int) -> None:
        """Give the turn a fence above `floor`; see `LockStore.raise_fence`."""
        self._portal.run(lambda: self.store.raise_fence(grant.grant, floor))
        grant.fence = grant.grant.fence

    def position(self, conversation_id: str, ticket_number: int) -> int | None:
        """How many turns come before this ticket's; 0: it is being served; None: not there."""
        return self._portal.run(lambda: self.store.position(conversation_id, ticket_number))

    def inspect(self, conversation_id: str, limit: int = 100) -> Inspection:
        """Who holds the conversation and who waits; see `LockStore.inspect`."""
        return self._portal.run(lambda: self.store.inspect(conversation_id, limit))

    def break_lock(self, conversation_id: str, fence: int | None = None) -> bool:
        """End the turn that holds the conversation; see `LockStore.break_lock`."""
        return self._portal.run(lambda: self.store.break_lock(conversation_id, fence))

    def get_or_create_lock(self, conversation_id: str) -> TicketLock:
        """The stored lock, or a new one that is not saved."""
        return self._portal.run(lambda: self.store.get_or_create_lock(conversation_id))

    def get_lock(self, conversation_id: str) -> TicketLock | None:
        """The stored lock; None when there is none."""
        lock: TicketLock | None = self._portal.run(
            lambda: _result(self.store.get_lock, conversation_id)
        )
        return lock

    def save_lock(self, lock: TicketLock) -> None:
        """Replace the stored lock."""
        self._portal.run(lambda: _result(self.store.save_lock, lock))

    def delete_lock(self, conversation_id: str) -> None:
        """Remove the stored lock."""
        self._portal.run(lambda: _result(self.store.delete_lock, conversation_id))

    def issue_ticket(self, conversation_id: str, lock_lifetime: float | None = None) -> int:
        """Issue a ticket and return its number; see `LockStore.issue_ticket`."""
        return self._portal.run(lambda: self.store.issue_ticket(conversation_id, lock_lifetime))

    def update_lock(self, conversation_id: str) -> None:
        """Store the lock without its expired tickets."""
        self._portal.run(lambda: self.store.update_lock(conversation_id))

    def finish_serving(self, conversation_id: str, ticket_number: int) -> None:
        """Remove a ticket; the next one is served."""
        self._portal.run(lambda: self.store.finish_serving(conversation_id, ticket_number))

    def is_someone_waiting(self, conversation_id: str) -> bool:
        """Whether a valid ticket waits behind the one being served."""
        return self._portal.run(lambda: self.store.is_someone_waiting(conversation_id))

    def cleanup(self, conversation_id: str, ticket_number: int) -> None:
        """Finish a ticket, and remove the lock if that was the last one."""
        self._portal.run(lambda: self.store.cleanup(conversation_id, ticket_number))

    def observe(self, observer: BaseObserver) -> None:
        """Call an observer's methods for all turns from now on, in another thread."""
        self.store.observe(observer)

    def close(self) -> None:
        """Close the store and the thread. Nothing happens if it is not in use."""
        self._portal.close(self.store.close)

    def __enter__(self) -> SyncLockStore:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.close()


async def _result(method: Any, argument: Any) -> Any:
    """Call a method of a custom store, plain or asynchronous, on the portal's loop."""
    return await result(method(argument))
