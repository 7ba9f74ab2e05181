"""`PikaEventBroker`, and what it is made of."""

from .broker import PikaEventBroker

__all__ = ["PikaEventBroker"]
