"""`FileEventBroker`, and what it is made of."""

from .broker import FileEventBroker

__all__ = ["FileEventBroker"]
