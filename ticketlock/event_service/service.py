"""The loop of the event service: read a batch, store it, and only then confirm it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ..errors import EventBrokerConnectionError
from .database import EventDatabase, EventDatabaseError, Stored
from .parsing import parse
from .records import Received, Reject
from .source import Delivery, Source
from .watch import GapWatch

T = TypeVar("T")

log = logging.getLogger("ticketlock.events")

#: Most messages that are stored in one transaction.
BATCH = 1000
#: Seconds that one attempt to read waits; a stop is noticed within this time.
READ_SECONDS = 0.25
#: Seconds that one attempt to connect may take.
OPEN_SECONDS = 5.0
#: Seconds between two attempts, the first and the longest.
BACKOFF = (0.2, 5.0)
#: Seconds beyond `until_idle` after which it does not matter that there is something left to
#: read: what a dead instance held has been given out again by then.
IDLE_LIMIT = 30.0
#: Seconds for parting from the broker.
CLOSE_SECONDS = 5.0


class EventService:
    """Moves events from a source into a database, until it is stopped.

    A message is confirmed when the transaction that stores it is over: a process that dies
    leaves nothing unread, and what it had stored without confirming it comes again and is
    dropped. While the database or the broker is away it waits, and confirms nothing.

    Attributes:
        done: what has been stored, dropped and rejected so far.
    """

    def __init__(
        self,
        source: Source,
        database: EventDatabase,
        *,
        until_idle: float | None = None,
        report: Callable[[Stored], None] | None = None,
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
        self.done = Stored()

    def stop(self) -> None:
        """Finish the batch in hand and end; to be called in the event loop."""
        self._stopped_early = True
        if self._stop is not None:
            self._stop.set()

    async def run(self) -> Stored:
        """Work until `stop`, or until nothing has come for `until_idle` seconds.

        Returns what was done. Raises EventBrokerConnectionError and EventDatabaseError where
        trying again cannot help at the start, and EventDatabaseError when it is stopped while
        the batch in hand cannot be stored: that stays with the broker.
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

    async def _breathing(self, work: Awaitable[T]) -> T:
        """Wait for something while the source keeps its connection alive."""
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait({task}, timeout=1.0))[0]:
                await self._call(self._source.breathe)
        finally:
            task.cancel()
        return await task

    async def _pause(self, seconds: float) -> None:
        """Wait, but not longer than until `stop`."""
        assert self._stop is not None  # made by run

        async def stopped() -> None:
            try:
                await asyncio.wait_for(self._stopping(), seconds)
            except (asyncio.TimeoutError, TimeoutError):
                return

        await self._breathing(stopped())

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
        """Do something until it succeeds; None when it is stopped before.

        With `first` an error that no waiting cures is raised.
        """
        assert self._stop is not None  # made by run
        pause, longest = BACKOFF
        failed = 0
        while not self._stop.is_set() or not failed:
            try:
                result = await self._breathing(work())
            except (EventBrokerConnectionError, EventDatabaseError) as error:
                if first and not error.again:
                    raise
                failed += 1
                level = logging.WARNING if failed == 1 or pause == longest else logging.DEBUG
                log.log(level, "waiting for %s: %s", what, error)
                self._last_error: Exception = error
                await self._pause(pause)
                pause = min(pause * 2, longest)
            else:
                if failed:
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
                batch, busy = [], time.monotonic()  # while it was away nothing was idle
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
        # What another instance holds on to for ever shall not hold up this one.
        return seconds > self._until_idle + IDLE_LIMIT or await self._call(
            self._source.is_caught_up
        )

    async def _store(self, batch: Sequence[Delivery]) -> None:
        limits = self._database.limits
        parsed = [parse(delivery, limits) for delivery in batch]
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
        self.done.gaps.clear()  # the watch keeps what matters of them

    async def _look(self) -> None:
        try:
            await self._watch.look()
        except EventDatabaseError as error:
            log.debug("cannot look for gaps: %s", error)
