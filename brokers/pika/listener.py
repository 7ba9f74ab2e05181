"""Reads what is published to a RabbitMQ exchange from a queue of its own, for the demo."""

from __future__ import annotations

import contextlib
from typing import Any

import pika

from ticketlock.errors import EventBrokerConnectionError
from ticketlock.event_service.settings import ServiceSettings

from .reader import PikaReader, ReadingLink

#: Milliseconds after which the server deletes the queue of a listener that was killed.
EXPIRES = 600_000


class ListeningLink(ReadingLink):
    """A link that deletes its queue, which otherwise expires."""

    name = "ticketlock listener"

    def _declare_one(self, what: str, name: str, end: float, **wanted: Any) -> None:
        if what == "queue":
            wanted["arguments"] = {"x-expires": EXPIRES}
        super()._declare_one(what, name, end, **wanted)

    def delete_queue(self, end: float) -> None:
        """Delete the queue and its messages."""
        self._ask("queue_delete", end, queue=self.settings.queues[0])


class PikaListener(PikaReader):
    """Gets a copy of all messages that are published after `open`.

    Args:
        name: the queue's name, which no other program may use.
        keys: those of the section.
    """

    link_class = ListeningLink

    def __init__(self, name: str, *, where: str = "event_broker", **keys: Any) -> None:
        super().__init__(ServiceSettings(queue=name), where=where, **keys)

    def close(self, end: float) -> None:
        link = self._link
        if isinstance(link, ListeningLink) and link.is_consuming:
            # If it cannot be deleted now, it expires.
            with contextlib.suppress(EventBrokerConnectionError, pika.exceptions.AMQPError):
                link.delete_queue(end)
        super().close(end)
