"""The backend for RabbitMQ: `PikaEventBroker`."""

from .broker import PikaEventBroker

__all__ = ["PikaEventBroker"]
