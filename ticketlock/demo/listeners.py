"""What hears the events of a broker: only the demo does, beside all who consume them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..endpoints.file import EndpointConfig
from ..endpoints.registry import import_backend, type_of
from ..event_service.source import Source
from ..settings.section import endpoint_values

#: `type` of an `event_broker` section -> what hears it beside all others, and takes nothing away
#: from them.
EVENT_LISTENERS = {
    "pika": "ticketlock.brokers.pika.listener:PikaListener",
    "kafka": "ticketlock.brokers.kafka.listener:KafkaListener",
    "sql": "ticketlock.brokers.sql.listener:SQLListener",
    "file": "ticketlock.brokers.file.listener:FileListener",
}


def create_event_listener(section: Any, name: str, where: str = "event_broker") -> Source | None:
    """What hears all that is published to the broker of a section from its `open` on.

    Args:
        name: of what it needs for itself at the server; nobody else's.

    None for a type that is none of ours: how it is read is not known. Raises ConfigurationError.
    """
    if isinstance(section, Mapping):
        section = EndpointConfig(**section)
    kind = type_of("event_broker", section)
    if kind not in EVENT_LISTENERS:
        return None
    values = endpoint_values(section)
    listener = import_backend(EVENT_LISTENERS[kind], kind, where, values)
    return listener(name, where=where, **values)  # type: ignore[no-any-return]  # ours
