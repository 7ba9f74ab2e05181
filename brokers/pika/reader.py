"""Reads the events of a RabbitMQ queue, as one of several competing consumers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pika

from ticketlock.errors import EventBrokerConnectionError
from ticketlock.event_service.settings import ServiceSettings
from ticketlock.event_service.source import RawMessage, Source
from ticketlock.settings.section import Section

from .link import PikaLink
from .parameters import PikaSettings
from .stream import StreamPosition

#: Messages that the server sends before earlier ones are confirmed.
PREFETCH = 2000
#: Seconds to wait for more messages after the first.
GATHER = 0.02
#: Bytes after which a batch is full.
MAX_BYTES = 8 * 2**20


class ReadingLink(PikaLink):
    """A link that also consumes a queue; the messages wait in `inbox`."""

    name = "ticketlock event service"

    def __init__(self, settings: PikaSettings) -> None:
        super().__init__(settings)
        self.inbox: deque[RawMessage] = deque()
        #: Grows with every channel: messages of an earlier one cannot be confirmed any more.
        self.channel_number = 0
        self.place = StreamPosition()

    @property
    def is_consuming(self) -> bool:
        """Whether the connection is open and the queue is consumed."""
        return self._bound and self.is_open and self._channel.is_open

    def _open_channel(self, end: float) -> None:
        self.inbox.clear()  # the server delivers these again
        self.channel_number += 1
        super()._open_channel(end)

    def _is_other(self, what: str, error: BaseException) -> None:
        self.place.is_stream |= what == "queue" and "'stream'" in str(error)

    def _declare(self, end: float) -> None:
        super()._declare(end)
        self._bound = False
        self._channel.add_on_cancel_callback(self._on_cancel)
        self._ask("basic_qos", end, prefetch_count=PREFETCH)
        queue, number = self.settings.queues[0], self.channel_number

        def arrived(channel: Any, method: Any, properties: Any, body: bytes) -> None:
            offset = (properties.headers or {}).get("x-stream-offset")
            verdict = "new" if offset is None else self.place.judge(offset, body)
            if verdict == "other stream":
                self.begin_anew()
            elif verdict == "new" and number == self.channel_number:
                token = (number, method.delivery_tag, offset)
                self.inbox.append(RawMessage(body, f"queue {queue}", False, token))

        started: list[Any] = []
        arguments = self.place.begin() if self.place.is_stream else {}
        self._channel.basic_consume(queue, arrived, arguments=arguments, callback=started.append)
        self._wait(self._channel, started, end)
        self._bound = True

    def begin_anew(self) -> None:
        """Leave the channel; the next one reads a stream from its first message."""
        self.place.forget()
        self._bound = False
        if self._channel.is_open:
            self._channel.close()

    def ack(self, tag: int) -> None:
        """Confirm all messages of the channel up to this one."""
        self._channel.basic_ack(tag, multiple=True)
        self.keep_alive()

    def _on_cancel(self, _: Any) -> None:
        """The queue was deleted: declare it again."""
        self.reason = ConnectionError("the queue was deleted")
        self.place = StreamPosition()
        self.forget_topology()


class PikaReader(Source):
    """A consumer that acknowledges messages by `confirm` only.

    It declares the exchange and its queue as the publisher does, so either may start first. The
    server distributes messages among consumers, so the events of a conversation arrive in any
    order. A stream delivers all of its messages to each new process; the database drops
    duplicates.

    Args:
        service: its `queue` names the queue; without it, the first of `queues` is used.
    """

    link_class = ReadingLink

    def __init__(
        self, service: ServiceSettings, *, where: str = "event_broker", **keys: Any
    ) -> None:
        settings = PikaSettings.read(Section(keys, where))
        queue = service.queue or settings.queues[0]
        self.settings = replace(settings, queues=(queue,))
        self.address = f"{settings.address}, queue {queue}"
        self._link: ReadingLink | None = None

    def open(self, end: float) -> None:
        link = self._link = self._link or self.link_class(self.settings)
        try:
            link.open(end)
        except pika.exceptions.ChannelClosedByBroker as error:
            raise link.explain(error) from error

    @property
    def is_ready(self) -> bool:
        return self._link is not None and self._link.is_consuming

    def read(self, limit: int, seconds: float) -> list[RawMessage]:
        link = self._consuming()
        inbox = link.inbox
        link.pump(lambda: inbox or not link.is_consuming, time.monotonic() + seconds)
        if inbox:
            gathered = time.monotonic() + GATHER
            link.pump(lambda: len(inbox) >= limit or not link.is_consuming, gathered)
        found: list[RawMessage] = []
        size = 0
        while inbox and len(found) < limit and size < MAX_BYTES:
            found.append(inbox.popleft())
            size += len(found[-1].body)
        if not found:
            if link.place.is_overdue:
                link.begin_anew()
            self._consuming()
        return found

    def _consuming(self) -> ReadingLink:
        link = self._link
        if link is None:
            raise EventBrokerConnectionError(f"{self.address}: not connected yet")
        if not link.is_consuming:
            raise link.explain(link.reason or ConnectionError("the connection was lost"))
        return link

    def confirm(self, messages: Sequence[RawMessage]) -> None:
        link = self._link
        if link is None:
            return
        if messages and messages[-1].token[2] is not None:
            link.place.note(messages[-1].token[2], messages[-1].body)
        if not link.is_consuming:
            return
        tags = [tag for number, tag, _ in (d.token for d in messages)
                if number == link.channel_number]  # fmt: skip
        if tags:
            link.ack(max(tags))

    def is_caught_up(self) -> bool:
        return self._link is None or not self._link.place.is_awaited

    def keep_alive(self) -> None:
        if self._link is not None:
            self._link.keep_alive()

    def close(self, end: float) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()
