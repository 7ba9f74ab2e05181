"""Replies before they are stored: told to who listens, here and in other processes."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

from ..process import clock
from .listener import Listener

log = logging.getLogger("ticketlock.inbox")

#: Bytes of the replies in one bell, and replies that wait for one at most: the oldest go first.
MAX_BELL, MAX_UNSENT = 16_384, 256
#: Seconds after which listeners may have come, and between two questions while there are none.
_ASK = 1.0


class Saying:
    """What the turn of a message says, told to the listeners of this process.

    Args:
        listeners: finds them.
    """

    def __init__(self, listeners: Callable[[], Sequence[Listener]]) -> None:
        self._listeners = listeners
        self._count = 0

    def say(self, reply: dict[str, Any]) -> None:
        """Tell them of a reply, which is not stored yet."""
        for listener in list(self._listeners()):
            if listener.on_reply is not None:
                listener.on_reply(reply, self._count)
        self._count += 1

    def close(self) -> None:
        """The bot has ended."""


#: Rings the bells of listeners elsewhere, with the index of the first reply and the replies as JSON;
#: gives how many were rung; below 0: the turn is another's.
Ring = Callable[[int, str], "asyncio.Future[int]"]


class SayingAfar(Saying):
    """The same, told to the listeners of other processes too: best effort, one call at a time.

    What is said during a call goes with the next one. Without listeners it asks for some once a
    second, when something was said.

    Args:
        ring: tells the others.
        wanted: whether there are listeners elsewhere.
    """

    def __init__(
        self, listeners: Callable[[], Sequence[Listener]], ring: Ring, wanted: bool
    ) -> None:
        super().__init__(listeners)
        self._ring = ring
        #: Replies that were not told, with their indices.
        self._unsent: list[tuple[int, dict[str, Any]]] = []
        self._ringing = self._closed = False
        self._next = 0.0 if wanted else clock() + _ASK
        self._timer: asyncio.TimerHandle | None = None

    def say(self, reply: dict[str, Any]) -> None:
        self._unsent.append((self._count, reply))
        del self._unsent[:-MAX_UNSENT]
        super().say(reply)
        self._plan()

    def _plan(self) -> None:
        """Ring now, or as soon as that may be."""
        if self._closed or self._ringing or not self._unsent or self._timer is not None:
            return
        pause = self._next - clock()
        if pause > 0:
            self._timer = asyncio.get_running_loop().call_later(pause, self._send)
        else:
            self._send()

    def _send(self) -> None:
        self._timer = None
        first, texts = self._batch()
        if not texts:
            self._unsent.clear()
            return
        self._ringing = True
        rung = self._ring(first, f"[{', '.join(texts)}]")
        last = first + len(texts) - 1
        rung.add_done_callback(lambda done: self._rung(done, last))

    def _batch(self) -> tuple[int, list[str]]:
        """The replies of the next bell as JSON, and the index of the first."""
        first, size, texts = 0, 0, list[str]()
        for index, reply in self._unsent:
            text = json.dumps(reply)
            size += len(text) + 2
            if size > MAX_BELL:
                if texts:
                    break
                size = 0  # no bell holds it: it comes with the outcome
            else:
                first = first if texts else index
                texts.append(text)
        return first, texts

    def _rung(self, done: asyncio.Future[int], last: int) -> None:
        self._ringing = False
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if error is not None:
            log.debug("replies were not told to other processes: %s", error)
        count = done.result() if error is None else 0
        if count < 0:
            self._closed = True
        more = [one for one in self._unsent if one[0] > last]
        if count > 0:
            self._unsent, self._next = more, 0.0
        else:
            self._next = clock() + _ASK
        if more:  # else what is said next asks again
            self._plan()

    def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
