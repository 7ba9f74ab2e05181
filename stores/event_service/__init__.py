"""The database of the event service: `SQLEventDatabase`."""

from .database import SQLEventDatabase

__all__ = ["SQLEventDatabase"]
