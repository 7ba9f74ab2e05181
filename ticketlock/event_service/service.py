"""The loop of the event service: read a batch, store it, then confirm it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ..aio.backoff import Backoff
from ..errors import EventBrokerConnectionError
from .database import EventDatabase, EventDatabaseError, StoreResult
from .parsing import parse
from .records import Received, Reject
from .source import RawMessage, Source
from .watch import GapWatch

T = TypeVar("T")

log = logging.getLogger("ticketlock.events")

#: Messages that are stored in one transaction, at most.
BATCH = 1000
#: Seconds that one read waits for messages; a stop is noticed within this time.
READ_SECONDS = 0.25
#: Seconds that one attempt to connect may take.
OPEN_SECONDS = 5.0
#: Seconds between two attempts, the first and the longest.
BACKOFF = (0.2, 5.0)
#: Seconds beyond `until_idle` after which the service ends even if messages are left: by then
#: the broker has delivered again what a dead instance held.
IDLE_LIMIT = 30.0
#: Seconds for disconnecting from the broker.
CLOSE_SECONDS = 5.0


class EventService:
    """Moves events from a source into a database, until it is stopped.

    A message is confirmed after the transaction that stores it: if the process dies before,
    the message is delivered again, and dropped as a duplicate if it was stored. While the
    database or the broker is away the service waits, and confirms no messages.

    Attributes:
        done: counts of stored, duplicate and rejected messages so far.
    """

    def __init__(
        self,
        source: Source,
        database: EventDatabase,
        *,
        until_idle: float | None = None,
        report: Callable[[StoreResult], None] | None = None,
        batch: int = BATCH,
    ) -> None:
        self._source = source
        self._database = database
        self._until_idle = until_idle
        self._report = report or (lambda _: None)
        self._batch = batch
        self._watch = GapWatch(database)
        self._stop: asyncio.Event | None = None
        self._stopped_early = False
        self._thread = ThreadPoolExecutor(1, "ticketlock event source")
        self.done = StoreResult()

    def stop(self) -> None:
        """Finish the current batch and end. Must be called in the event loop."""
        self._stopped_early = True
        if self._stop is not None:
            self._stop.set()

    async def run(self) -> StoreResult:
        """Work until `stop`, or until no message has come for `until_idle` seconds.

        Returns:
            What was done.

        Raises:
            EventBrokerConnectionError: the broker cannot be used, and waiting cannot help.
            EventDatabaseError: the same for the database; or the service was stopped while the
                current batch could not be stored: its messages stay with the broker.
        """
        self._stop = asyncio.Event()
        if self._stopped_early:
            self._stop.set()
        try:
            await self._start()
            await self._work()
            if not self._stop.is_set():
                await self._watch.look(last=True)
        finally:
            end = time.monotonic() + CLOSE_SECONDS
            await self._call(lambda: self._source.close(end))
            self._thread.shutdown(wait=False)
        return self.done

    # -- the source's thread -----------------------------------------------------------------

    async def _call(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _keeping_alive(self, work: Awaitable[T]) -> T:
        """Await `work` while the source keeps its connection alive."""
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait({task}, timeout=1.0))[0]:
                await self._call(self._source.keep_alive)
        finally:
            task.cancel()
        return await task

    async def _pause(self, seconds: float) -> None:
        """Wait, or until `stop` if that is earlier."""
        assert self._stop is not None  # made by run

        async def stopped() -> None:
            try:
                await asyncio.wait_for(self._stopping(), seconds)
            except (asyncio.TimeoutError, TimeoutError):
                return

        await self._keeping_alive(stopped())

    async def _stopping(self) -> Any:
        assert self._stop is not None  # made by run
        return await self._stop.wait()

    # -- the loop ------------------------------------------------------------------------------

    async def _start(self) -> None:
        await self._again(self._database.open, "the database", first=True)
        await self._connect(first=True)
        if not self._stopped_early:
            log.info("reading from %s, writing to %s", self._source.address, self._database.address)

    async def _connect(self, *, first: bool = False) -> None:
        def open_() -> None:
            self._source.open(time.monotonic() + OPEN_SECONDS)

        await self._again(lambda: self._call(open_), "the broker", first=first)

    async def _again(
        self, work: Callable[[], Awaitable[T]], what: str, *, first: bool = False
    ) -> T | None:
        """Repeat `work` until it succeeds; None if the service is stopped before.

        With `first` an error that waiting cannot cure is raised.
        """
        assert self._stop is not None  # made by run
        backoff = Backoff(*BACKOFF)
        while not self._stop.is_set() or not backoff.started:
            try:
                result = await self._keeping_alive(work())
            except (EventBrokerConnectionError, EventDatabaseError) as error:
                if first and not error.again:
                    raise
                level = logging.DEBUG
                if not backoff.started or backoff.at_limit:
                    level = logging.WARNING
                log.log(level, "waiting for %s: %s", what, error)
                self._last_error: Exception = error
                await self._pause(backoff.next())
            else:
                if backoff.started:
                    log.info("%s answers again", what)
                return result
        return None

    async def _work(self) -> None:
        assert self._stop is not None  # made by run
        busy = time.monotonic()
        while not self._stop.is_set():
            try:
                batch = await self._call(lambda: self._source.read(self._batch, READ_SECONDS))
            except EventBrokerConnectionError as error:
                log.warning("waiting for the broker: %s", error)
                await self._pause(BACKOFF[0])
                await self._connect()
                batch, busy = [], time.monotonic()  # an outage does not count as idle time
            if batch:
                await self._store(batch)
                await self._call(lambda batch=batch: self._source.confirm(batch))  # type: ignore[misc]
                self._report(self.done)
            if batch or not self._source.is_ready:
                busy = time.monotonic()
            elif await self._is_idle(time.monotonic() - busy):
                return
            await self._look()

    async def _is_idle(self, seconds: float) -> bool:
        if self._until_idle is None or seconds < self._until_idle:
            return False
        # Do not wait for ever for messages that another instance never confirms.
        return seconds > self._until_idle + IDLE_LIMIT or await self._call(
            self._source.is_caught_up
        )

    async def _store(self, batch: Sequence[RawMessage]) -> None:
        limits = self._database.limits
        parsed = [parse(message, limits) for message in batch]
        events = [one for one in parsed if isinstance(one, Received)]
        rejects = [one for one in parsed if isinstance(one, Reject)]
        for reject in rejects[:3]:
            log.warning("rejected a message of %s: %s", reject.origin, reject.reason)
        found = await self._again(lambda: self._database.store(events, rejects), "the database")
        if found is None:
            raise EventDatabaseError(
                f"stopped while {len(batch)} events could not be stored; they stay with the "
                f"broker: {self._last_error}"
            )
        if not self.done.stored and found.stored:
            log.info("the first %d events are stored", found.stored)
        self.done.add(found)
        self._watch.note(found.gaps)
        self.done.gaps.clear()  # the watch remembers them

    async def _look(self) -> None:
        try:
            await self._watch.look()
        except EventDatabaseError as error:
            log.debug("cannot look for gaps: %s", error)
