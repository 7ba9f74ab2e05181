"""A user's own broker class, with plain or async methods, as an `EventBroker`."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from typing import Any

from ..aio.backoff import Backoff
from ..errors import ConfigurationError, EventBrokerError
from .broker import EventBroker

log = logging.getLogger("ticketlock.brokers")

#: Events that may wait for an async `publish`; more are refused.
MAX_WAITING = 10_000

#: Seconds that `close` waits for the waiting events, and then for `close` of the wrapped broker.
CLOSE_SECONDS = 5.0

#: Seconds between two attempts of an async `publish`, the first pause and the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0


class CustomEventBroker(EventBroker):
    """Calls the documented methods of the wrapped broker, and adds `deliver` if it has none.

    Plain methods run in the event loop, as such classes expect: one that blocks delays all
    other work. An async `publish` is awaited in the background, one event after the other; its
    errors are logged, and the event is sent again.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self._waiting: deque[dict[str, Any]] = deque()
        self._feeder: asyncio.Task[None] | None = None
        self._asking: asyncio.Future[Any] | None = None
        self._ready = True
        self._closed = False

    @classmethod
    async def make(cls, kind: type[Any], config: Any, where: str) -> EventBroker:
        """Create a broker by `kind.from_endpoint_config`, whose errors are passed on.

        Raises ConfigurationError if the class lacks a method, or returns None.
        """
        lacking = [name for name in ("from_endpoint_config", "publish") if not _own(kind, name)]
        if lacking:
            raise ConfigurationError(f"{where}: type: {kind.__name__} has no {', '.join(lacking)}")
        made = kind.from_endpoint_config(config)
        if inspect.isawaitable(made):
            made = await made
        if made is None:
            raise ConfigurationError(
                f"{where}: type: {kind.__name__}.from_endpoint_config returned None"
            )
        own = getattr(type(made), "deliver", EventBroker.deliver) is not EventBroker.deliver
        return made if own and isinstance(made, EventBroker) else cls(made)

    def publish(self, event: dict[str, Any]) -> Any:
        """Call `publish` of the wrapped broker; for an async one the event is queued."""
        if self._closed:
            raise EventBrokerError("the event broker is closed")
        if not inspect.iscoroutinefunction(self.inner.publish):
            return self.inner.publish(event)
        if len(self._waiting) >= MAX_WAITING:
            raise EventBrokerError(f"the event is rejected: {MAX_WAITING} events wait already")
        self._waiting.append(event)
        if self._feeder is None or self._feeder.done():
            self._feeder = asyncio.get_running_loop().create_task(self._feed())
        return None

    async def _feed(self) -> None:
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while self._waiting:
            try:
                await self.inner.publish(self._waiting[0])
            except Exception:
                log.exception("the event broker did not accept an event; it is tried again")
                await asyncio.sleep(backoff.next())
                continue
            self._waiting.popleft()
            backoff.reset()

    def _publish_now(self, document: dict[str, Any]) -> Any:
        return self.inner.publish(document)

    def is_ready(self) -> bool:
        """The answer of the wrapped broker; of an async method its previous answer."""
        if not hasattr(self.inner, "is_ready"):
            return not self._closed
        answer = self.inner.is_ready()
        if not inspect.isawaitable(answer):
            return bool(answer)
        if self._asking is None or self._asking.done():
            self._asking = asyncio.ensure_future(answer)
            self._asking.add_done_callback(self._answered)
        elif inspect.iscoroutine(answer):
            answer.close()
        return self._ready

    def _answered(self, asking: asyncio.Future[Any]) -> None:
        failed = asking.cancelled() or asking.exception() is not None
        self._ready = not failed and bool(asking.result())

    async def connect(self) -> None:
        """Call `connect` of the wrapped broker, if it has one."""
        if hasattr(self.inner, "connect"):
            answer = self.inner.connect()
            if inspect.isawaitable(answer):
                await answer

    async def close(self) -> None:
        """Publish waiting events, then close the wrapped broker; each within 5 s."""
        if self._closed:
            return
        self._closed = True
        if self._feeder is not None and not self._feeder.done():
            await asyncio.wait([self._feeder], timeout=CLOSE_SECONDS)
            self._feeder.cancel()
            await asyncio.gather(self._feeder, return_exceptions=True)
        if self._waiting:
            log.error("%d published events were not sent and are lost", len(self._waiting))
        if self._asking is not None:
            self._asking.cancel()
        if hasattr(self.inner, "close"):
            answer = self.inner.close()
            if inspect.isawaitable(answer):
                await asyncio.wait_for(answer, CLOSE_SECONDS)


def _own(kind: type[Any], name: str) -> bool:
    """Whether the class or a base of it, other than EventBroker, has the method."""
    return any(name in vars(base) for base in kind.__mro__ if base is not EventBroker)
