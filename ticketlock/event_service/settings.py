"""The keys of the `event_service` section about reading; the others are about the database."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from ..settings.keys import Key
from ..settings.section import Section


def _instance(name: str) -> str | None:
    if not name or re.fullmatch(r"[A-Za-z0-9._-]{1,100}", name):
        return None
    return f"{name!r} is not 1 to 100 letters, digits, dots, _ and -"


def _group(name: str) -> str | None:
    return None if name else "is empty: give the consumer group a name, or leave it out"


@dataclass(frozen=True)
class ServiceSettings:
    """Checked settings of the event service, without the keys of its database."""

    group: Annotated[str, Key("Kafka: consumer group", check=_group)] = "ticketlock-event-service"
    instance: Annotated[
        str | None,
        Key("Kafka: a unique name for this instance; after a restart within 10 s it "
            "continues at once with its partitions", check=_instance),
    ] = None  # fmt: skip
    queue: Annotated[
        str | None, Key("RabbitMQ: queue to read", shown="the first of the broker's `queues`")
    ] = None

    @classmethod
    def take(cls, section: Section) -> ServiceSettings:
        """Take the keys out of `section`; the caller takes the others and finishes it."""
        keys = section.values(cls)
        return cls(keys["group"], keys["instance"] or None, keys["queue"] or None)
