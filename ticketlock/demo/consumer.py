"""The broker's side of a demo: a consumer that is there before anything is published.

It gets what the relays publish from the broker itself, beside everybody else's consumers: what
others have in a broker that is shared stays theirs.
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
from .judge.events import Heard
from .listeners import create_event_listener

T = TypeVar("T")

#: Seconds for connecting.
OPEN_SECONDS = 20.0
#: Seconds without anything being published after which what waits is given up: a dead relay's
#: conversations are taken over after half a minute.
PATIENCE = LEASE_MS / 1000 + 15.0
#: Seconds between two looks at the outbox.
LOOK = 0.2
#: Conversations of the outbox that are looked at.
LISTED = 10_000
#: Deliveries that are read at once, and seconds to wait for them.
BATCH, READ_SECONDS = 1000, 0.5
#: Seconds in which nothing of ours must come before it is believed that no more will: once all
#: is there, while something is missing, and while the broker has more to read.
CALM, MISSING, BUSY = 0.4, 5.0, 60.0


class Listening:
    """What one demo hears of its own conversations; an asynchronous context manager.

    Args:
        section: of the event broker.
        store: the tracker store, through an object that publishes nothing itself.
        run: what the ids of the demo's conversations begin with, as nobody else's do.

    Attributes:
        broker: its type.
        unread: why nothing of it can be read; empty where it can.
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
        self._thread = ThreadPoolExecutor(1, "ticketlock demo")  # a source wants one thread
        self._breath: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Listening:
        """Reach the broker as a publisher does, which makes what is to be there, and listen.

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
                self._breath = asyncio.create_task(self._breathe(self._source))
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._hold_breath()
        try:
            if self._source is not None:
                await self._call(self._source.close, time.monotonic() + 5.0)
        finally:
            self._thread.shutdown(wait=False)

    def _call(self, work: Callable[..., T], *args: Any) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    async def _hold_breath(self) -> None:
        if self._breath is not None:
            self._breath.cancel()
            await asyncio.gather(self._breath, return_exceptions=True)

    async def _breathe(self, source: Source) -> None:
        while True:
            await asyncio.sleep(1.0)
            await self._call(source.keep_alive)

    # -- the outbox ------------------------------------------------------------------------------

    async def drained(
        self, check: Callable[[], None], show: Callable[[int], None]
    ) -> frozenset[str]:
        """Wait until nothing of the demo waits in the outbox, or nothing moves any more.

        The replicas must be running still: their relays do the work.

        Args:
            check: called again and again; what it raises ends the waiting.
            show: told how many conversations wait.

        Returns:
            The conversations that still wait.
        """
        least: tuple[float, float] = (float("inf"), float("inf"))
        moved_at = time.monotonic()
        while True:
            check()
            waiting, events = await self._waiting()
            show(len(waiting))
            # Of what others have waiting there may come more: only less than ever is progress.
            now_least = (min(least[0], len(waiting)), min(least[1], events))
            if now_least != least:
                least, moved_at = now_least, time.monotonic()
            if not waiting or time.monotonic() - moved_at > PATIENCE:
                return frozenset(waiting)
            await asyncio.sleep(LOOK)

    async def _waiting(self) -> tuple[list[str], int]:
        """The demo's conversations that wait, and how many events of anybody do."""
        backlog = await self._store.outbox.backlog()
        if not backlog.events:
            return [], 0
        # Before the end of any lease, so those that a relay has are among them.
        names = await self._store.outbox.waiting(LISTED, now_ms() + VOID_MS)
        return [name for name in names if name.startswith(self._run)], backlog.events

    # -- the broker ------------------------------------------------------------------------------

    async def heard(
        self, wanted: int, waiting: frozenset[str], show: Callable[[int], None]
    ) -> Heard:
        """Read what the broker has, once the replicas have ended.

        Args:
            wanted: how many different events will come if all is well; for fewer it waits.
            waiting: what `drained` returned.
            show: told how many events have been read.
        """
        arrived: dict[str, list[Received]] = {}
        await self._hold_breath()  # for Kafka that is a pause, which reading would begin with anew
        if self._source is not None:
            await self._read(self._source, wanted, arrived, show)
        buried = {(one.sender_id, one.sequence): one.reason for one in await self._letters()}
        return Heard(self.broker, self.unread, arrived, waiting, buried)

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
        """What comes next; nothing while the broker is away, which it is asked for again."""
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
        return event if mine else None  # type: ignore[return-value]  # what it is, see above

    async def _letters(self) -> list[DeadLetter]:
        letters = await self._store.outbox.dead_letters(LISTED)
        return [letter for letter in letters if letter.sender_id.startswith(self._run)]

    async def forget(self) -> None:
        """Remove the demo's dead letters, which deleting its conversations does not."""
        for letter in await self._letters():
            await self._store.outbox.remove_dead_letter(letter)
