"""Commands, how they share calls, and how each gets its own answer.

A script call costs the server some microseconds before it does anything. So the acquires and
releases of one loop tick share calls; each keeps its own future and deadline.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import hiredis

from .. import process
from ..errors import LockStoreConnectionError
from ..process import clock

log = logging.getLogger("ticketlock")

#: Most commands in one call: they share its cost, and no call blocks the server for long.
MAX_JOINED = 32

#: Errors of a server that may serve us soon, or whose replica or cluster can.
TRANSIENT = (
    "READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "UNBLOCKED", "BUSY", "NOREPLICAS",
)  # fmt: skip

#: Seconds for which a lasting command is still sent after its caller has given up.
LASTING = 60.0


class Unanswered(TimeoutError):
    """There was no answer to a command within so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no answer within {round(seconds, 2):g} s")


class Command:
    """A command that is to be sent, or was sent and awaits its answer.

    Attributes:
        packed: its bytes; None if it is packed with others when it is sent.
        future: resolved with the answer.
        expires: moment of `clock()` at which it fails for its caller.
        until: moment up to which it is still sent; later than `expires` for a release or a
            withdrawal, which does no harm when late but does when never sent.
        sent_at: moment of `clock()` just before it was last written; 0 before that.
        repeated: True once it was sent again after a connection broke.
        callback: called with the command and its answer or error as soon as that comes, even
            if the caller was cancelled; returns whether the future gets the answer too.
        subject: the waiter or the grant that it is for; calls that are shared are made of these.
        prologue: whether it prepares one connection, and is not repeated on the next.
        slot: its slot in a Redis Cluster; -1 if it has none.
        moves: how often a node has named another one as the owner of its slot.
        narrow: makes its bytes with one key only, which a slot that is moving always serves.
        limit: seconds after which it fails for its caller; None: those of its link.
    """

    __slots__ = (
        "_reported", "callback", "expires", "future", "limit", "moves", "narrow", "over", "packed",
        "prologue", "repeated", "sent_at", "slot", "subject", "until",
    )  # fmt: skip

    def __init__(
        self,
        packed: bytes | None,
        future: asyncio.Future[Any],
        expires: float,
        callback: Callback | None = None,
        subject: Any = None,
        until: float = 0.0,
        limit: float | None = None,
    ) -> None:
        self.packed = packed
        self.future = future
        self.expires = expires
        self.until = max(until, expires)
        self.limit = limit
        self.sent_at = 0.0
        self.repeated = False
        self.callback = callback
        self.subject = subject
        self.prologue = False
        self.slot = -1
        self.moves = 0
        self.narrow: Callable[[Command], bytes] | None = None
        self.over = False
        self._reported = False

    @property
    def owed(self) -> bool:
        """Whether it is still to be sent, or sent again if its connection breaks."""
        if self.over or self.prologue:
            return False
        # The server may have run what was cancelled: its withdrawal must come after it.
        return self.until > self.expires or not self.future.done() or self.future.cancelled()

    @property
    def unneeded(self) -> bool:
        """Whether its caller has given up before it was sent."""
        return not self.sent_at and self.future.done() and self.until == self.expires

    @property
    def due(self) -> float:
        """The moment at which to act if there is no answer: fail it, or stop sending it."""
        return self.until if self._reported else self.expires

    def resolve(self, answer: Any) -> None:
        """Pass the answer to the callback and the future."""
        self.over = True
        wanted = self.callback is None or self.callback(self, answer)
        if wanted and not self.future.done():
            self.future.set_result(answer)

    def fail(self, error: BaseException) -> None:
        """Give the command up, and report the error."""
        self.over = True
        self.report(error)

    def report(self, error: BaseException) -> None:
        """Pass an error to the callback and the future, once; it may still be sent."""
        if self._reported:
            return
        self._reported = True
        if self.prologue:
            self.future.cancel()  # it has no caller
        elif (self.callback is None or self.callback(self, error)) and not self.future.done():
            self.future.set_exception(error)


Callback = Callable[[Command, Any], bool]


class BaseLink:
    """The common part of links: makes commands and hands them on to be sent.

    Args:
        timeout: seconds a command may take, waiting for a connection included.
    """

    #: Whether there are sharded channels: those of one slot, which a cluster does not repeat.
    sharded = False

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._closed = False
        process.tell_of_forks(self)

    def forked(self) -> None:
        """Send nothing from a child, and end nothing: the parent would take the answers for those
        to its own commands."""
        self._closed = True
        process.leave_to_parent(self)

    def submit(
        self,
        args: tuple[Any, ...],
        timeout: float | None = None,
        callback: Callback | None = None,
        subject: Any = None,
        lasting: bool = False,
    ) -> Command:
        """Send a command as soon as possible; its future has the answer.

        Args:
            timeout: seconds after which the command fails and is not repeated.
            callback, subject: see `Command`.
            lasting: keep trying to send it for a minute after it has failed for its caller.
        """
        future, expires = self._loop.create_future(), self._expires(timeout)
        until = expires + LASTING if lasting else expires
        packed = hiredis.pack_command(args)
        command = Command(packed, future, expires, callback, subject, until, timeout)
        self._dispatch(command, args)
        return command

    def reaches(self, key: str) -> bool:
        """Whether what is asked of a key may be answered soon; only in a cluster it may not."""
        return True

    def tag_near(self, conversation_id: str) -> str:
        """The hash tag of our sharded channel on the node that has a conversation; "" if there is
        none."""
        return ""

    def listen(self, channel: str) -> None:
        """In a cluster: listen to a sharded channel that other processes know, unless we do.

        To be called again and again: with its slot, it goes to another node.
        """

    async def call(self, args: tuple[Any, ...]) -> Any:
        """Send a command and return its answer."""
        return await self.submit(args).future

    def _expires(self, timeout: float | None) -> float:
        if self._closed:
            raise LockStoreConnectionError("the lock store has been closed")
        if timeout is None or timeout > self._timeout:
            timeout = self._timeout
        return clock() + timeout

    def _dispatch(self, command: Command, args: tuple[Any, ...]) -> None:
        raise NotImplementedError


