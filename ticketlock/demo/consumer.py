"""The broker's side of a demo: a consumer that is connected before anything is published.

It gets the published events from the broker itself, beside other consumers, and takes no event
from them in a shared broker.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ..endpoints.file import EndpointConfig
from ..endpoints.registry import prepare_event_broker
from ..errors import EventBrokerConnectionError
from ..event_service.parsing import parse
from ..event_service.records import Limits, Received
from ..event_service.source import RawMessage, Source
from ..tracker.outbox import LEASE_MS, VOID_MS, DeadLetter, now_ms
from ..tracker.store import TrackerStore
from .judge.events import BrokerSnapshot
from .listeners import create_event_listener

T = TypeVar("T")

#: Seconds in which the broker must be connected.
OPEN_SECONDS = 20.0
#: Seconds without progress after which waiting events are given up: the conversations of a dead
#: relay are taken over after half a minute.
PATIENCE = LEASE_MS / 1000 + 15.0
#: Seconds between two reads of the outbox.
LOOK = 0.2
#: Most conversations and dead letters that are read of the outbox.
LISTED = 10_000
#: Most deliveries of one read, and seconds to wait for them.
BATCH, READ_SECONDS = 1000, 0.5
#: Seconds without an event of the demo after which no more are expected: if all have arrived, if
#: some are missing, and while the broker has more to read.
CALM, MISSING, BUSY = 0.4, 5.0, 60.0


class EventConsumer:
    """Consumes the events of one demo; an asynchronous context manager.

    Args:
        section: the section of the event broker.
        store: the tracker store, through an object that does not publish.
        run: the unique prefix of the ids of the demo's conversations.

    Attributes:
        broker: the type of the broker.
        unread: why events cannot be read; empty if they can.
    """

    def __init__(
        self, section: Mapping[str, Any], where: str, store: TrackerStore, run: str
    ) -> None:
        self._section, self._where = EndpointConfig(**section), where
        self._store, self._run = store, f"{run}:"
        self.broker = str(section.get("type") or "pika")
        self.unread = ""
        self._source: Source | None = None
        if not store.feeds_outbox:
            self.unread = "a custom tracker store has no outbox, and does not number its events"
        else:
            self._source = create_event_listener(section, f"ticketlock-{run}", where)
            if self._source is None:
                self.unread = f"the demo cannot read from {self.broker}"
        self._thread = ThreadPoolExecutor(1, "ticketlock demo")  # a source needs one thread
        self._alive: asyncio.Task[None] | None = None

    async def __aenter__(self) -> EventConsumer:
        """Connect as a publisher, which creates what the broker needs, then listen.

        Raises ConfigurationError, EventBrokerConnectionError.
        """
        broker = await prepare_event_broker(self._section, self._where)
        try:
            await broker.connect_once()
        finally:
            await broker.close()
        try:
            if self._source is not None:
                await self._call(self._source.open, time.monotonic() + OPEN_SECONDS)
                self._alive = asyncio.create_task(self._keep_alive(self._source))
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end_keep_alive()
        try:
            if self._source is not None:
                await self._call(self._source.close, time.monotonic() + 5.0)
        finally:
            self._thread.shutdown(wait=False)

    def _call(self, work: Callable[..., T], *args: Any) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    async def _end_keep_alive(self) -> None:
        if self._alive is not None:
            self._alive.cancel()
            await asyncio.gather(self._alive, return_exceptions=True)

    async def _keep_alive(self, source: Source) -> None:
        while True:
            await asyncio.sleep(1.0)
            await self._call(source.keep_alive)

    # -- the outbox ------------------------------------------------------------------------------

    async def drained(
        self, check: Callable[[], None], show: Callable[[int], None]
    ) -> frozenset[str]:
        """Wait until no event of the demo is in the outbox, or there is no progress.

        The replicas must still run, because their relays publish.

        Args:
            check: called repeatedly; its error ends the wait.
            show: called with the number of waiting conversations.

        Returns:
            The conversations that still wait.
        """
        least: tuple[float, float] = (float("inf"), float("inf"))
        moved_at = time.monotonic()
        while True:
            check()
            waiting, events = await self._waiting()
            show(len(waiting))
            # Other programs may add events: only a new minimum is progress.
            now_least = (min(least[0], len(waiting)), min(least[1], events))
            if now_least != least:
                least, moved_at = now_least, time.monotonic()
            if not waiting or time.monotonic() - moved_at > PATIENCE:
                return frozenset(waiting)
            await asyncio.sleep(LOOK)

    async def _waiting(self) -> tuple[list[str], int]:
        """The waiting conversations of the demo, and the number of all waiting events."""
        backlog = await self._store.outbox.backlog()
        if not backlog.events:
            return [], 0
        # As of the end of all leases, so that conversations which a relay has are included.
        names = await self._store.outbox.waiting(LISTED, now_ms() + VOID_MS)
        return [name for name in names if name.startswith(self._run)], backlog.events

    # -- the broker ------------------------------------------------------------------------------

    async def snapshot(
        self, wanted: int, waiting: frozenset[str], show: Callable[[int], None]
    ) -> BrokerSnapshot:
        """Read the events from the broker, once the replicas have ended.

        Args:
            wanted: the number of expected events; it waits longer while there are fewer.
            waiting: the result of `drained`.
            show: called with the number of events read.
        """
        arrived: dict[str, list[Received]] = {}
        await self._end_keep_alive()  # it pauses Kafka, which must be read now
        if self._source is not None:
            await self._read(self._source, wanted, arrived, show)
        dead_letters = {(one.sender_id, one.sequence): one.reason for one in await self._letters()}
        return BrokerSnapshot(self.broker, self.unread, arrived, waiting, dead_letters)

    async def _read(
        self,
        source: Source,
        wanted: int,
        arrived: dict[str, list[Received]],
        show: Callable[[int], None],
    ) -> None:
        names: set[tuple[str, int | None]] = set()
        count, came_at = 0, time.monotonic()
        while True:
            deliveries = await self._next(source)
            mine = [event for event in map(self._mine, deliveries) if event is not None]
            for event in mine:
                arrived.setdefault(event.sender_id, []).append(event)
                names.add((event.sender_id, event.sequence))
            show(count := count + len(mine))
            if mine:
                came_at = time.monotonic()
            elif not deliveries and await self._call(source.is_caught_up):
                if time.monotonic() - came_at > (CALM if len(names) >= wanted else MISSING):
                    return
            elif time.monotonic() - came_at > BUSY:
                return

    async def _next(self, source: Source) -> list[RawMessage]:
        """The next deliveries; none while the broker is unreachable."""
        try:
            if not source.is_ready:
                await self._call(source.open, time.monotonic() + OPEN_SECONDS)
            found = await self._call(source.read, BATCH, READ_SECONDS)
        except EventBrokerConnectionError:
            await asyncio.sleep(READ_SECONDS)
            return []
        await self._call(source.confirm, found)
        return found

    def _mine(self, delivery: RawMessage) -> Received | None:
        event = parse(delivery, Limits())
        mine = isinstance(event, Received) and event.sender_id.startswith(self._run)
        return event if mine else None  # type: ignore[return-value]  # see above

    async def _letters(self) -> list[DeadLetter]:
        letters = await self._store.outbox.dead_letters(LISTED)
        return [letter for letter in letters if letter.sender_id.startswith(self._run)]

    async def drop_dead_letters(self) -> None:
        """Delete the dead letters of the demo: deleting its conversations keeps them."""
        for letter in await self._letters():
            await self._store.outbox.remove_dead_letter(letter)
