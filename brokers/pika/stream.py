"""Where a reader is in a RabbitMQ stream, which itself keeps no place for anybody."""

from __future__ import annotations

import time
from hashlib import sha256
from typing import Any, Literal

#: Seconds within which the server gives out again the message that reading is resumed with.
AWAITED = 5.0


class StreamPlace:
    """The last message that was confirmed; reading is resumed with that one, not behind it.

    So a stream that was deleted and made again meanwhile is noticed: there the number belongs to
    another message, or to none. Then all of it is read; what is known already is dropped where
    it is stored.

    Attributes:
        is_stream: the queue is a stream. Without saying where to begin one gets only what is
            published from then on.
        is_awaited: the message that reading is resumed with has not come yet.
    """

    def __init__(self) -> None:
        self.is_stream = False
        self.is_awaited = False
        self._since = 0.0
        self._last: tuple[int, bytes] | None = None

    def begin(self) -> dict[str, Any]:
        """What a new consumer tells the server."""
        self.is_awaited, self._since = self._last is not None, time.monotonic()
        return {"x-stream-offset": "first" if self._last is None else self._last[0]}

    def judge(self, offset: int, body: bytes) -> Literal["new", "known", "elsewhere"]:
        """What a message is: to be read, the one resumed with, or that of another stream."""
        if not self.is_stream:
            # The queue has become one by its virtual host's default, which nothing tells.
            self.is_stream = True
            return "elsewhere"
        if not self.is_awaited or self._last is None:
            return "new"
        self.is_awaited = False
        if self._last == (offset, sha256(body).digest()):
            return "known"
        # What the stream keeps no longer it skips.
        return "new" if offset > self._last[0] else "elsewhere"

    @property
    def is_overdue(self) -> bool:
        """The message that reading is resumed with does not come: it is another stream."""
        return self.is_awaited and time.monotonic() - self._since > AWAITED

    def note(self, offset: int, body: bytes) -> None:
        """This message, and all before it, have been confirmed."""
        self._last = offset, sha256(body).digest()

    def forget(self) -> None:
        """Begin with the first message the next time."""
        self._last, self.is_awaited = None, False
