"""What httptools leaves to its user, and h11 does itself: bounds of trailers and of requests behind
one, and upgrades that are ignored."""

from __future__ import annotations

import asyncio
import re
from collections import deque
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
    pipeline: deque[Any]
    scope: Any
    transport: asyncio.Transport

    #: Bytes since the last one of a body: of trailers, or beside the sizes of chunks.
    _beside = 0

    def data_received(self, data: bytes) -> None:
        end = data.find(b"\r\n\r\n")
        if end > 0 and _UPGRADE.search(data, 0, end):
            data = _UPGRADE.sub(b"ignored", data[:end]) + data[end:]
        self._beside += len(data)
        super().data_received(data)
        if self.cycle is None or not self.cycle.more_body:
            self._beside = 0
        elif self._beside > 2 * MAX_HEAD:
            self.transport.abort()
        busy = self.cycle is not None and not self.cycle.response_complete
        if busy and self.scope is not self.cycle.scope:  # the head of the next one is not whole
            self.flow.pause_reading()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.cycle is None or self.scope is not self.cycle.scope:  # else it is a trailer
            super().on_header(name, value)  # type: ignore[misc]  # of uvicorn's protocol

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= _PIPELINED:
            raise ValueError("too many requests behind one")  # it is answered 400
        super().on_headers_complete()  # type: ignore[misc]

    def on_body(self, body: bytes) -> None:
        self._beside = 0
        super().on_body(body)  # type: ignore[misc]
