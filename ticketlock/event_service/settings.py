"""The keys of the `event_service` section that say how to read; the others say where to store."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..settings import Section

#: Keys of the section, less those of the SQL tracker store, in the order of the README's table.
SERVICE_KEYS = ("group", "instance", "queue")


@dataclass(frozen=True)
class ServiceSettings:
    """Checked settings of the event service.

    Attributes:
        group: Kafka's consumer group; its members share the work.
        instance: Kafka: a name that this member keeps when it comes back; None for none.
        queue: RabbitMQ's queue to read; None: the first one of the broker's section.
    """

    group: str = "ticketlock-event-service"
    instance: str | None = None
    queue: str | None = None

    @classmethod
    def take(cls, section: Section) -> ServiceSettings:
        """Take the keys out of `section`; the caller takes the others and finishes it."""
        group = section.text("group", None)
        if group == "":
            raise section.error("group", "is empty: give the consumer group a name, or leave it")
        instance = section.text("instance", None) or None
        if instance and not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", instance):
            raise section.error(
                "instance", f"{instance!r} is not 1 to 100 letters, digits, dots, _ and -"
            )
        return cls(
            group=group or cls.group,
            instance=instance,
            queue=section.text("queue", None) or None,
        )
