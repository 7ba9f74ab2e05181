"""Bounds that hold before there is a request: how many connections, how long a head may take.

uvicorn has neither: a connection that says nothing, or one byte a minute, stays for ever.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any, ClassVar

from .errors import failure

log = logging.getLogger("ticketlock.server")

#: Bytes of a head.
MAX_HEAD = 64 * 1024
#: Bytes that are read at once: so much of a body is in memory before anybody has asked for it.
_READ = 64 * 1024
#: Seconds in which the rest of a body must come that was answered before it had ended.
_REST = 2.0
#: Seconds for which a client may take nothing of its answer.
_STALLED = 30.0
#: Connections that were refused and may read so, and for how many seconds.
_PARTING, _PART_AFTER = 100, 0.5


class Connections:
    """All connections of a server.

    Where there are too many, one that waits for nothing makes room for the new one: those that
    never sent a request go first, then those that are kept for a next one.

    Args:
        most: connections.
        head_timeout: seconds in which the head of a request must have come, from the opening of
            the connection or, on one that is kept, from its first byte.
    """

    def __init__(self, most: int, head_timeout: float) -> None:
        self.head_timeout = head_timeout
        self._most = most
        self._open: set[Guarded] = set()
        self._fresh: dict[Guarded, None] = {}
        self._kept: dict[Guarded, None] = {}
        self.parting = 0

    def protocol(self) -> type[asyncio.Protocol]:
        """uvicorn's protocol, guarded; of the parser that uvicorn would take."""
        from uvicorn.protocols.http.auto import AutoHTTPProtocol

        return type("GuardedProtocol", (Guarded, AutoHTTPProtocol), {"guard": self})

    def admit(self, connection: Guarded) -> bool:
        """Whether there is room for it, if need be that of an idle one."""
        if len(self._open) >= self._most:
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
        """It has a request now."""
        self._fresh.pop(connection, None)
        self._kept.pop(connection, None)

    def kept(self, connection: Guarded) -> None:
        """It has none, for now."""
        if connection in self._open:
            self._kept[connection] = None

    def gone(self, connection: Guarded) -> None:
        self._open.discard(connection)
        self.busy(connection)


class Guarded(asyncio.Protocol):
    """One connection: what uvicorn's protocol does, within bounds."""

    guard: ClassVar[Connections]
    # Of uvicorn's protocol:
    cycle: Any
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport

    _head: asyncio.TimerHandle | None = None
    _rest: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None
    _heard = 0
    _refused = False

    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if hasattr(transport, "max_size"):  # asyncio's own; other loops read as they like
            transport.max_size = _READ
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
        if self._idle() and self._head is None:
            self._await_head()
        self._heard += len(data)
        super().data_received(data)
        if not self._idle():
            self._has_head()
        elif self._heard > MAX_HEAD and self._head is not None:
            self.hang_up(431, "RequestHeaderFieldsTooLarge", "the head has more than 64 KiB")

    def _await_head(self) -> None:
        self._heard = 0
        self._head = self.loop.call_later(self.guard.head_timeout, self._late)

    def _has_head(self) -> None:
        self.guard.busy(self)
        for timer in (self._head, self._rest):
            if timer is not None:
                timer.cancel()
        self._head = self._rest = None

    def _late(self) -> None:
        if self._heard:
            seconds = self.guard.head_timeout
            self.hang_up(408, "RequestTimeout", f"the head did not come within {seconds:g} s")
        else:
            self.hang_up()

    def _refuse(self) -> None:
        """Say so, and leave a moment to read it: closed with unread bytes it would be lost."""
        self._refused = True
        says = answer(503, "Overloaded", "this server has too many connections", retry_after=1)
        self.transport.write(says)
        if self.guard.parting >= _PARTING:
            return self.transport.close()
        self.guard.parting += 1

        def part() -> None:
            self.guard.parting -= 1
            self.transport.close()

        self.loop.call_later(_PART_AFTER, part)

    def hang_up(self, status: int | None = None, reason: str = "", message: str = "") -> None:
        """Close a connection that has no request, and say why where somebody may read it."""
        self._refused = True
        if status is not None:
            self.transport.write(answer(status, reason, message))
        self.transport.close()

    def on_response_complete(self) -> None:
        """A request was answered; some of its body may still be on its way."""
        super().on_response_complete()  # type: ignore[misc]  # of uvicorn's protocol
        cycle = self.cycle
        if not cycle.response_complete:  # the next request had come already
            return
        cycle.body = bytearray()  # what nobody has asked for
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
    """A whole HTTP answer, with the documented body, after which the connection is closed."""
    body = json.dumps(failure(status, reason, message)).encode()
    head = [f"HTTP/1.1 {status} {reason}", "content-type: application/json"]
    head += [f"content-length: {len(body)}", "connection: close"]
    if retry_after is not None:
        head.append(f"retry-after: {retry_after}")
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body
