"""A ticket that is waited on, as the lock stores pass it around."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from urllib.parse import quote

from .. import process
from ..aio.running import before
from ..checks import check_conversation_id, check_count, check_label, check_seconds
from ..process import clock
from .grant import Grant
from .incoming import Incoming
from .own_ticket import OwnTicket


class Waiter:
    """A ticket that is waited on: what was asked for, and what has become of it so far.

    Attributes:
        number: the ticket number, -1 until it is issued.
        deadline: moment of `clock()` at which waiting ends; None: never.
        future: resolved with the Grant; made by event-driven stores.
        issued: resolved with the number, where `Lock.queue` waits for that alone.
        ahead: how many turns were before it when it was issued.
        incoming: the message that the ticket is for, if any.
        own: the ticket in a document, of a store that has documents.
        pid: the process that has taken the ticket, or is about to.
    """

    __slots__ = (
        "ahead", "conversation_id", "deadline", "future", "incoming", "issued", "label",
        "lock_lifetime", "max_waiting", "member", "number", "own", "pid", "poll", "request",
        "started", "wait_timeout",
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
        self.pid = process.pid
        self.number = -1
        self.ahead = 0
        self.request = 0
        self.member = ""
        self.own: OwnTicket | None = None
        self.future: asyncio.Future[Grant] | None = None
        self.issued: asyncio.Future[int] | None = None

    @property
    def place(self) -> tuple[bool, int]:
        """The order of tickets; before their numbers are known, that in which they were sent for."""
        return (True, self.request) if self.number < 0 else (False, self.number)

    @property
    def suffix(self) -> str:
        """What a lock store writes behind the name of the ticket: its message's id, or its label."""
        if self.incoming is not None:
            return "." + self.incoming.field
        return "." + quote(self.label, safe="") if self.label else ""

    def tell_number(self) -> None:
        """Resolve `issued` with the ticket's number."""
        if self.issued is not None and not self.issued.done():
            self.issued.set_result(self.number)

    def give_up(self, error: Exception | None = None) -> None:
        """It gets no turn any more: those who wait for that, or for the number, wait no longer.

        Args:
            error: raised in them; default: a cancellation of the wait for the turn.
        """
        if self.issued is not None and not self.issued.done() and error is not None:
            self.issued.set_exception(error)
        self.tell_number()
        if self.future is None:
            return
        if not self.future.done():
            if error is None:
                self.future.cancel()
            else:
                self.future.set_exception(error)
        for future in (self.future, self.issued):
            if future is not None and not future.cancelled():
                future.exception()  # read, so that asyncio does not report an unread exception

    def start(self) -> None:
        """Waiting begins now, in this process: the lock may have been made before a fork."""
        self.pid = process.pid
        self.started = clock()
        self.deadline = None if self.wait_timeout is None else self.started + self.wait_timeout

    @property
    def has_turn(self) -> bool:
        """Whether its turn was granted by now, where the store says so by itself."""
        future = self.future
        return (
            future is not None and future.done()
            and not future.cancelled() and future.exception() is None
        )  # fmt: skip

    def wait(self) -> Awaitable[Grant]:
        """Await the future, up to the deadline. Raises asyncio.TimeoutError."""
        assert self.future is not None  # made when the ticket was issued
        return self.future if self.deadline is None else before(self.deadline, self.future)


def checked(
    conversation_id: str,
    lock_lifetime: float,
    wait_timeout: float | None,
    max_waiting: int | None,
    label: str | None,
    poll: float = 1.0,
    incoming: Incoming | None = None,
) -> Waiter:
    """A waiter of what a caller has passed to `LockStore.lock`.

    Raises InvalidConversationId, ValueError for any other argument.
    """
    lock_lifetime = check_seconds("lock_lifetime", lock_lifetime, above=True)
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
    if max_waiting is not None:
        max_waiting = check_count("max_waiting", max_waiting)
    conversation_id = check_conversation_id(conversation_id)
    return Waiter(conversation_id, lock_lifetime, wait_timeout, max_waiting, label, poll, incoming)
