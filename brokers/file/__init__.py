"""The backend for files: `FileEventBroker`."""

from .broker import FileEventBroker

__all__ = ["FileEventBroker"]
