"""Commands on their way: several of them in one call, and the answers given to whom they belong.

A call of a script costs the server some microseconds before it does anything. So acquires and
releases of one loop tick, the *parts*, share calls; each keeps its own future and deadline.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import hiredis

from ..errors import LockStoreConnectionError
from ..process import clock

log = logging.getLogger("ticketlock")

#: Parts in one call: what a call costs is shared, and none keeps the server for long.
MOST_JOINED = 32

#: Seconds for which a lasting command is still sent, though its caller waits no more.
LASTING = 60.0


class Command:
    """A command on its way.

    Attributes:
        packed: its bytes; None of a part, that is packed with others when it is sent.
        future: resolved with the answer.
        expires: moment of `clock()` at which the caller is told that it failed.
        until: moment up to which it is worth sending; later than `expires` of what ends or
            withdraws something: late is harmless, unsent is not.
        sent_at: moment of `clock()` just before it was last written; 0 before that.
        repeated: True once it was sent again after a connection broke.
        heard: called with the command and the answer, or error, as it comes, even if nobody
            awaits the future any more; tells whether the future is to have it too.
        subject: what it is about; a part's words are made of that.
        prologue: it belongs to one connection and is not repeated on the next.
        slot: of a Redis Cluster; -1 where there is none.
        narrow: makes its bytes with one key only, which a slot on the move always serves.
    """

    __slots__ = (
        "_told", "expires", "future", "heard", "narrow", "over", "packed", "prologue", "repeated",
        "sent_at", "slot", "subject", "until",
    )  # fmt: skip

    def __init__(
        self,
        packed: bytes | None,
        future: asyncio.Future[Any],
        expires: float,
        heard: Heard | None = None,
        subject: Any = None,
        until: float = 0.0,
    ) -> None:
        self.packed = packed
        self.future = future
        self.expires = expires
        self.until = max(until, expires)
        self.sent_at = 0.0
        self.repeated = False
        self.heard = heard
        self.subject = subject
        self.prologue = False
        self.slot = -1
        self.narrow: Callable[[Command], bytes] | None = None
        self.over = False
        self._told = False

    @property
    def owed(self) -> bool:
        """Whether it is to be sent, or sent again when its connection breaks."""
        if self.over or self.prologue:
            return False
        # Of what was cancelled the server may know: what undoes it comes behind it.
        return self.until > self.expires or not self.future.done() or self.future.cancelled()

    @property
    def needless(self) -> bool:
        """Whether nobody wants it any more, and the server never heard of it."""
        return not self.sent_at and self.future.done() and self.until == self.expires

    @property
    def due(self) -> float:
        """The next moment at which something is to be done about it without an answer."""
        return self.until if self._told else self.expires

    def hear(self, answer: Any) -> None:
        """Act on the answer, and tell whoever awaits it."""
        self.over = True
        wanted = self.heard is None or self.heard(self, answer)
        if wanted and not self.future.done():
            self.future.set_result(answer)

    def fail(self, error: BaseException) -> None:
        """Give the command up, and tell whoever awaits it that it failed."""
        self.over = True
        self.tell(error)

    def tell(self, error: BaseException) -> None:
        """Tell whoever awaits the command that it failed; it may still be sent."""
        if self._told:
            return
        self._told = True
        if self.prologue:
            self.future.cancel()  # nobody awaits it
        elif (self.heard is None or self.heard(self, error)) and not self.future.done():
            self.future.set_exception(error)


Heard = Callable[[Command, Any], bool]


class Sender:
    """What makes commands and sends them on their way.

    Args:
        timeout: seconds a command may take, waiting for a connection included.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._closed = False

    def submit(
        self,
        words: tuple[Any, ...],
        timeout: float | None = None,
        heard: Heard | None = None,
        subject: Any = None,
        lasting: bool = False,
    ) -> Command:
        """Send a command as soon as possible; its future has the answer.

        Args:
            timeout: seconds after which the command fails and is not repeated.
            heard, subject: see `Command`.
            lasting: it is sent within a minute even if it has failed for its caller by then.
        """
        future, expires = self._loop.create_future(), self._expires(timeout)
        until = expires + LASTING if lasting else expires
        command = Command(hiredis.pack_command(words), future, expires, heard, subject, until)
        self._dispatch(command, words)
        return command

    async def call(self, words: tuple[Any, ...]) -> Any:
        """Send a command and return its answer."""
        return await self.submit(words).future

    def _expires(self, timeout: float | None) -> float:
        if self._closed:
            raise LockStoreConnectionError("the lock store has been closed")
        if timeout is None or timeout > self._timeout:
            timeout = self._timeout
        return clock() + timeout

    def _dispatch(self, command: Command, words: tuple[Any, ...]) -> None:
        raise NotImplementedError


class InTransit:
    """What was written and is not answered yet, in the order in which answers come.

    Args:
        batch: makes the words of one call out of the subjects of parts; that of several is
            answered by a list.
    """

    def __init__(self, batch: Callable[[Sequence[Any]], tuple[Any, ...]] | None) -> None:
        self._batch = batch
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
        """Note a command that is written as it is."""
        self._calls.append([command])

    def recall(self, wanted: Callable[[Command], bool]) -> list[Command]:
        """Take commands back that are to be sent again: their answers go to nobody."""
        recalled: list[Command] = []
        for call in self._calls:
            for i, command in enumerate(call):
                if command.owed and wanted(command):
                    recalled.append(command)
                    command.repeated = True
                    call[i] = Command(None, command.future, command.expires, _unheard)
                    call[i].over, call[i].sent_at = True, command.sent_at
        return recalled

    def pack(self, unsent: deque[Command], now: float) -> bytes:
        """Take commands over, and return what is to be written for them."""
        chunks: list[bytes] = []
        while unsent:
            packed = unsent[0].packed
            if unsent[0].needless:
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
        call: list[Command] = []
        while unsent and len(call) < MOST_JOINED and unsent[0].packed is None:
            command = unsent.popleft()
            if not command.needless:
                call.append(command)
        assert self._batch is not None  # who joins says how
        words = self._batch([command.subject for command in call])
        return call, hiredis.pack_command(words)

    def take(self) -> Command:
        """The command whose answer is next; it was written as it is."""
        (command,) = self._calls.popleft()
        return command

    def hear(self, answer: Any) -> list[tuple[Command, Exception]]:
        """Give an answer to those it belongs to; returns the commands that failed."""
        failed: list[tuple[Command, Exception]] = []
        call = self._calls.popleft()
        if len(call) == 1 or isinstance(answer, hiredis.ReplyError):
            answer = [answer] * len(call)
        for command, own in zip(call, answer, strict=True):
            if isinstance(own, hiredis.ReplyError) and command.heard is not _unheard:
                failed.append((command, own))
            else:
                command.hear(own)
        return failed

    def clear(self) -> None:
        """Expect no answers any more."""
        self._calls.clear()


def _unheard(_: Command, __: Any) -> bool:
    return False


def log_failure(future: asyncio.Future[Any]) -> None:
    """Say so when a command that nobody waits for has failed: what it was to do lapses."""
    if not future.cancelled() and (error := future.exception()) is not None:
        log.warning("a ticket could not be withdrawn and will expire by itself: %s", error)
