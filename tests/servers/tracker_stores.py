"""The table of tracker stores that pass the same suite, and stores of one of them.

A line of the table names a context manager that starts a server once for all tests and gives a
function; each call of it makes a section (a mapping as in `endpoints.yml`) for a new, empty
database.
"""

from __future__ import annotations

from typing import Any

from ticketlock.endpoints.registry import create_tracker_store
from ticketlock.tracker.store import TrackerStore

TRACKER_STORES = {
    "memory": "servers.local:memory_sections",
    "sqlite": "servers.local:sqlite_sections",
    "postgres": "servers.postgres:tracker_sections",
    "mariadb": "servers.mariadb:tracker_sections",
    "redis": "servers.redis_tracker:tracker_sections",
    "redis-cluster": "servers.redis_tracker:cluster_sections",
    "mongo": "servers.mongo:tracker_sections",
    "dynamo": "servers.dynamo:tracker_sections",
}


class Stores:
    """An empty database, and any number of store objects on it, as replicas have them."""

    def __init__(self, backend: str, section: dict[str, Any]) -> None:
        self.backend = backend
        self.section = section
        self._open: list[TrackerStore] = []

    def open(self, **changes: Any) -> TrackerStore:
        """A store; a further one on the same data where more than one process can have it."""
        if self.backend == "memory" and self._open:
            return self._open[0]
        domain, broker = changes.pop("domain", None), changes.pop("event_broker", None)
        store = create_tracker_store({**self.section, **changes}, domain, broker)
        self._open.append(store)
        return store

    async def close(self) -> None:
        for store in self._open:
            await store.close()
        if self.backend != "memory":
            self._open.clear()
