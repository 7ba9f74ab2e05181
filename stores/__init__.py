"""Tracker stores, one folder a backend: `from ticketlock.stores import SQLTrackerStore`.

Each is imported, with its driver, at its first use. Core names them in `ticketlock.endpoints.registry` alone.
"""

from typing import TYPE_CHECKING

from ticketlock.imports import late

if TYPE_CHECKING:
    from .dynamo.store import DynamoTrackerStore
    from .memory import InMemoryTrackerStore
    from .mongo.store import MongoTrackerStore
    from .redis.store import RedisTrackerStore
    from .sql.store import SQLTrackerStore

__all__ = [
    "DynamoTrackerStore",
    "InMemoryTrackerStore",
    "MongoTrackerStore",
    "RedisTrackerStore",
    "SQLTrackerStore",
]

_LATE = {
    "DynamoTrackerStore": "dynamo", "InMemoryTrackerStore": "memory", "MongoTrackerStore": "mongo",
    "RedisTrackerStore": "redis", "SQLTrackerStore": "sql",
}  # fmt: skip
_EXTRAS = {"DynamoTrackerStore": "dynamo", "MongoTrackerStore": "mongo", "SQLTrackerStore": "sql"}

if not TYPE_CHECKING:
    __getattr__, __dir__ = late(__name__, _LATE, _EXTRAS)
