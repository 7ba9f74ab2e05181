"""The backend for DynamoDB: `DynamoTrackerStore`."""

from .store import DynamoTrackerStore

__all__ = ["DynamoTrackerStore"]
