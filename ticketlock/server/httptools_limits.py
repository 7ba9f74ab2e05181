"""What httptools leaves to its user, and h11 does itself: bounds of trailers and of requests behind
one, the order of answers, and upgrades that are ignored."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable
from typing import Any

from .connections import MAX_HEAD

#: Most requests that may come behind one that is not answered.
_PIPELINED = 16
#: The name of the header Upgrade. httptools takes what follows it for another protocol, and drops
#: the body; Java asks for h2c in the first request of each connection.
_UPGRADE = re.compile(rb"(?<=\r\n)upgrade(?=[ \t]*:)", re.IGNORECASE)


class HttptoolsLimits(asyncio.Protocol):
    """A connection's part in front of uvicorn's protocol of httptools."""

    # Of uvicorn's protocol:
    cycle: Any
    flow: Any
    parser: Any
    pipeline: deque[Any]
    scope: Any
    transport: asyncio.Transport
    _unset_keepalive_if_required: Callable[[], None]

    #: Bytes since the last one of a body: of trailers, or beside the sizes of chunks.
    _beside = 0
    #: Whether what comes next is a head from its start.
    _at_head = True
    #: The request that is answered now, or was last; `cycle` is the one that came last.
    _answered: Any = None
    #: Why the rest of the connection is not read; answered after the requests before it.
    _invalid = ""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        #: What has come of a head: the parser gets it whole, as the name of a header may be split.
        self._partial = bytearray()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)  # it looks at the last request only
        if self._answered is not None and not self._answered.response_complete:
            self._answered.disconnected = True
            self._answered.message_event.set()

    def data_received(self, data: bytes) -> None:
        if self._invalid:
            self.flow.pause_reading()
            return
        if self._at_head and not (data := self._whole(data)):
            self._unset_keepalive_if_required()
        else:
            self._beside += len(data)
            super().data_received(data)
            if self.cycle is None or not self.cycle.more_body:
                self._beside = 0
            elif self._beside > 2 * MAX_HEAD:
                self.transport.abort()
        busy = self.cycle is not None and not self.cycle.response_complete
        if busy and (self._partial or self.scope is not self.cycle.scope):
            self.flow.pause_reading()  # the head of the next one is not whole

    def _whole(self, data: bytes) -> bytes:
        """The head with what has come behind it; empty if it is not whole."""
        if not self._partial:
            data = data.lstrip(b"\r\n")  # some clients send a line end behind a body
        if self._partial:
            looked = max(0, len(self._partial) - 3)
            self._partial += data
            end = self._partial.find(b"\r\n\r\n", looked)
            if end >= 0:
                data = bytes(self._partial)
                self._partial.clear()
        elif (end := data.find(b"\r\n\r\n")) < 0:
            if data and not data[:1].isalpha():
                return data  # it is no head, as TLS is none: it is refused at once
            self._partial += data
        if end < 0:
            return b""
        if _UPGRADE.search(data, 0, end):
            data = _UPGRADE.sub(b"ignored", data[:end]) + data[end:]
        return data

    def on_message_begin(self) -> None:
        self._at_head = False
        super().on_message_begin()  # type: ignore[misc]

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.cycle is None or self.scope is not self.cycle.scope:  # else it is a trailer
            super().on_header(name, value)  # type: ignore[misc]  # of uvicorn's protocol

    def on_headers_complete(self) -> None:
        # What is raised here is answered 400.
        if len(self.pipeline) >= _PIPELINED:
            raise ValueError("too many requests behind one")
        if self.parser.should_upgrade():  # behind another request, or CONNECT
            raise ValueError("what follows would be of another protocol")
        super().on_headers_complete()  # type: ignore[misc]

    def on_body(self, body: bytes) -> None:
        self._beside = 0
        super().on_body(body)  # type: ignore[misc]

    def on_message_complete(self) -> None:
        self._at_head = True
        if not self.parser.should_keep_alive():  # a trailer may say so too: no more is parsed
            self.cycle.keep_alive = False
        super().on_message_complete()  # type: ignore[misc]
        self.cycle.more_body = False  # also of a request that is answered

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)  # type: ignore[misc]

    def on_response_complete(self) -> None:
        super().on_response_complete()  # type: ignore[misc]
        if self._invalid and self._answered.response_complete and not self.transport.is_closing():
            super().send_400_response(self._invalid)  # type: ignore[misc]

    def send_400_response(self, msg: str) -> None:
        """Answer 400 and close, after the answers to the requests before."""
        first = self._answered
        if first is None or first.response_complete or first.more_body:
            super().send_400_response(msg)  # type: ignore[misc]
            return
        self._invalid = msg
        if self.pipeline and self.cycle.more_body:  # it is the one that is invalid
            self.pipeline.popleft()
