"""Commands on their way: several of them in one call, and the answers given to whom they belong.

A call of a script costs the server some microseconds before it does anything. So acquires and
releases of one loop tick, the *parts*, share calls; each keeps its own future and deadline.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import hiredis

from .errors import LockStoreConnectionError
from .grant import clock

#: Parts in one call: what a call costs is shared, and none keeps the server for long.
MOST_JOINED = 32


class Command:
    """A command on its way.

    Attributes:
        packed: its bytes; None of a part, that is packed with others when it is sent.
        future: resolved with the answer.
        sent_at: moment of `clock()` just before it was last written.
        repeated: True once it was sent again after a connection broke.
        heard: called with the command and the answer, or error, as it comes, even if nobody
            awaits the future any more; tells whether the future is to have it too.
        subject: what it is about; a part's words are made of that.
        prologue: it belongs to one connection and is not repeated on the next.
        slot: of a Redis Cluster; -1 where there is none.
    """

    __slots__ = (
        "expires", "future", "heard", "packed", "prologue", "repeated", "sent_at", "slot",
        "subject",
    )  # fmt: skip

    def __init__(
        self,
        packed: bytes | None,
        future: asyncio.Future[Any],
        expires: float,
        heard: Heard | None = None,
        subject: Any = None,
    ) -> None:
        self.packed = packed
        self.future = future
        self.expires = expires
        self.sent_at = 0.0
        self.repeated = False
        self.heard = heard
        self.subject = subject
        self.prologue = False
        self.slot = -1

    @property
    def unanswered(self) -> bool:
        """Whether it is to be sent again when its connection breaks."""
        # A cancelled one too: what undoes it comes behind it.
        return not self.future.done() or self.future.cancelled()

    def hear(self, answer: Any) -> None:
        """Act on the answer, and tell whoever awaits it."""
        wanted = self.heard is None or self.heard(self, answer)
        if wanted and not self.future.done():
            self.future.set_result(answer)

    def fail(self, error: BaseException) -> None:
        """Tell whoever awaits the command that it failed."""
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
    ) -> Command:
        """Send a command as soon as possible; its future has the answer.

        Args:
            timeout: seconds after which the command fails and is not repeated.
            heard, subject: see `Command`.
        """
        future, expires = self._loop.create_future(), self._expires(timeout)
        command = Command(hiredis.pack_command(words), future, expires, heard, subject)
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

    def add(self, command: Command) -> None:
        """Note a command that is written as it is."""
        self._calls.append([command])

    def pack(self, unsent: deque[Command], now: float) -> bytes:
        """Take commands over, and return what is to be written for them."""
        chunks: list[bytes] = []
        while unsent:
            packed = unsent[0].packed
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
            call.append(unsent.popleft())
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
            if isinstance(own, hiredis.ReplyError):
                failed.append((command, own))
            else:
                command.hear(own)
        return failed

    def clear(self) -> None:
        self._calls.clear()
