"""Confirming that writes are durable, on a connection of its own to one server.

WAIT answers for the last write of its own connection: Redis 7.2 and Valkey count nothing else, and
without one it answers at once. So each round sends, in one packet, questions that show that the
writes are in this server's data, a write of this connection (the barrier), and WAIT. What was in
the data before the barrier has reached each replica that has the barrier: no answer of another server, or of
another connection, ever counts. All writes that came since the last round share one; none waits
for others to come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import Any, NamedTuple, Protocol

import hiredis
from redis.asyncio.connection import Connection

from ..aio.backoff import Backoff
from ..process import clock
from .durability import Durability, failure
from .slots import Address, redirect
from .transport import discard, streams

#: Writes that share a round at most.
MOST = 200
#: Seconds for which an answer may be late, beyond those that the server was given.
_LATE = 0.5
#: Seconds after which it connects anew: to count the replicas again, or because nothing was sent for
#: so long: a NAT or a load balancer may have forgotten the connection.
_COUNTED = _IDLE = 30.0
#: Least milliseconds that a server is given: the time may have passed in a blocked event loop.
_LEAST = 50
#: Milliseconds for which the key of the barrier stays; longer than a connection is idle.
_BARRIER = 60_000


class Verdict(Enum):
    """What has become of a write."""

    DURABLE = "durable"
    #: It is not known to be durable in time.
    LATE = "late"
    #: The server does not have it: a failover has lost it, or it is over.
    GONE = "gone"
    #: It was not found out: the lock store was closed.
    CLOSED = "closed"


class Proof(NamedTuple):
    """What shows that a write is in the data of a server.

    Attributes:
        questions: commands of one key each.
        holds: whether their answers show it.
    """

    questions: tuple[tuple[Any, ...], ...]
    holds: Callable[[Sequence[Any]], bool]


class Pending:
    """A write that is to be confirmed.

    Attributes:
        verdict: the future of it.
        began, ends: moments of `clock()`: when it was asked for, and when it is late.
        asking: in a cluster, whether the server is to be asked though the slot is not its own yet.
    """

    __slots__ = ("asking", "began", "ends", "proof", "verdict")

    def __init__(self, proof: Proof, verdict: asyncio.Future[Verdict], timeout: float) -> None:
        self.proof = proof
        self.verdict = verdict
        self.began = clock()
        self.ends = self.began + timeout
        self.asking = False

    def settle(self, verdict: Verdict) -> None:
        if not self.verdict.done():
            self.verdict.set_result(verdict)


class Opened(NamedTuple):
    """A connection that was just made.

    Attributes:
        place: the server, as host:port.
        barriers: keys that it should own: in a cluster the slot of the first may have left by now.
        cluster: whether the slot of a key may still be on its way there.
        known: how many replicas there are, of which some may be away; None: it need not be known.
    """

    connection: Connection
    place: str
    barriers: tuple[str, ...]
    cluster: bool = False
    known: Callable[[Wire], Awaitable[int]] | None = None


class Wire:
    """A connection on which one packet after the other is sent and answered."""

    def __init__(self, opened: Opened, last: str = "") -> None:
        self.opened_at = self._used_at = clock()
        self.opened = opened
        self._connection = opened.connection
        self._stream, self._writer = streams(opened.connection)
        self._reader = hiredis.Reader()
        #: How many replicas must acknowledge.
        self.needed = 0
        #: The key of the barrier; that of the connection before, until one is chosen.
        self.key = last

    async def choose_barrier(self) -> None:
        """Write the first key of the barrier that the server takes. Raises OSError."""
        text = ""
        for key in filter(None, (self.key, *self.opened.barriers)):
            self.key = key
            first = ("SET", self.key, "", "PX", _BARRIER)
            self.send([*self.barrier, *self._asking, first])
            # A server without memory left refuses the SET: a key that is there is enough.
            answers = await self.read(2 * len(self.barrier))
            text = "" if answers[len(self.barrier) - 1] == 1 else failure(answers[-1])
            if text.partition(" ")[0] not in ("MOVED", "ASK"):
                break
        if text:
            raise ConnectionError(text)

    @property
    def barrier(self) -> list[tuple[Any, ...]]:
        """The commands that write it once more; the answer to the last one is 1."""
        # A server without memory left refuses a SET, but never PEXPIRE.
        return [*self._asking, ("PEXPIRE", self.key, _BARRIER)]

    @property
    def _asking(self) -> list[tuple[Any, ...]]:
        return [("ASKING",)] if self.opened.cluster else []

    @property
    def outdated(self) -> bool:
        """Whether to connect anew before it is used again."""
        now = clock()
        counted = self.opened.known is not None and now - self.opened_at > _COUNTED
        return counted or now - self._used_at > _IDLE

    def send(self, commands: Sequence[tuple[Any, ...]]) -> None:
        """Send commands together."""
        self._used_at = clock()
        self._writer.write(b"".join(map(hiredis.pack_command, commands)))

    async def read(self, count: int) -> list[Any]:
        """The answers to the next so many commands. Raises OSError."""
        answers: list[Any] = []
        while len(answers) < count:
            answer = self._reader.gets()
            if answer is False:
                data = await self._stream.read(65536)
                if not data:
                    raise ConnectionError("the server closed the connection")
                self._reader.feed(data)
            elif not isinstance(answer, hiredis.PushNotification):
                answers.append(answer)
        return answers

    async def ask(self, *command: Any) -> Any:
        """The answer to a command. Raises OSError, also for an error of the server."""
        self.send([command])
        (answer,) = await self.read(1)
        if text := failure(answer):
            raise ConnectionError(text)
        return answer

    def close(self) -> None:
        discard(self._connection)


class _OutOfTime(ConnectionError):
    """An attempt ended with its time, and says nothing of the server."""


class Server(Protocol):
    """What a confirmer uses of its server."""

    async def open(self) -> Opened: ...
    def owned(self) -> bool: ...
    def route(self, pending: Pending, address: Address | None) -> None: ...
    def explain(self, error: BaseException) -> str: ...
    def changed(self, why: str, since: float) -> None: ...


class Confirmer:
    """Confirms the writes to one server; in a cluster there is one for each master.

    Args:
        server: `open` connects to the one that is the master now; `owned` is whether it is still
            one; `route` sends a write on to a server, or to the one that now has its key;
            `changed` hears why writes are not durable in time, and since which moment of
            `clock()` they were waited for; "" when they are again.

    Attributes:
        why: why writes are not durable in time; empty: they are.
    """

    def __init__(self, asked: Durability, server: Server) -> None:
        self._asked = asked
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._pending: list[Pending] = []
        #: Those of the round that is under way.
        self._group: list[Pending] = []
        self._task: asyncio.Task[None] | None = None
        self._wire: Wire | None = None
        #: Of the barrier on the last connection.
        self._key = ""
        self._backoff = Backoff(0.02, 0.5, jitter=0.5)
        #: What the last attempt met that had time enough to meet something.
        self._error: BaseException | None = None
        self.why = ""

    def confirm(self, pending: Pending) -> None:
        """Settle a write once it is durable, or late. While that takes too long, it is late at once."""
        if not self.why and clock() > pending.ends:  # its time has passed at another server
            late = ConnectionError(f"a write was not confirmed within {self._asked.timeout:g} s")
            self._tell(self._server.explain(late), pending.began)
        if self.why:
            pending.settle(Verdict.LATE)
        else:
            self._pending.append(pending)
        if self._task is None or self._task.done():
            self._task = self._loop.create_task(self._run())

    def reconnect(self) -> None:
        """Connect anew: the server that is the master may be another one."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()

    def close(self) -> None:
        """End it, and all that is under way."""
        if self._task is not None:
            self._task.cancel()
        self.reconnect()
        for one in (*self._group, *self._pending):
            one.settle(Verdict.CLOSED)

    # -- rounds --------------------------------------------------------------------------------

    async def _run(self) -> None:
        while self._pending or (self.why and self._server.owned()):
            self._group = [one for one in self._pending[:MOST] if not one.verdict.done()]
            del self._pending[:MOST]
            ends = min((one.ends for one in self._group), default=clock() + self._asked.timeout)
            try:
                await self._round(ends)
                self._backoff.reset()
                self._error = None
            except Exception as error:  # noqa: BLE001  # reported; no write waits for ever
                self.reconnect()
                self._failed(ends, error)
                await asyncio.sleep(self._backoff.next())
        self._tell("")

    async def _round(self, ends: float) -> None:
        """Ask about the writes of the group; without any, whether replicas are back."""
        group, asked = self._group, self._asked
        wire = self._wire
        if wire is None or wire.outdated:
            self.reconnect()
            left = max(_LEAST / 1000, ends - clock())
            try:
                wire = self._wire = await asyncio.wait_for(self._connect(), left)
            except asyncio.TimeoutError:
                raise _OutOfTime(
                    f"no connection and no write within {asked.timeout:g} s (durability_timeout)"
                ) from None
        questions: list[tuple[Any, ...]] = []
        for one in group:
            for question in one.proof.questions:
                questions += [("ASKING",), question] if one.asking else [question]
        milliseconds = max(_LEAST, round(1000 * (ends - clock())))
        barrier = wire.barrier
        wire.send([*questions, *barrier, asked.command(wire.needed, milliseconds)])
        # A timer: after a blocked loop, what has come is read before it sees that time is over.
        overdue = self._loop.call_later(milliseconds / 1000 + _LATE, wire.close)
        try:
            answers = await wire.read(len(questions))
            if group and not self._sort(answers, wire):
                return self.reconnect()  # no write waits for this WAIT
            *_, written = await wire.read(len(barrier))
            if written != 1:  # this WAIT is for an older write; a key may expire, or be evicted
                raise ConnectionError(failure(written) or "the key of the barrier is gone")
            (waited,) = await wire.read(1)
        finally:
            overdue.cancel()
        if text := failure(waited):
            raise ConnectionError(text)
        missing = asked.missing(waited, wire.needed)
        place = wire.opened.place
        why = f"Redis at {place}: {missing} within {asked.timeout:g} s" if missing else ""
        self._tell(why, ends - asked.timeout)
        for one in self._group:
            one.settle(Verdict.LATE if missing else Verdict.DURABLE)
        self._group = []
        return None

    def _sort(self, answers: list[Any], wire: Wire) -> bool:
        """Keep the writes of the group that this server has; settle or send on the others.

        Returns False if none is left.
        """
        group, self._group = self._group, []
        unsure: list[Pending] = []
        problem = ""
        for one in group:
            each = 2 if one.asking else 1
            count = each * len(one.proof.questions)
            own, answers = answers[each - 1 : count : each], answers[count:]
            refused = next(filter(None, map(failure, own)), "")
            kind, _, rest = refused.partition(" ")
            one.asking = kind == "ASK"
            if kind in ("MOVED", "ASK"):
                self._server.route(one, redirect(rest, wire.opened.place.rpartition(":")[0]))
            elif refused:
                problem = refused
                unsure.append(one)
            elif one.proof.holds(own):
                self._group.append(one)
            elif wire.opened_at > one.began:
                one.settle(Verdict.GONE)
            else:
                unsure.append(one)
        if problem:
            self._group += unsure
            raise ConnectionError(problem)
        if unsure:  # the connection may be that to a master of before: all are asked about again
            self._pending[:0] = [*self._group, *unsure]
            self._group = []
        return bool(self._group)

    def _failed(self, ends: float, error: BaseException) -> None:
        group, self._group = self._group, []
        if not isinstance(error, _OutOfTime):
            self._error = error
        if clock() >= ends - 0.001:
            found, self._error = self._error or error, None
            self._tell(self._server.explain(found), ends - self._asked.timeout)
        for one in group:  # again, if there is time; in a cluster, to another server perhaps
            self._server.route(one, None)

    def _tell(self, why: str, since: float = 0.0) -> None:
        """Note why writes are not durable in time, and tell it when that begins and ends."""
        if bool(why) != bool(self.why):
            self.why = why
            self._server.changed(why, since)

    # -- connecting ----------------------------------------------------------------------------

    async def _connect(self) -> Wire:
        opened = await self._server.open()
        wire = Wire(opened, self._key)
        try:
            await wire.choose_barrier()
            known = await opened.known(wire) if opened.known is not None else 0
            wire.needed = self._asked.needed(known)
            self._key = wire.key
        except BaseException:
            wire.close()
            raise
        return wire
