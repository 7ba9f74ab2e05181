"""`SQLTrackerStore`, and what it is made of."""

from .store import SQLTrackerStore

__all__ = ["SQLTrackerStore"]
