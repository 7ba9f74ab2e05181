"""One multiplexed connection to a Redis server, shared by everything a process does.

redis-py's own connection does the connecting, TLS, login and HELLO; then the link takes its
transport over with a hiredis reader. Commands of one loop tick are written together, answers
are matched in order, pushes (RESP3) go to a callback.

Every command may be repeated, so the link repeats what was unanswered when a connection broke,
until its deadline. A cancelled command keeps its place in the order of answers. A connection
that is silent for a second is suspect: a second one is opened, and takes over if it answers
first. docs/link.md says more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any

import hiredis
from redis.asyncio.connection import Connection

from ..aio.backoff import Backoff
from ..errors import CLOSED, LockStoreConnectionError
from ..process import clock
from .attempts import Attempts, Connect
from .commands import LASTING, TRANSIENT, BaseLink, Callback, Command, InTransit, Unanswered
from .scripts import Loads
from .transport import LinkProtocol, discard, release, streams

#: Seconds before the first and between later attempts to reconnect.
FIRST_BACKOFF, LONGEST_BACKOFF = 0.02, 0.5

#: Seconds without an answer after which a connection is suspect.
PATIENCE = 1.0

#: A timer that fires this many seconds late shows that the event loop was blocked: answers may
#: have come in the meantime, and are read before a command counts as overdue.
LATE = 0.05
_NOTHING = object()


class Link(BaseLink):
    """The connection, and the queue in front of it.

    Args:
        connect: makes a connected redis-py connection; raises its errors.
        explain: returns a LockStoreConnectionError with advice, and whether a retry can help.
        prologue: commands to send after each connect, before any other.
        on_push: called with each push message.
        on_connect: called after each connect but the first, once the prologue is answered.
        wanted: returns whether to reconnect even if there is nothing to send.
        packed: see `InTransit`.
        together: digests of scripts of which none is known without the others, such as those of `packed`.
        timeout: seconds a command may take, waiting for a connection included.
    """

    longest_backoff = LONGEST_BACKOFF

    def __init__(
        self,
        connect: Connect,
        explain: Callable[[BaseException], tuple[LockStoreConnectionError, bool]],
        *,
        prologue: Sequence[tuple[Any, ...]] = (),
        on_push: Callable[[list[Any]], None] | None = None,
        on_connect: Callable[[], None] | None = None,
        wanted: Callable[[], bool] = lambda: False,
        packed: Callable[[Sequence[Any]], bytes] | None = None,
        together: Collection[str] = (),
        timeout: float = 10.0,
    ) -> None:
        super().__init__(timeout)
        self._attempts = Attempts(connect, timeout)
        self._wanted = wanted
        self._explain = explain
        self._prologue = [hiredis.pack_command(args) for args in prologue]
        self._loads = Loads(prologue, self._prologue, together)
        self._on_push = on_push
        self._on_connect = on_connect
        self._connection: Connection | None = None
        self._transport: asyncio.Transport | None = None
        self._protocol: LinkProtocol | None = None
        self._unsent: deque[Command] = deque()
        self._sent = InTransit(packed)
        self._connecting: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._watch_at = 0.0
        #: Prologue commands without an answer: until it comes, nothing else is sent.
        self._preparing = 0
        self._again: deque[Command] = deque()  # to be sent first, behind scripts that were unknown
        self._flush_due = False
        #: Whether the last packet had several commands: the next one is likely to.
        self._crowded = False
        self._writable = True
        self._pause = 0.0
        self._patience = self._shortest_patience = min(PATIENCE, timeout / 4)
        self._last_error: BaseException | None = None
        #: How often a connection was made, and of these how many were used.
        self.connects = self._used = 0

    @property
    def usable(self) -> bool:
        """Whether there is, was, or is about to be a connection."""
        return self.connects > 0 or (self._connecting is not None and not self._connecting.done())

    # -- sending ---------------------------------------------------------------------------

    def join(
        self, subject: Any, future: asyncio.Future[Any], callback: Callback,
        timeout: float | None = None, lasting: bool = False,
    ) -> None:  # fmt: skip
        """As `submit`, but in one call with the others of this loop tick."""
        expires = self._expires(timeout)
        until = expires + LASTING if lasting else expires
        self.send(Command(None, future, expires, callback, subject, until, timeout))

    def _dispatch(self, command: Command, args: tuple[Any, ...]) -> None:
        self.send(command)

    def send(self, command: Command) -> None:
        """Send a command: at once if no answer is pending, else with the others of this tick."""
        if self._closed:  # a node of a cluster, to which another one has moved a slot meanwhile
            return command.fail(LockStoreConnectionError(CLOSED))
        self._unsent.append(command)
        if self._transport is None:
            self._ensure_connecting()
        elif not self._flush_due and self._writable:
            if self._sent or self._crowded:
                self._flush_due = True
                self._loop.call_soon(self._flush)
            else:
                self._flush()
        if self._watch is None or command.expires < self._watch_at:
            self._watch_until(command.expires)
        return None

    def _flush(self) -> None:
        self._flush_due = False
        if self._transport is None or not self._writable or not self._unsent:
            return
        if self._preparing or self._again:  # what waits for its scripts must not be overtaken
            return
        self._crowded = len(self._unsent) > 1
        now = clock()
        self._transport.write(self._sent.pack(self._unsent, now))
        self._watch_silence(now)

    def _set_writable(self, writable: bool) -> None:
        self._writable = writable
        if writable:
            self._flush()

    # -- receiving -------------------------------------------------------------------------

    def _received(self, data: bytes) -> None:
        reader, sent = self._reader, self._sent
        try:
            reader.feed(data)
            while (answer := reader.gets()) is not _NOTHING:
                if isinstance(answer, hiredis.PushNotification):
                    self._push_received(answer)
                elif (failed := sent.resolve(answer)) and (cause := self._answer_errors(failed)):
                    return self._drop(cause)  # the commands left are repeated
            if self._again and not self._preparing:
                self._load()
        except hiredis.ProtocolError as error:
            self._drop(error)
        return None

    def _push_received(self, push: list[Any]) -> None:
        if push[0] == b"subscribe":  # RESP3 answers SUBSCRIBE with a push, in its place
            self._prepared(self._sent.take(), push)
        elif self._on_push is not None:
            self._on_push(push)

    def _answer_errors(self, failed: list[tuple[Command, Exception]]) -> Exception | None:
        """Handle the errors of one call; returns one if the connection must be given up."""
        return next(filter(None, [self._answer_error(*each) for each in failed]), None)

    def _answer_error(self, command: Command, error: Exception) -> Exception | None:
        """Handle an error; returns it if the connection must be given up."""
        text = str(error)
        if command.prologue and not text.startswith(TRANSIENT):
            explained = self._explain(error)[0]
            self._pause = LONGEST_BACKOFF
            self._fail_all(explained)
            return explained
        if text.startswith("NOSCRIPT"):
            command.sent_at = 0.0  # it did not run: if it was given up meanwhile, it need not
            self._again.append(command)
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
        """Give the connection up; commands without an answer are sent again on the next one."""
        if error is not None:
            self._last_error = error
        transport, self._transport, self._protocol = self._transport, None, None
        connection, self._connection = self._connection, None
        if transport is not None:
            transport.abort()
        if connection is not None:
            release(connection)
        self._unsent = deque(command for command in self._unsent if not command.prologue)
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

    def _lost(self, protocol: LinkProtocol, error: Exception | None) -> None:
        if protocol is self._protocol:
            self._drop(error or ConnectionError("the server closed the connection"))

    # -- connecting ------------------------------------------------------------------------

    @property
    def stuck(self) -> bool:
        """Whether the oldest command has waited so long that the connection is suspect."""
        oldest = self._sent.oldest
        return oldest is not None and clock() - oldest.sent_at >= self._patience

    def _ensure_connecting(self) -> None:
        if self._connecting is None or self._connecting.done():
            self._connecting = self._loop.create_task(self._reconnect())

    def _lacking(self) -> bool:
        """Whether a connection is needed, or a second one beside a suspect one."""
        if self._transport is not None:
            return self.stuck
        return bool(self._unsent) or self._wanted()

    async def _reconnect(self) -> None:
        backoff = Backoff(FIRST_BACKOFF, self.longest_backoff, jitter=0.5)
        if self._pause:  # the server answers, but cannot serve us now
            pause, self._pause = self._pause, 0.0
            await asyncio.sleep(pause)
        while self._lacking():
            try:
                self._choose(await self._attempts.once())
            except Exception as error:  # noqa: BLE001  # OSError, SSLError, UnicodeError among them
                self._last_error = error
                explained, again = self._explain(error)
                if self._transport is None and self._give_up(explained, again):
                    return
                await asyncio.sleep(backoff.next())

    def _give_up(self, explained: LockStoreConnectionError, again: bool) -> bool:
        """Whether to stop after a failed attempt; a cluster's node overrides it."""
        if again and self.connects:
            return False
        self._fail_all(explained)
        return True

    def _choose(self, connection: Connection) -> None:
        """Use a new connection, unless the old one answers again."""
        if self._transport is not None:
            if not self.stuck:
                discard(connection)
                return
            self._drop(ConnectionError("it answers on a new connection only"))
            self._patience = min(2 * self._patience, self._timeout)
        self._take_over(connection)

    def _take_over(self, connection: Connection) -> None:
        reader, writer = streams(connection)
        if reader.at_eof() or writer.transport.is_closing():
            discard(connection)
            raise ConnectionError("the server closed the connection")
        self._connection = connection
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._writable = True
        transport: Any = writer.transport  # asyncio's types call it a WriteTransport
        self._protocol = LinkProtocol(self._received, self._set_writable, self._lost)
        transport.set_protocol(self._protocol)
        self._transport = transport
        self.connects += 1
        self._prepare(self._prologue)

    def _load(self) -> None:
        """Send again what met an unknown script, behind that in the same packet: between two
        another client may empty the server's cache once more."""
        self._prepare(self._loads.needed([command.packed for command in self._again]))

    def _prepare(self, prologue: Collection[bytes]) -> None:
        """Send a prologue, and behind it what is to be sent again."""
        assert self._transport is not None  # connected
        self._preparing = len(prologue)
        self._watch_silence(now := clock())
        for packed in prologue:
            done, expires = self._loop.create_future(), now + self._timeout
            command = Command(packed, done, expires, self._prepared)
            command.prologue, command.sent_at = True, now
            self._sent.add(command)
        self._transport.write(b"".join(prologue) + self._sent.pack(self._again, now))
        if not self._preparing:
            self._ready()

    def _ready(self) -> None:
        self._flush()
        anew, self._used = 0 < self._used < self.connects, self.connects
        if anew and self._on_connect is not None:
            self._on_connect()

    def _prepared(self, command: Command, _: Any) -> bool:
        """A prologue command has been answered; after the last one the others are sent."""
        if not command.future.done():
            command.future.set_result(None)
            self._preparing -= 1
            if not self._preparing and not self._again:
                self._ready()
        return False

    # -- deadlines and the end ----------------------------------------------------------------

    def _watch_silence(self, now: float) -> None:
        """After a write: check in time that it was answered."""
        if self._watch is None or self._watch_at > now + self._patience:
            self._watch_until(now + self._patience)

    def _watch_until(self, expires: float) -> None:
        """Run `_check` at that moment."""
        if self._watch is not None:
            self._watch.cancel()
        self._watch_at = expires
        self._watch = self._loop.call_later(max(0.001, expires - clock()), self._check)

    def _check(self) -> None:
        """Fail commands past their deadline; suspect a silent connection."""
        now = clock()
        blocked = now - self._watch_at > LATE
        self._watch = None
        if self._unsent:
            self._flush()  # a blocked loop is no reason to call these late
        oldest = self._sent.oldest
        if oldest is None or not oldest.repeated:
            self._patience = self._shortest_patience
        if not blocked and oldest is not None:
            if oldest.sent_at + self._timeout <= now:
                self._drop(Unanswered(self._timeout))
            elif self.stuck:
                self._suspect()
        for command in (*self._sent, *self._again, *self._unsent):
            if not command.over and command.due + self._timeout * blocked <= now:
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
            cause = Unanswered(min(command.limit or self._timeout, self._timeout))
        explained = self._explain(cause)[0]
        (command.fail if now >= command.until else command.report)(explained)

    def _suspect(self) -> None:
        """Open a second connection; a cluster's node does more."""
        self._ensure_connecting()

    def _fail_all(self, error: BaseException) -> None:
        for command in (*self._sent, *self._again, *self._unsent):
            command.fail(error)
        self._unsent.clear()
        self._again.clear()

    async def close(self, patience: float = 1.0) -> None:
        """Wait up to `patience` seconds for pending answers, then end the connection."""
        pending = [c.future for c in (*self._sent, *self._unsent) if not c.future.done()]
        if pending and patience:
            await asyncio.wait(pending, timeout=min(patience, self._timeout))
        self.abandon()

    def abandon(self) -> None:
        """End the connection; commands without an answer fail."""
        if self._closed:  # already, or it is the parent's
            return
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._watch is not None:
            self._watch.cancel()
        self._fail_all(LockStoreConnectionError(CLOSED))
        self._drop(None)
