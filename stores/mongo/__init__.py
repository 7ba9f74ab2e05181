"""`MongoTrackerStore`, and what it is made of."""

from .store import MongoTrackerStore

__all__ = ["MongoTrackerStore"]
