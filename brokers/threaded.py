"""`ThreadedBroker`, the base of built-in brokers: the driver's thread, and a queue of events."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from ticketlock import process
from ticketlock.aio.backoff import Backoff
from ticketlock.errors import EventBrokerError, TicketLockError
from ticketlock.publishing.broker import DELIVER_TIMEOUT, EventBroker
from ticketlock.publishing.message import (
    BrokerMessage,
    Outcome,
    Unsendable,
    in_order,
    poisoned,
    retry,
)
from ticketlock.settings.section import endpoint_values

T = TypeVar("T")
B = TypeVar("B", bound="ThreadedBroker")

log = logging.getLogger("ticketlock.brokers")

#: Published events that may wait in memory by default.
QUEUE_SIZE = 10_000

#: Published events that are sent as one batch, and seconds that it may take.
FEED_BATCH = 500
FEED_SECONDS = 5.0

#: Seconds between two attempts to send published events, the first pause and the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0

#: Seconds between two checks of an idle connection.
IDLE_SECONDS = 0.5

#: Seconds beyond its deadline after which `deliver` returns without the driver.
GRACE = 2.0


@dataclass
class EncodedMessage:
    """A message in the form in which it is sent."""

    message: BrokerMessage
    value: bytes

    @property
    def key(self) -> str:
        return self.message.conversation_id


class ThreadedBroker(EventBroker):
    """A broker whose driver runs in a thread of its own, which the first use starts.

    No call blocks the event loop, and no broker is bound to one. The methods that a backend
    implements run in that thread, one at a time, so batches stay in order. They may block until
    `end` (seconds of the monotonic clock); `left` returns the seconds until then.

    `publish` keeps events in memory until they are confirmed. They are sent again while the
    process lives, and are lost when it ends, which is logged. An outbox keeps them safe.
    """

    #: Kind and place of the broker, for error texts. Never with a secret.
    address = "the event broker"

    def __init__(self, queue_size: int = QUEUE_SIZE) -> None:
        self._waiting: deque[EncodedMessage] = deque()
        self._max_waiting = queue_size
        self._keep = True  # send events again that could not be sent
        self._next_feed = 0.0
        self._backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._closed = self._parents = False
        self._stop_at = float("inf")
        process.tell_of_forks(self)

    def forked(self) -> None:
        """In a forked child: what was started before is the parent's, as are the events it keeps."""
        self._starting, self._parents = threading.Lock(), self._thread is not None
        self._thread = None
        self._waiting.clear()

    @classmethod
    async def from_endpoint_config(
        cls: type[B], broker_config: Any, event_loop: Any = None, where: str = "event_broker"
    ) -> B | None:
        """Create a broker from a section and call its `start`; None for None.

        Raises ConfigurationError, and EventBrokerConnectionError if it connects at once.
        """
        if broker_config is None:
            return None
        make: Any = cls  # its constructor takes the section's keys
        broker: B = make(where=where, **endpoint_values(broker_config))
        try:
            await broker.start()
        except BaseException:
            await broker.close()
            raise
        return broker

    async def start(self) -> None:
        """Called by `from_endpoint_config` before it returns. Here it connects."""
        await self.connect()

    # -- implemented by a backend; all of it runs in the thread ---------------------------------

    def _open(self, end: float) -> None:
        """Connect unless connected. Raises EventBrokerConnectionError."""

    def _send(self, batch: Sequence[EncodedMessage], end: float) -> list[Outcome]:
        """Send in order, wait for the confirmations, return one outcome for each message."""
        raise NotImplementedError

    def _idle(self) -> None:
        """Called twice a second while there is no work."""

    def _shut(self, end: float) -> None:
        """Disconnect."""

    def left(self, end: float) -> float:
        """Seconds until `end`, or until the deadline of `close` if that is earlier."""
        return min(end, self._stop_at) - time.monotonic()

    # -- for users ---------------------------------------------------------------------------

    def publish(self, event: dict[str, Any], headers: Mapping[str, str] | None = None) -> None:
        """Queue one event and return at once. May be called from any thread.

        Raises EventBrokerError if the event is not JSON, if too many events wait already, and
        if the broker is closed. No event is dropped silently.
        """
        message = BrokerMessage.of_event(event, headers)
        wire = EncodedMessage(message, message.encode())
        self._check_parents()
        if self._closed:
            raise EventBrokerError(f"{self.address} is closed: the event is rejected")
        if len(self._waiting) >= self._max_waiting:
            raise EventBrokerError(
                f"{self.address}: {self._max_waiting} events wait already, the event is "
                "rejected: check that the broker is up"
            )
        self._waiting.append(wire)
        if len(self._waiting) == 1:
            self._submit(lambda: None)  # the thread checks the queue after every job

    async def deliver(
        self, batch: Sequence[BrokerMessage], timeout: float | None = None
    ) -> list[Outcome]:
        """See `EventBroker.deliver`. It waits for the confirmations of the broker."""
        messages = list(batch)
        if not messages:
            return []
        seconds = DELIVER_TIMEOUT if timeout is None else timeout
        end = time.monotonic() + seconds
        job = self._submit(lambda: self._attempt(messages, end))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(job), seconds + GRACE)
        except (asyncio.TimeoutError, TimeoutError):
            return [retry(f"{self.address}: the driver gave no answer in time")] * len(messages)

    async def connect(self, timeout: float | None = None) -> None:
        """Connect now. Raises EventBrokerConnectionError with the reason."""
        await self.connect_once(timeout)

    async def connect_once(self, timeout: float | None = None) -> None:
        """See `EventBroker.connect_once`."""
        end = time.monotonic() + (DELIVER_TIMEOUT if timeout is None else timeout)
        await self._call(lambda: self._open(end))

    async def close(self, timeout: float = 5.0) -> None:
        """Send the events that wait, then disconnect; all within `timeout` seconds."""
        with self._starting:
            first, self._closed = not self._closed, True
            thread = self._thread
        if thread is None or not first:
            self._report_lost()
            return
        self._stop_at = time.monotonic() + timeout * 0.8
        self._jobs.put(None)
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def wait() -> None:
            thread.join(timeout)
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(ended.set)

        # Not in asyncio's own pool, which may be full.
        threading.Thread(target=wait, daemon=True).start()
        await ended.wait()
        if thread.is_alive():
            log.error("%s: the driver did not stop in time; its thread is abandoned", self.address)
        self._report_lost()

    def _report_lost(self) -> None:
        if self._waiting:
            log.error(
                "%s: closed with %d published events unconfirmed; they are lost",
                self.address,
                len(self._waiting),
            )
            self._waiting.clear()

    # -- the thread ----------------------------------------------------------------------------

    async def _call(self, work: Callable[[], T]) -> T:
        """The result of `work`, done in the thread."""
        return await asyncio.wrap_future(self._submit(work))

    def _check_parents(self) -> None:
        if self._parents:
            raise EventBrokerError(
                f"{self.address}: this broker was in use before the fork and is the parent's: make "
                "another one in the child"
            )

    def _submit(self, work: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return  # the caller was cancelled
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001  # it is raised to the caller
                future.set_exception(error)
            else:
                future.set_result(result)

        self._check_parents()
        with self._starting:
            if self._closed:
                raise EventBrokerError(f"{self.address} is closed")
            if self._thread is None:
                name = f"ticketlock {type(self).__name__}"
                self._thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._thread.start()
            self._jobs.put(job)
        return future

    def _run(self) -> None:
        while True:
            pause = IDLE_SECONDS
            if self._waiting:
                pause = min(pause, max(0.0, self._next_feed - time.monotonic()))
            try:
                job = self._jobs.get(timeout=pause)
            except queue.Empty:
                self._guard(self._idle)
            else:
                if job is None:
                    break
                job()
            if self._waiting and time.monotonic() >= self._next_feed:
                self._guard(self._feed)
        while self._waiting and self.left(self._stop_at) > 0:
            self._guard(self._feed)
            pause = min(self._next_feed - time.monotonic(), self.left(self._stop_at))
            time.sleep(max(0.0, pause))
        self._stop_at = float("inf")
        self._guard(lambda: self._shut(time.monotonic() + 1.0))

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:
            # The thread must survive any error: if it ended, events would be lost silently.
            log.exception("%s: unexpected error", self.address)
            self._next_feed = time.monotonic() + 1.0

    def _attempt(self, messages: Sequence[BrokerMessage], end: float) -> list[Outcome]:
        batch, unsendable = list[EncodedMessage](), dict[int, Outcome]()
        for i, message in enumerate(messages):
            try:
                batch.append(EncodedMessage(message, message.encode()))
            except Unsendable as error:
                unsendable[i] = poisoned(error)
        outcomes = self._try(batch, end)
        for i, outcome in unsendable.items():
            outcomes.insert(i, outcome)
        return in_order(messages, outcomes)

    def _try(self, batch: Sequence[EncodedMessage], end: float) -> list[Outcome]:
        if not batch:
            return []
        if self.left(end) <= 0:
            return [retry(f"{self.address}: the time ran out before it was sent")] * len(batch)
        try:
            return self._send(batch, end)
        except TicketLockError as error:
            return [retry(error)] * len(batch)
        except Exception as error:
            log.exception("%s: unexpected error", self.address)
            return [retry(f"{self.address}: {type(error).__name__}: {error}")] * len(batch)

    def _feed(self) -> None:
        """Send the oldest published events, and keep those that must be sent again."""
        batch = [self._waiting[i] for i in range(min(FEED_BATCH, len(self._waiting)))]
        sent = self._try(batch, time.monotonic() + FEED_SECONDS)
        outcomes = in_order([wire.message for wire in batch], sent)
        again = []
        for wire, outcome in zip(batch, outcomes, strict=True):
            self._waiting.popleft()
            if outcome.status == "retry" and self._keep:
                again.append(wire)
            elif outcome.status != "delivered":
                who = f"an event of conversation {wire.key!r}"
                log.error("%s: %s is dropped: %s", self.address, who, outcome.reason)
        self._waiting.extendleft(reversed(again))
        if not again:
            self._backoff.reset()
            self._next_feed = 0.0
            return
        reason = next(o.reason for o in outcomes if o.status == "retry")
        level = logging.DEBUG if self._backoff.started else logging.WARNING
        log.log(level, "%d published events wait: %s", len(self._waiting), reason)
        self._next_feed = time.monotonic() + self._backoff.next()
