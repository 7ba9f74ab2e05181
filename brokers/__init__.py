"""Event brokers, a folder for each backend: `from ticketlock.brokers import KafkaEventBroker`.

A broker and its driver are imported at their first use. In the core only
`ticketlock.endpoints.registry` names the backends.
"""

from typing import TYPE_CHECKING

from ticketlock.imports import late

if TYPE_CHECKING:
    from .file.broker import FileEventBroker
    from .kafka.broker import KafkaEventBroker
    from .pika.broker import PikaEventBroker
    from .sql.broker import SQLEventBroker

__all__ = ["FileEventBroker", "KafkaEventBroker", "PikaEventBroker", "SQLEventBroker"]

_LATE = {
    "FileEventBroker": "file", "KafkaEventBroker": "kafka", "PikaEventBroker": "pika",
    "SQLEventBroker": "sql",
}  # fmt: skip
_EXTRAS = {"KafkaEventBroker": "kafka", "PikaEventBroker": "pika", "SQLEventBroker": "sql"}

if not TYPE_CHECKING:
    __getattr__, __dir__ = late(__name__, _LATE, _EXTRAS)
