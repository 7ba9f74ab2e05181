"""`RedisTrackerStore`, and what it is made of."""

from .store import RedisTrackerStore

__all__ = ["RedisTrackerStore"]
