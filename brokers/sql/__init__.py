"""The backend for SQL databases: `SQLEventBroker`."""

from .broker import SQLEventBroker

__all__ = ["SQLEventBroker"]
