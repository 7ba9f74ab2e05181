"""Batches of an export: sent until the fate of each event is known, with bounded patience."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...errors import EventBrokerConnectionError
from ..broker import DELIVER_TIMEOUT, EventBroker
from ..message import Message, Outcome, Unsendable

#: Bytes of JSON after which a batch is full: large events must not make one that no server
#: confirms within a deadline.
BATCH_BYTES = 4 * 2**20

#: Seconds before a retry: of the first one, doubled each time, and at most.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0

#: Seconds that an interrupted export waits for the confirmations of what has been sent.
STOP_SECONDS = 3.0


@dataclass
class Entry:
    """An event on its way, or a conversation that cannot be read.

    Attributes:
        sequence, message: None for such a conversation.
        finished: how many conversations are through before this one.
        outcome: None while it is not known; never `retry`.
    """

    conversation_id: str
    sequence: int | None
    finished: int
    message: Message | None = None
    outcome: Outcome | None = None


class Batch:
    """Entries in the order of the export."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = 0
        self.entries: list[Entry] = []

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)
        if entry.message is not None:
            with contextlib.suppress(Unsendable):  # the broker will say so
                self._bytes += len(entry.message.encode())

    @property
    def is_full(self) -> bool:
        return len(self.entries) >= self._most or self._bytes >= BATCH_BYTES

    def waiting(self) -> list[Entry]:
        """What is still to be confirmed."""
        return [entry for entry in self.entries if entry.outcome is None]

    def settled(self) -> list[Entry]:
        """What comes before the first entry that waits: an export goes on behind that."""
        for number, entry in enumerate(self.entries):
            if entry.outcome is None:
                return self.entries[:number]
        return self.entries


class Delivery:
    """Sends batches; waits for a broker that is away, but not for ever.

    Args:
        patience: seconds without any confirmation after which it gives up.
        say: is told, once for each outage, that the broker is waited for.
    """

    def __init__(self, broker: EventBroker, patience: float, say: Callable[[str], None]) -> None:
        self._broker = broker
        self._patience = patience
        self._say = say
        self._since = 0.0  # of the event loop's clock: when all was well
        self._pause = 0.0  # 0: all is well

    async def connect(self) -> None:
        """Reach the broker. Raises EventBrokerConnectionError, at once if waiting is no help."""
        self._well()
        while True:
            try:
                return await self._broker.connect_once()
            except EventBrokerConnectionError as error:
                if not error.again:
                    raise
                await self._wait(str(error))

    async def send(self, batch: Batch) -> None:
        """Send until no entry waits. What is confirmed is noted, however this ends.

        Raises EventBrokerConnectionError when patience is at its end, and EventBrokerError
        from a broker that is closed.
        """
        self._well()
        while waiting := batch.waiting():
            outcomes = await self._attempt(waiting)
            if any(entry.outcome is not None for entry in waiting):
                self._well()
            if batch.waiting():
                await self._wait(next(o.reason for o in outcomes if o.status == "retry"))

    def _well(self) -> None:
        self._since, self._pause = asyncio.get_running_loop().time(), 0.0

    def _left(self) -> float:
        return self._since + self._patience - asyncio.get_running_loop().time()

    async def _wait(self, reason: str) -> None:
        left = self._left()
        if left <= 0:
            raise EventBrokerConnectionError(
                f"{reason}; nothing was confirmed for {self._patience:g} s"
            )
        if not self._pause:
            self._say(f"{reason}; waiting for it for up to {left:.0f} s")
        self._pause = min(self._pause * 2 or FIRST_PAUSE, LONGEST_PAUSE)
        await asyncio.sleep(min(self._pause, left))

    async def _attempt(self, entries: Sequence[Entry]) -> list[Outcome]:
        messages = [entry.message for entry in entries if entry.message is not None]
        timeout = min(DELIVER_TIMEOUT, max(1.0, self._left()))
        attempt = asyncio.ensure_future(self._broker.deliver(messages, timeout))
        attempt.add_done_callback(lambda _: _note(entries, attempt))
        try:
            return await asyncio.shield(attempt)
        except asyncio.CancelledError:
            # What is under way is waited for, so that the continuation does not repeat it.
            await asyncio.wait([attempt], timeout=STOP_SECONDS)
            attempt.cancel()
            raise


def _note(entries: Sequence[Entry], attempt: asyncio.Future[list[Outcome]]) -> None:
    if attempt.cancelled() or attempt.exception() is not None:
        return
    for entry, outcome in zip(entries, attempt.result(), strict=True):
        if outcome.status != "retry":
            entry.outcome = outcome
