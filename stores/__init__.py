"""Tracker stores, a folder for each backend: `from ticketlock.stores import SQLTrackerStore`.

A store and its driver are imported at their first use. In the core only
`ticketlock.endpoints.registry` names the backends.
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
