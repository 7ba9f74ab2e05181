"""`LockStore`: the interface of every lock store, built-in or custom."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TypeVar

from ..aio.portal import Portal
from ..checks import check_conversation_id, check_count, check_label, check_seconds
from ..errors import ConfigurationError
from ..imports import registry
from ..observers import BaseObserver, Observers
from ..process import clock
from .documents import Polling
from .grant import Grant
from .incoming import WINDOW, Incoming
from .lock import Lock, OptionalLock
from .sync import SyncLockStore
from .tickets import TicketLock
from .waiter import Waiter

T = TypeVar("T")

#: Seconds a served ticket lives at most, when neither the call nor the environment says.
DEFAULT_LOCK_LIFETIME = 60.0
LIFETIME_VARIABLE = "TICKET_LOCK_LIFETIME"

#: Conversations of which a process remembers the mark of the last turn.
_MARKS = 10_000


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


class LockStore(Polling):
    """Issues tickets for conversations and serves them first in, first out.

    A custom store subclasses it and implements `get_lock`, `save_lock` and `delete_lock`,
    plain or async; `polling.py` makes the rest of them.

    Args:
        endpoint_config: the `lock_store` section, given to a custom store by its factory.
        max_waiting: how many tickets may wait for one conversation; None: any number.
    """

    _lock_type: type[Lock]
    _optional_type: type[OptionalLock]

    #: Whether tickets know the messages they are for; see `Incoming`.
    keeps_messages = False

    def __init__(self, endpoint_config: Any = None, *, max_waiting: int | None = None) -> None:
        super().__init__(default_lock_lifetime())
        if max_waiting is not None:
            max_waiting = check_count("max_waiting", max_waiting)
        self.max_waiting = max_waiting
        #: conversation -> the lock in whose turn this process is.
        self._inside: dict[str, Lock] = {}
        self._most_inside = 1000
        #: Of its threaded twins.
        self._portal: Portal | None = None
        self.observers = Observers()
        self._lock_type, self._optional_type = Lock, OptionalLock
        #: conversation -> the mark of its last turn in this process; the oldest are forgotten.
        self._marks: dict[str, str] = {}

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
            label: a text that `inspect` shows; of an `incoming` message its id.
            incoming: the message the ticket is for; see `Incoming`. Stores of which
                `keeps_messages` is false take no notice of it but for the label.

        Raises (at once): InvalidConversationId, ValueError for any other argument.
            On entering: LockTimeout, QueueFull, LockStoreConnectionError, DuplicateMessage;
            AlreadyHeld, if the task that enters has the turn itself. On leaving: LockLost, if the turn was
            lost; the task that entered has then been cancelled, see `Grant.bind`.
        """
        return self._lock_type(
            self,
            self._waiter(
                conversation_id, lock_lifetime, wait_timeout, max_waiting, label,
                wait_time_in_seconds, incoming,
            ),
        )  # fmt: skip

    def try_lock(
        self, conversation_id: str, lock_lifetime: float | None = None, *, label: str | None = None
    ) -> OptionalLock:
        """Like `lock`, without waiting: the grant is None when the lock is not free."""
        waiter = self._waiter(conversation_id, lock_lifetime, 0, None, label, 1.0)
        return self._optional_type(self, waiter)

    def observe(self, observer: BaseObserver) -> None:
        """Call an observer's methods for all turns from now on. See `Observer`."""
        self.observers.add(observer)
        if self.observers.of_turns:
            from .observed import ObservedLock, ObservedOptionalLock

            self._lock_type, self._optional_type = ObservedLock, ObservedOptionalLock

    def _leave_mark(self, grant: Grant, mark: str, found: Callable[[str], object]) -> None:
        """Leave a text for the conversation's next turn, and give `found` that of the last one.

        It does not wait and does not fail. Here, between the turns of one process.
        """
        last = self._marks.pop(grant.conversation_id, None)
        if len(self._marks) >= _MARKS:
            del self._marks[next(iter(self._marks))]
        self._marks[grant.conversation_id] = mark
        if last is not None:
            found(last)

    def _waiter(
        self,
        conversation_id: str,
        lock_lifetime: float | None,
        wait_timeout: float | None,
        max_waiting: int | None,
        label: str | None,
        poll: float,
        incoming: Incoming | None = None,
    ) -> Waiter:
        lifetime = self.lock_lifetime
        if lock_lifetime is not None:
            lifetime = check_seconds("lock_lifetime", lock_lifetime, above=True)
        if poll != 1.0:
            poll = check_seconds("wait_time_in_seconds", poll)
        if wait_timeout is not None:
            wait_timeout = check_seconds("wait_timeout", wait_timeout)
        if label is not None:
            check_label(label)
        if incoming is not None:
            if not isinstance(incoming, Incoming):
                raise ValueError(  # as all others
                    f"incoming must be an Incoming(message_id), not {incoming!r:.80}"
                )
            label = incoming.message_id
        if max_waiting is None:
            max_waiting = self.max_waiting
        else:
            max_waiting = check_count("max_waiting", max_waiting)
        check_conversation_id(conversation_id)
        return Waiter(conversation_id, lifetime, wait_timeout, max_waiting, label, poll, incoming)

    def _enters(self, lock: Lock) -> None:
        """A lock has its turn: see `Lock._check_not_inside`."""
        inside = self._inside
        inside[lock._waiter.conversation_id] = lock
        if len(inside) > self._most_inside:  # some were acquired and never released
            now = clock()
            self._inside = {
                name: other
                for name, other in self._inside.items()
                if other._grant is not None and other._grant.expires > now
            }
            self._most_inside = max(1000, 2 * len(self._inside))

    async def collect(self, grant: Grant, most: int = 100) -> list[tuple[str, str]]:
        """Take the messages that wait right behind a turn into it: (message id, text) of each.

        It ends before the first one that needs its own turn. The turn owes each a reply, see
        `answer`; should it end without, they come back at their old places.
        """
        return []

    def answer(self, grant: Grant, replies: Mapping[str, str], window: float = WINDOW) -> None:
        """Keep the turn's replies by message id, for duplicates; call it before the turn ends.

        It does not wait and does not fail: a duplicate of a message without a reply, or with
        one of more than 64 KiB, is given a turn.
        """

    def sync(self) -> SyncLockStore:
        """The same store for threads: `with store.sync().lock("id") as grant:`."""
        return SyncLockStore(self)

    async def __aenter__(self: T) -> T:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    # -- making one ---------------------------------------------------------------------

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
