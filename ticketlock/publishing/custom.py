"""A broker class of somebody else, with plain or async methods, as an `EventBroker`."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from typing import Any

from ..errors import ConfigurationError, EventBrokerError
from .broker import EventBroker

log = logging.getLogger("ticketlock.brokers")

#: Events that an async `publish` may leave waiting; more are refused.
MOST_WAITING = 10_000

#: Seconds that `close` gives the events that still wait, and then the class inside.
CLOSE_SECONDS = 5.0


class CustomEventBroker(EventBroker):
    """Calls the documented methods of the class inside, and brings `deliver` if it has none.

    Plain methods are called in the event loop, where such classes expect to be called: one
    that waits holds up everything. An async `publish` is awaited in the background, one event
    after the other; what it raises is logged and the event is tried again.
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
        """A broker from `kind.from_endpoint_config`; what that raises comes out as it is."""
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
        """Call `publish` inside; an async one is queued, in order."""
        if self._closed:
            raise EventBrokerError("the event broker is closed")
        if not inspect.iscoroutinefunction(self.inner.publish):
            return self.inner.publish(event)
        if len(self._waiting) >= MOST_WAITING:
            raise EventBrokerError(f"the event is rejected: {MOST_WAITING} events wait already")
        self._waiting.append(event)
        if self._feeder is None or self._feeder.done():
            self._feeder = asyncio.get_running_loop().create_task(self._feed())
        return None

    async def _feed(self) -> None:
        pause = 0.1
        while self._waiting:
            try:
                await self.inner.publish(self._waiting[0])
            except Exception:
                log.exception("the event broker did not accept an event; it is tried again")
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)
                continue
            self._waiting.popleft()
            pause = 0.1

    def _hand_over(self, document: dict[str, Any]) -> Any:
        return self.inner.publish(document)

    def is_ready(self) -> bool:
        """What the class inside says; for an async method what it said last time."""
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
        """Call `connect` inside, if there is one."""
        if hasattr(self.inner, "connect"):
            answer = self.inner.connect()
            if inspect.isawaitable(answer):
                await answer

    async def close(self) -> None:
        """Let waiting events go, then call `close` inside; each within 5 s."""
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
