"""The table of tracker stores that pass the same suite.

A line names a context manager that starts a server once for all tests and gives a function;
each call of it makes a section (a mapping as in `endpoints.yml`) for a new, empty database.
"""

from __future__ import annotations

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
