"""`SQLEventBroker`, and what it is made of."""

from .broker import SQLEventBroker

__all__ = ["SQLEventBroker"]
