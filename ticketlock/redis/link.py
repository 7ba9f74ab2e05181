"""One multiplexed connection to a Redis server, shared by everything a process does.

redis-py's own connection does the connecting, TLS, login and HELLO; then the link takes its
transport over with a hiredis reader. Commands of one loop tick are written together, answers
are matched in order, pushes (RESP3) go to a callback.

Every command may be repeated, so the link repeats what was unanswered when a connection broke,
until its deadline. A cancelled command keeps its place in the order of answers. A connection
that says nothing for a second is suspected: another one is made beside it, and takes over if
that is answered first. docs/link.md says more.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
from redis.asyncio.connection import Connection

from ..errors import LockStoreConnectionError
from ..process import clock
from .attempts import Attempts, Connect, discard
from .commands import LASTING, Command, Heard, InTransit, Sender

#: Seconds before the first and between later attempts to reconnect.
FIRST_BACKOFF, LONGEST_BACKOFF = 0.02, 0.5

#: Seconds without an answer after which a connection is suspected.
PATIENCE = 1.0

#: A timer that comes so many seconds late says that the event loop was blocked: what came
#: meanwhile is to be read before anything is called overdue.
LATE = 0.05

#: A server that answers so cannot serve us now but may soon, or another one of its set can.
TRANSIENT = ("READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "UNBLOCKED", "BUSY")

_NOTHING = object()


class _Protocol(asyncio.Protocol):
    """What asyncio calls for one connection; an old connection's end is not the new one's."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.data_received = link._received  # type: ignore[method-assign]  # the hot path

    def pause_writing(self) -> None:
        self._link._writable = False

    def resume_writing(self) -> None:
        self._link._writable = True
        self._link._flush()

    def connection_lost(self, error: Exception | None) -> None:
        if self._link._protocol is self:
            self._link._drop(error or ConnectionError("the server closed the connection"))


