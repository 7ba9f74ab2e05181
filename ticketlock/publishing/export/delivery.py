"""Sends the batches of an export until the outcome of each event is known, or gives up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...aio.backoff import Backoff
from ...errors import EventBrokerConnectionError
from ..broker import DELIVER_TIMEOUT, EventBroker
from ..message import BrokerMessage, Outcome, Unsendable

#: Bytes of JSON after which a batch is full, so that a server can confirm it within the deadline.
BATCH_BYTES = 4 * 2**20

#: Seconds between two attempts, the first pause and the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0

#: Seconds that an interrupted export waits for outstanding confirmations.
STOP_SECONDS = 3.0


@dataclass
class ExportEntry:
    """An event to send, or a conversation that cannot be read.

    Attributes:
        sequence, message: None for a conversation that cannot be read.
        finished: how many conversations are complete before this one.
        outcome: None until it is known; never `retry`.
    """

    conversation_id: str
    sequence: int | None
    finished: int
    message: BrokerMessage | None = None
    outcome: Outcome | None = None


class ExportBatch:
    """Entries in the order of the export.

    Args:
        limit: the number of entries after which the batch is full.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self.entries: list[ExportEntry] = []

    def add(self, entry: ExportEntry) -> None:
        self.entries.append(entry)
        if entry.message is not None:
            with contextlib.suppress(Unsendable):  # the broker will say so
                self._bytes += len(entry.message.encode())

    @property
    def is_full(self) -> bool:
        return len(self.entries) >= self._limit or self._bytes >= BATCH_BYTES

    def waiting(self) -> list[ExportEntry]:
        """The entries whose outcome is not known yet."""
        return [entry for entry in self.entries if entry.outcome is None]

    def settled(self) -> list[ExportEntry]:
        """The entries before the first that waits; a resumed export goes on after them."""
        for number, entry in enumerate(self.entries):
            if entry.outcome is None:
                return self.entries[:number]
        return self.entries


class RetryingPublisher:
    """Sends batches, and waits for a broker that is away, for a limited time.

    Args:
        patience: seconds without any confirmation after which it gives up.
        say: called once for each outage, with the reason and how long it will wait.
    """

    def __init__(self, broker: EventBroker, patience: float, say: Callable[[str], None]) -> None:
        self._broker = broker
        self._patience = patience
        self._say = say
        self._since = 0.0  # time of the last success, by the event loop's clock
        self._backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)

    async def connect(self) -> None:
        """Connect. Raises EventBrokerConnectionError, at once if waiting is useless."""
        self._succeeded()
        while True:
            try:
                return await self._broker.connect_once()
            except EventBrokerConnectionError as error:
                if not error.again:
                    raise
                await self._wait(str(error))

    async def send(self, batch: ExportBatch) -> None:
        """Send until no entry waits. Outcomes are noted in the batch even if this raises.

        Raises EventBrokerConnectionError if it gives up, and EventBrokerError if the broker is
        closed.
        """
        self._succeeded()
        while waiting := batch.waiting():
            outcomes = await self._attempt(waiting)
            if any(entry.outcome is not None for entry in waiting):
                self._succeeded()
            if batch.waiting():
                await self._wait(next(o.reason for o in outcomes if o.status == "retry"))

    def _succeeded(self) -> None:
        self._since = asyncio.get_running_loop().time()
        self._backoff.reset()

    def _left(self) -> float:
        return self._since + self._patience - asyncio.get_running_loop().time()

    async def _wait(self, reason: str) -> None:
        left = self._left()
        if left <= 0:
            raise EventBrokerConnectionError(
                f"{reason}; nothing was confirmed for {self._patience:g} s"
            )
        if not self._backoff.started:
            self._say(f"{reason}; waiting for it for up to {left:.0f} s")
        await asyncio.sleep(min(self._backoff.next(), left))

    async def _attempt(self, entries: Sequence[ExportEntry]) -> list[Outcome]:
        messages = [entry.message for entry in entries if entry.message is not None]
        timeout = min(DELIVER_TIMEOUT, max(1.0, self._left()))
        attempt = asyncio.ensure_future(self._broker.deliver(messages, timeout))
        attempt.add_done_callback(lambda _: _note(entries, attempt))
        try:
            return await asyncio.shield(attempt)
        except asyncio.CancelledError:
            # Wait for outstanding confirmations, so that a resumed export does not repeat them.
            await asyncio.wait([attempt], timeout=STOP_SECONDS)
            attempt.cancel()
            raise


def _note(entries: Sequence[ExportEntry], attempt: asyncio.Future[list[Outcome]]) -> None:
    if attempt.cancelled() or attempt.exception() is not None:
        return
    for entry, outcome in zip(entries, attempt.result(), strict=True):
        if outcome.status != "retry":
            entry.outcome = outcome