class InTransit:
    """Commands that were written and are not answered, in the order of their answers.

    Args:
        packed: makes the bytes of one call for some subjects; for several its answer is a list.
    """

    def __init__(self, packed: Callable[[Sequence[Any]], bytes] | None) -> None:
        self._packed = packed
        self._calls: deque[list[Command]] = deque()

    def __bool__(self) -> bool:
        return bool(self._calls)

    def __iter__(self) -> Iterator[Command]:
        for call in self._calls:
            yield from call

    @property
    def oldest(self) -> Command | None:
        """The command whose answer is next."""
        return self._calls[0][0] if self._calls else None

    def add(self, command: Command) -> None:
        """Add a command that is written in a call of its own."""
        self._calls.append([command])

    def recall(self, wanted: Callable[[Command], bool], heed: bool = False) -> list[Command]:
        """Take commands back that are to be sent again.

        Args:
            heed: an answer that still comes ends a command that can share calls. Otherwise, and
                where others of its conversation may have to come before it, it is dropped.
        """
        recalled: list[Command] = []
        for call in self._calls:
            for i, command in enumerate(call):
                if command.owed and wanted(command):
                    recalled.append(command)
                    command.repeated = True
                    call[i] = _Recalled(command, heed and command.packed is None)
        return recalled

    def pack(self, unsent: deque[Command], now: float) -> bytes:
        """Take over unsent commands; returns the bytes to write for them."""
        chunks: list[bytes] = []
        while unsent:
            packed = unsent[0].packed
            if unsent[0].unneeded or unsent[0].over:
                unsent.popleft()
                continue
            if packed is not None:
                call = [unsent.popleft()]
            else:
                call, packed = self._join(unsent)
            for command in call:
                command.sent_at = now
            self._calls.append(call)
            chunks.append(packed)
        return b"".join(chunks)

    def _join(self, unsent: deque[Command]) -> tuple[list[Command], bytes]:
        call = [unsent.popleft()]
        slot = call[0].slot
        while unsent and len(call) < MAX_JOINED:
            command = unsent[0]
            if command.slot != slot or command.packed is not None:
                break
            unsent.popleft()
            if not command.unneeded and not command.over:
                call.append(command)
        assert self._packed is not None  # given to links on which `join` is called
        return call, self._packed([command.subject for command in call])

    def separate(self, command: Command) -> None:
        """Let a command share no call when it is sent again."""
        if command.packed is None:
            assert self._packed is not None  # as in `_join`
            command.packed = self._packed([command.subject])

    def take(self) -> Command:
        """Take out the command whose answer is next; it was in a call of its own."""
        (command,) = self._calls.popleft()
        return command

    def resolve(self, answer: Any) -> list[tuple[Command, Exception]]:
        """Give an answer to its commands; returns those that failed."""
        failed: list[tuple[Command, Exception]] = []
        call = self._calls.popleft()
        if len(call) == 1 and not isinstance(answer, hiredis.ReplyError):
            call[0].resolve(answer)
            return failed
        if len(call) == 1 or isinstance(answer, hiredis.ReplyError):
            answer = [answer] * len(call)
        for command, own in zip(call, answer, strict=True):
            if isinstance(own, hiredis.ReplyError) and not isinstance(command, _Recalled):
                failed.append((command, own))
            else:
                command.resolve(own)
        return failed

    def clear(self) -> None:
        """Forget them: their answers will not come."""
        self._calls.clear()


class _Recalled(Command):
    """Stands for the first sending of a command that is to be sent again."""

    __slots__ = ("_command", "_heed")

    def __init__(self, command: Command, heed: bool) -> None:
        super().__init__(None, command.future, command.expires)
        self.over, self.sent_at = True, command.sent_at
        self._command, self._heed = command, heed

    def resolve(self, answer: Any) -> None:
        # Once it was sent again that answer is its own: leases count from when it was sent.
        again = self._command.over or self._command.sent_at != self.sent_at
        if self._heed and not again and not isinstance(answer, hiredis.ReplyError):
            self._command.resolve(answer)

    def report(self, error: BaseException) -> None:
        """Report nothing: the command is not given up."""


def log_failure(future: asyncio.Future[Any]) -> None:
    """Log that a withdrawal without a caller has failed; the ticket expires instead."""
    if not future.cancelled() and (error := future.exception()) is not None:
        log.warning("a ticket could not be withdrawn and will expire by itself: %s", error)
