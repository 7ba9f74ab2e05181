"""The backend for Redis: `RedisTrackerStore`."""

from .store import RedisTrackerStore

__all__ = ["RedisTrackerStore"]
