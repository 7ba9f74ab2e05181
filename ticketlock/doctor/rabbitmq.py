"""RabbitMQ: the queues, and whether they are read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from typing import Any, NamedTuple

from . import tls
from .finding import Finding, fault
from .visit import Visit

#: Messages in a queue from which on an absent consumer is worth a finding.
MANY = 1000

UNREAD = fault(
    "rabbitmq-unread", "warning",
    "The queue grows until the server's memory or disk is full; then it blocks its publishers, and events "
    "wait in the outbox.",
    "https://www.rabbitmq.com/docs/alarms",
)  # fmt: skip

TRANSIENT = fault(
    "rabbitmq-transient", "warning",
    "Another program has created this queue, as one that is not durable. A restart of the server deletes it, with "
    "confirmed events in it.",
    "https://www.rabbitmq.com/docs/queues#durability",
)  # fmt: skip


class Queue(NamedTuple):
    """What there is of a queue."""

    name: str
    messages: int
    consumers: int
    durable: bool


async def visit(section: str, settings: Any, timeout: float) -> Visit:
    """Look at the queues. Of a server that does not answer only what its settings say is judged."""
    found = Visit(settings.address, (section,))
    found.findings += tls.of_pika(section, settings)
    bounded = replace(settings, timeout=min(settings.timeout, timeout))
    try:
        queues = await asyncio.to_thread(_ask, bounded)
    except (import_module("pika").exceptions.AMQPError, OSError):
        return found  # the section's own check says why
    found.seen = ", ".join(f"queue {one.name}: {one.messages} messages" for one in queues)
    for queue in queues:
        found.findings += [*unread(queue), *transient(queue)]
    return found


def _ask(settings: Any) -> list[Queue]:
    pika: Any = import_module("pika")
    connection = pika.BlockingConnection(settings.connection_parameters("ticketlock doctor"))
    closed = pika.exceptions.ChannelClosedByBroker
    queues = []
    try:
        for name in settings.queues:
            try:  # passively, so that nothing is made
                state = connection.channel().queue_declare(name, passive=True).method
            except closed:
                continue  # it is made when the first event is sent
            durable = True
            try:
                connection.channel().queue_declare(name, durable=True)
            except closed as error:  # it is there with other properties
                durable = "'durable'" not in error.reply_text
            queues.append(Queue(name, state.message_count, state.consumer_count, durable))
    finally:
        connection.close()
    return queues


def unread(queue: Queue) -> Iterator[Finding]:
    """Events wait, and none is read. Source: the answer to a passive declaration."""
    if queue.messages >= MANY and not queue.consumers:
        yield UNREAD.found(
            f"queue {queue.name} has {queue.messages} messages and no consumer",
            "start the consumer (ticketlock events consume), or remove the queue from `queues`",
        )


def transient(queue: Queue) -> Iterator[Finding]:
    """A queue does not survive a restart. Source: a declaration that the server refuses."""
    if not queue.durable:
        yield TRANSIENT.found(
            f"queue {queue.name} is not durable",
            f"rabbitmqctl delete_queue {queue.name}, after its consumers have read it: a durable one is "
            "made then",
        )
