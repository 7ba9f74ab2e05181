"""The position of a reader in a RabbitMQ stream, which does not store positions of readers."""

from __future__ import annotations

import time
from hashlib import sha256
from typing import Any, Literal

#: Seconds within which the server delivers the message at the position again.
AWAITED = 5.0


class StreamPosition:
    """The last confirmed message. Reading resumes with this one, not after it.

    So a stream that was deleted and created again is noticed: there the offset belongs to another
    message, or does not exist. Then the whole stream is read, and the database drops duplicates.

    Attributes:
        is_stream: whether the queue is a stream. A consumer of a stream must give a position, or
            it gets new messages only.
        is_awaited: whether the message at the position has not come yet.
    """

    def __init__(self) -> None:
        self.is_stream = False
        self.is_awaited = False
        self._since = 0.0
        self._last: tuple[int, bytes] | None = None

    def begin(self) -> dict[str, Any]:
        """Arguments for a new consumer: the position from which to read."""
        self.is_awaited, self._since = self._last is not None, time.monotonic()
        return {"x-stream-offset": "first" if self._last is None else self._last[0]}

    def judge(self, offset: int, body: bytes) -> Literal["new", "known", "other stream"]:
        """Whether a message is new, the one at the position, or of another stream."""
        if not self.is_stream:
            # The default of its virtual host made the queue a stream; the server does not say so.
            self.is_stream = True
            return "other stream"
        if not self.is_awaited or self._last is None:
            return "new"
        self.is_awaited = False
        if self._last == (offset, sha256(body).digest()):
            return "known"
        # A stream skips messages that it no longer has.
        return "new" if offset > self._last[0] else "other stream"

    @property
    def is_overdue(self) -> bool:
        """Whether the message at the position does not come: then it is another stream."""
        return self.is_awaited and time.monotonic() - self._since > AWAITED

    def note(self, offset: int, body: bytes) -> None:
        """Note that this message and all before it are confirmed."""
        self._last = offset, sha256(body).digest()

    def forget(self) -> None:
        """Read from the first message the next time."""
        self._last, self.is_awaited = None, False
