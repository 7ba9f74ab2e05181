"""Replies before they are stored: told to who listens, here and in other processes."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

from ..locks.deadlines import DeadlineWatch
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
        unheard: has those that wait until they may ask.
        wanted: whether there are listeners elsewhere.

    Attributes:
        deadline: moment of `clock()` from which on it may ask.
    """

    def __init__(
        self,
        listeners: Callable[[], Sequence[Listener]],
        ring: Ring,
        unheard: Unheard,
        wanted: bool,
    ) -> None:
        super().__init__(listeners)
        self._ring, self._unheard = ring, unheard
        #: Replies that were not told, with their indices.
        self._unsent: list[tuple[int, dict[str, Any]]] = []
        self._ringing = self._closed = False
        self.deadline = 0.0 if wanted else clock() + _ASK

    def say(self, reply: dict[str, Any]) -> None:
        self._unsent.append((self._count, reply))
        del self._unsent[:-MAX_UNSENT]
        super().say(reply)
        self.plan()

    def plan(self) -> None:
        """Ring now, or as soon as that may be."""
        if self._closed or self._ringing or not self._unsent:
            return
        if self.deadline > clock():
            self._unheard.add(self)
        else:
            self._send()

    def _send(self) -> None:
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
            self._unsent, self.deadline = more, 0.0
        else:
            self.deadline = clock() + _ASK
        if more:  # else what is said next asks again
            self.plan()

    def close(self) -> None:
        self._closed = True
        self._unheard.discard(self)


class Unheard:
    """Those that have said something and wait until they may ask for listeners: one timer for all."""

    def __init__(self) -> None:
        self._waiting: set[SayingAfar] = set()
        self._watch = DeadlineWatch(lambda: self._waiting, self._due)

    def add(self, saying: SayingAfar) -> None:
        self._waiting.add(saying)
        self._watch.watch(saying)

    def discard(self, saying: SayingAfar) -> None:
        self._waiting.discard(saying)

    def _due(self, saying: SayingAfar) -> None:
        self.discard(saying)
        saying.plan()
