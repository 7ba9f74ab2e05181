"""`DynamoTrackerStore`, and what it is made of."""

from .store import DynamoTrackerStore

__all__ = ["DynamoTrackerStore"]
