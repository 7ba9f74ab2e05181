"""Listeners of a broker's events: only the demo has them, beside the consumers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..endpoints.file import EndpointConfig
from ..endpoints.registry import import_backend, type_of
from ..event_service.source import Source
from ..settings.section import endpoint_values

#: `type` of an `event_broker` section -> its listener, which takes no event from the consumers.
EVENT_LISTENERS = {
    "pika": "ticketlock.brokers.pika.listener:PikaListener",
    "kafka": "ticketlock.brokers.kafka.listener:KafkaListener",
    "sql": "ticketlock.brokers.sql.listener:SQLListener",
    "file": "ticketlock.brokers.file.listener:FileListener",
}


def create_event_listener(section: Any, name: str, where: str = "event_broker") -> Source | None:
    """The listener that gets all events published to the broker of a section after its `open`.

    Args:
        name: a unique name for its queue or consumer group at the server.

    Returns None for a custom broker, which the demo cannot read. Raises ConfigurationError.
    """
    if isinstance(section, Mapping):
        section = EndpointConfig(**section)
    kind = type_of("event_broker", section)
    if kind not in EVENT_LISTENERS:
        return None
    values = endpoint_values(section)
    listener = import_backend(EVENT_LISTENERS[kind], kind, where, values)
    return listener(name, where=where, **values)  # type: ignore[no-any-return]  # ours
