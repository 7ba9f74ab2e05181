"""Limits before there is a request: the number of connections, and the size of a head and its time.

uvicorn has none of them for all parsers: with it, a connection that sends nothing, or a byte a
minute, stays for ever.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any, ClassVar

from .errors import failure

log = logging.getLogger("ticketlock.server")

#: Most bytes of a head.
MAX_HEAD = 64 * 1024
#: Bytes of one read: so much of a body may be in memory before the application asks for it.
_READ = 64 * 1024
#: Seconds for the rest of a body whose request was answered before its end.
_REST = 2.0
#: Seconds for which a client may read nothing of its answer.
_STALLED = 30.0
#: Most refused connections that stay open to read the answer, and for how many seconds.
_REFUSED, _REFUSED_SECONDS = 100, 0.5


class Connections:
    """All connections of a server.

    At the limit, an idle connection is closed for a new one: first those that never sent a
    request, then those that are kept alive.

    Args:
        limit: most connections.
        head_timeout: seconds for the head of a request, from the start of the connection, or from
            the first byte if it is kept alive.
    """

    def __init__(self, limit: int, head_timeout: float) -> None:
        self.head_timeout = head_timeout
        #: What each read of a connection is read into.
        self.read = memoryview(bytearray(_READ))
        self._limit = limit
        self._open: set[Guarded] = set()
        self._fresh: dict[Guarded, None] = {}
        self._kept: dict[Guarded, None] = {}
        #: Refused connections that are still open.
        self.refused = 0

    def protocol(self, *parts: type[asyncio.Protocol]) -> Callable[..., Reader]:
        """Makes connections: the parts are uvicorn's protocol, and before it what its parser needs."""
        guarded: Any = type("GuardedProtocol", (Guarded, *parts), {"guard": self})
        return lambda **options: Reader(guarded(**options), self.read)

    def admit(self, connection: Guarded) -> bool:
        """Accept a connection, in place of an idle one if needed; False at the limit."""
        if len(self._open) >= self._limit:
            for idle in (self._fresh, self._kept):
                if idle:
                    victim = next(iter(idle))
                    self.gone(victim)
                    victim.hang_up()
                    break
            else:
                return False
        self._open.add(connection)
        self._fresh[connection] = None
        return True

    def busy(self, connection: Guarded) -> None:
        """It has a request."""
        self._fresh.pop(connection, None)
        self._kept.pop(connection, None)

    def kept(self, connection: Guarded) -> None:
        """It has no request now."""
        if connection in self._open:
            self._kept[connection] = None

    def gone(self, connection: Guarded) -> None:
        self._open.discard(connection)
        self.busy(connection)


class Reader(asyncio.BufferedProtocol):
    """Reads for a protocol, so much at once: uvloop would read 256 KB into an `asyncio.Protocol`.

    Args:
        buffer: what one read is read into; all connections of an event loop may share it.
    """

    def __init__(self, protocol: asyncio.Protocol, buffer: memoryview) -> None:
        self._received = protocol.data_received
        self._buffer = buffer
        for name in (
            "connection_made", "connection_lost", "eof_received", "pause_writing", "resume_writing",
        ):  # fmt: skip
            setattr(self, name, getattr(protocol, name))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._received(bytes(self._buffer[:nbytes]))


class Guarded(asyncio.Protocol):
    """One connection: uvicorn's protocol with limits, for h11 and httptools."""

    guard: ClassVar[Connections]
    # Of uvicorn's protocol:
    cycle: Any
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport

    _head: asyncio.TimerHandle | None = None
    _rest: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None
    _received = 0
    _refused = False

    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if self.guard.admit(self):
            self._await_head()
        else:
            self._refuse()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head, self._rest, self._stalled):
            if timer is not None:
                timer.cancel()
        self.guard.gone(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        answered = self._rest is not None and self.cycle.more_body
        super().data_received(data)
        if not self._idle():
            self._has_head()
            return
        if answered:
            return  # it was the rest of a body, whose request is answered
        if self._head is None:
            self._await_head()
        self._received += len(data)
        if self._received > MAX_HEAD:
            self.hang_up(431, "RequestHeaderFieldsTooLarge", "the head has more than 64 KiB")

    def _await_head(self) -> None:
        self._received = 0
        self._head = self.loop.call_later(self.guard.head_timeout, self._late)

    def _has_head(self) -> None:
        self.guard.busy(self)
        for timer in (self._head, self._rest):
            if timer is not None:
                timer.cancel()
        self._head = self._rest = None

    def _late(self) -> None:
        if self._received:
            seconds = self.guard.head_timeout
            self.hang_up(408, "RequestTimeout", f"the head did not come within {seconds:g} s")
        else:
            self.hang_up()

    def _refuse(self) -> None:
        """Answer 503, and close a moment later: unread bytes would discard the answer."""
        self._refused = True
        refusal = answer(503, "Overloaded", "this server has too many connections", retry_after=1)
        self.transport.write(refusal)
        if self.guard.refused >= _REFUSED:
            return self.transport.close()
        self.guard.refused += 1

        def close() -> None:
            self.guard.refused -= 1
            self.transport.close()

        self.loop.call_later(_REFUSED_SECONDS, close)

    def hang_up(self, status: int | None = None, reason: str = "", message: str = "") -> None:
        """Close a connection without a request; with `status`, send an error answer first."""
        self._refused = True
        if status is not None:
            self.transport.write(answer(status, reason, message))
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        super().send_400_response(msg)  # type: ignore[misc]  # of uvicorn's protocol
        if self.transport.is_closing() and not self._idle():
            self.cycle.disconnected = True  # its own answer would be an error of h11
            self.cycle.message_event.set()

    def on_response_complete(self) -> None:
        """A request was answered; the rest of its body may still arrive."""
        super().on_response_complete()  # type: ignore[misc]  # of uvicorn's protocol
        cycle = self.cycle
        if not cycle.response_complete:  # the next request has begun
            return
        cycle.body = bytearray()  # the part that was not read
        self.guard.kept(self)
        if cycle.more_body and not self.transport.is_closing():
            self._rest = self.loop.call_later(_REST, self.hang_up)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(_STALLED, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None


def answer(status: int, reason: str, message: str, retry_after: int | None = None) -> bytes:
    """A complete HTTP answer with the documented body, which closes the connection."""
    body = json.dumps(failure(status, reason, message)).encode()
    head = [f"HTTP/1.1 {status} {reason}", "content-type: application/json"]
    head += [f"content-length: {len(body)}", "connection: close"]
    if retry_after is not None:
        head.append(f"retry-after: {retry_after}")
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body