class Link(Sender):
    """The connection, and the queue in front of it.

    Args:
        connect: makes a connected redis-py connection; raises its errors.
        explain: turns an error into the LockStoreConnectionError for people, and tells
            whether trying again can help.
        prologue: commands to send after each connect, before any other.
        on_push: called with each push message.
        on_connect: called after each connect but the first.
        wanted: tells whether to reconnect although there is nothing to send.
        batch: see `InTransit`.
        timeout: seconds a command may take, waiting for a connection included.
    """

    def __init__(
        self,
        connect: Connect,
        explain: Callable[[BaseException], tuple[LockStoreConnectionError, bool]],
        *,
        prologue: Sequence[tuple[Any, ...]] = (),
        on_push: Callable[[list[Any]], None] | None = None,
        on_connect: Callable[[], None] | None = None,
        wanted: Callable[[], bool] = lambda: False,
        batch: Callable[[Sequence[Any]], tuple[Any, ...]] | None = None,
        timeout: float = 10.0,
    ) -> None:
        super().__init__(timeout)
        self._attempts = Attempts(connect, timeout)
        self._wanted = wanted
        self._explain = explain
        self._prologue = [hiredis.pack_command(command) for command in prologue]
        self._on_push = on_push
        self._on_connect = on_connect
        self._connection: Connection | None = None
        self._transport: asyncio.Transport | None = None
        self._protocol: _Protocol | None = None
        self._reader = hiredis.Reader()
        self._unsent: deque[Command] = deque()
        self._sent = InTransit(batch)
        self._connecting: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._watch_at = 0.0
        #: Prologue commands not answered yet: until they are, nothing else is sent.
        self._preparing = 0
        #: Commands whose script the server did not know, to be sent before all others.
        self._again: deque[Command] = deque()
        self._flush_due = False
        self._writable = True
        self._pause = 0.0
        self._patience = self._shortest_patience = min(PATIENCE, timeout / 4)
        self._last_error: BaseException | None = None
        #: How often a connection was made.
        self.connects = 0

    @property
    def usable(self) -> bool:
        """Whether there is, was, or is about to be a connection."""
        return self.connects > 0 or (self._connecting is not None and not self._connecting.done())

    # -- sending ---------------------------------------------------------------------------

    def join(
        self,
        subject: Any,
        future: asyncio.Future[Any],
        heard: Heard,
        timeout: float | None = None,
        lasting: bool = False,
    ) -> None:
        """As `submit`, for a part: in one call with others of this moment."""
        expires = self._expires(timeout)
        until = expires + LASTING if lasting else expires
        self.send(Command(None, future, expires, heard, subject, until))

    def _dispatch(self, command: Command, words: tuple[Any, ...]) -> None:
        self.send(command)

    def send(self, command: Command) -> None:
        """Send a command made elsewhere: at once if no answer is due, else with the others of
        this loop tick."""
        self._unsent.append(command)
        if self._transport is None:
            self._ensure_connecting()
        elif not self._flush_due and self._writable:
            if self._sent:
                self._flush_due = True
                self._loop.call_soon(self._flush)
            else:
                self._flush()
        if self._watch is None or command.expires < self._watch_at:
            self._watch_until(command.expires)

    def _flush(self) -> None:
        self._flush_due = False
        if self._transport is None or not self._writable or self._preparing:
            return
        now = clock()
        self._transport.write(self._sent.pack(self._unsent, now))
        self._watch_silence(now)

    # -- receiving -------------------------------------------------------------------------

    def _received(self, data: bytes) -> None:
        reader, sent = self._reader, self._sent
        try:
            reader.feed(data)
            while (answer := reader.gets()) is not _NOTHING:
                if isinstance(answer, hiredis.PushNotification):
                    self._push_received(answer)
                elif failed := sent.hear(answer):
                    causes = [self._answer_error(command, error) for command, error in failed]
                    if cause := next(filter(None, causes), None):
                        return self._drop(cause)  # what is left was for commands to be repeated
        except hiredis.ProtocolError as error:
            self._drop(error)
        return None

    def _push_received(self, push: list[Any]) -> None:
        if push[0] == b"subscribe":  # RESP3 answers SUBSCRIBE with a push, in its place
            self._prepared(self._sent.take(), push)
        elif self._on_push is not None:
            self._on_push(push)

    def _answer_error(self, command: Command, error: Exception) -> Exception | None:
        """Act on an error; returns one for which the connection is to be given up."""
        text = str(error)
        if command.prologue and not text.startswith(TRANSIENT):
            explained = self._explain(error)[0]
            self._pause = LONGEST_BACKOFF
            self._fail_all(explained)
            return explained
        if text.startswith("NOSCRIPT"):
            # All that were sent behind it have the same answer to come: order is kept.
            self._again.append(command)
            if not self._preparing:
                self._send_prologue()
        elif text.startswith(TRANSIENT):
            if command.owed:
                command.repeated = True
                self._again.append(command)
            self._pause = LONGEST_BACKOFF / 5
            return error
        else:
            command.fail(self._explain(error)[0])
        return None

    def _drop(self, error: BaseException | None) -> None:
        """Give the connection up; what was unanswered is sent again on the next one."""
        if error is not None:
            self._last_error = error
        transport, self._transport, self._protocol = self._transport, None, None
        connection, self._connection = self._connection, None
        if transport is not None:
            transport.abort()
        if connection is not None:
            connection._reader = connection._writer = None
        for command in reversed([*self._sent]):
            if command.owed:
                command.repeated = True
                self._unsent.appendleft(command)
        self._sent.clear()
        self._preparing = 0
        self._unsent.extendleft(reversed(self._again))
        self._again.clear()
        if (self._unsent or self._wanted()) and not self._closed:
            self._ensure_connecting()

    # -- connecting ------------------------------------------------------------------------

    @property
    def stuck(self) -> bool:
        """Whether the oldest command is unanswered for so long that the connection is suspect."""
        oldest = self._sent.oldest
        return oldest is not None and clock() - oldest.sent_at >= self._patience

    def _ensure_connecting(self) -> None:
        if self._connecting is None or self._connecting.done():
            self._connecting = self._loop.create_task(self._reconnect())

    def _lacking(self) -> bool:
        """Whether a connection is needed, or another one beside that which is suspect."""
        if self._transport is not None:
            return self.stuck
        return bool(self._unsent) or self._wanted()

    async def _reconnect(self) -> None:
        backoff = FIRST_BACKOFF
        if self._pause:  # the server answers, but cannot serve us now
            pause, self._pause = self._pause, 0.0
            await asyncio.sleep(pause)
        while self._lacking():
            try:
                self._choose(await self._attempts.once())
            except Exception as error:  # noqa: BLE001  # redis-py lets OSError, SSLError and
                # UnicodeError through; all are told to whoever waits, none is dropped.
                self._last_error = error
                explained, again = self._explain(error)
                if self._transport is None and self._give_up(explained, again):
                    return
                await asyncio.sleep(backoff * random.uniform(0.5, 1.0))
                backoff = min(2 * backoff, LONGEST_BACKOFF)

    def _give_up(self, explained: LockStoreConnectionError, again: bool) -> bool:
        """Whether to stop trying, after an attempt that failed; a cluster's node overrides it."""
        if again and self.connects:
            return False
        self._fail_all(explained)
        return True

    def _choose(self, connection: Connection) -> None:
        """Take a new connection over, unless the old one has come to life again."""
        if self._transport is not None:
            if not self.stuck:
                discard(connection)
                return
            self._drop(ConnectionError("it answers on a new connection only"))
            self._patience = min(2 * self._patience, self._timeout)
        self._take_over(connection)

    def _take_over(self, connection: Connection) -> None:
        reader, writer = connection._reader, connection._writer
        assert reader is not None and writer is not None  # noqa: PT018  # connect() returned
        if reader.at_eof() or writer.transport.is_closing():
            discard(connection)
            raise ConnectionError("the server closed the connection")
        self._connection = connection
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._writable = True
        transport: Any = writer.transport  # asyncio's types call it a WriteTransport
        self._protocol = _Protocol(self)
        transport.set_protocol(self._protocol)
        self._transport = transport
        self.connects += 1
        self._send_prologue()
        if self.connects > 1 and self._on_connect is not None:
            self._on_connect()

    def _send_prologue(self) -> None:
        assert self._transport is not None  # connected
        self._preparing = len(self._prologue)
        now = clock()
        self._watch_silence(now)
        for packed in self._prologue:
            expires = now + self._timeout
            command = Command(packed, self._loop.create_future(), expires)
            command.prologue, command.heard = True, self._prepared
            command.sent_at = now
            self._sent.add(command)
        self._transport.write(b"".join(self._prologue))
        if not self._preparing:
            self._flush()

    def _prepared(self, command: Command, _: Any) -> bool:
        """One prologue command has been answered; after the last one the others may go."""
        if not command.future.done():
            command.future.set_result(None)
            self._preparing -= 1
            if not self._preparing:
                self._unsent.extendleft(reversed(self._again))
                self._again.clear()
                self._flush()
        return False

    # -- deadlines and the end ----------------------------------------------------------------

    def _watch_silence(self, now: float) -> None:
        """Something was written: look in time whether it was answered."""
        if self._watch is None or self._watch_at > now + self._patience:
            self._watch_until(now + self._patience)

    def _watch_until(self, expires: float) -> None:
        """See to it that `_check` runs at that moment."""
        if self._watch is not None:
            self._watch.cancel()
        self._watch_at = expires
        self._watch = self._loop.call_later(max(0.001, expires - clock()), self._check)

    def _check(self) -> None:
        """Tell whose commands are past their deadline; suspect a connection that is silent."""
        now = clock()
        blocked = now - self._watch_at > LATE
        self._watch = None
        if self._unsent:
            self._flush()  # what stands here because the loop was blocked is not late by itself
        oldest = self._sent.oldest
        if oldest is None or not oldest.repeated:
            self._patience = self._shortest_patience
        if not blocked and oldest is not None:
            if oldest.sent_at + self._timeout <= now:
                self._drop(TimeoutError(f"no answer within {self._timeout:g} s"))
            elif self.stuck:
                self._suspect()
        late = self._timeout if blocked else 0.0
        for command in (*self._sent, *self._again, *self._unsent):
            if not command.over and command.due + late <= now:
                self._overdue(command, now)
        self._unsent = deque(c for c in self._unsent if not c.over)
        self._again = deque(c for c in self._again if not c.over)
        if moments := [c.due for c in (*self._sent, *self._unsent) if not c.over]:
            if (oldest := self._sent.oldest) is not None:
                moments.append(max(oldest.sent_at + self._patience, now + 0.25))
            self._watch_until(max(now + 0.02, min(moments)))

    def _overdue(self, command: Command, now: float) -> None:
        cause = self._last_error
        if self._transport is not None or cause is None:
            cause = TimeoutError(f"no answer within {self._timeout:g} s")
        explained = self._explain(cause)[0]
        (command.fail if now >= command.until else command.tell)(explained)

    def _suspect(self) -> None:
        """Connect beside the silent connection; a cluster's node does more."""
        self._ensure_connecting()

    def _fail_all(self, error: BaseException) -> None:
        for command in (*self._sent, *self._again, *self._unsent):
            command.fail(error)
        self._unsent.clear()
        self._again.clear()

    async def close(self, patience: float = 1.0) -> None:
        """Wait that many seconds for the answers that are due, then end the connection."""
        pending = [c.future for c in (*self._sent, *self._unsent) if not c.future.done()]
        if pending and patience:
            await asyncio.wait(pending, timeout=min(patience, self._timeout))
        self.abandon()

    def abandon(self) -> None:
        """End the connection; what is unanswered fails."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._watch is not None:
            self._watch.cancel()
        self._fail_all(LockStoreConnectionError("the lock store has been closed"))
        self._drop(None)
