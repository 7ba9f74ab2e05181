"""The backend for MongoDB: `MongoTrackerStore`."""

from .store import MongoTrackerStore

__all__ = ["MongoTrackerStore"]
