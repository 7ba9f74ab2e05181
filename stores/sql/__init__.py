"""The backend for SQL databases: `SQLTrackerStore`."""

from .store import SQLTrackerStore

__all__ = ["SQLTrackerStore"]
