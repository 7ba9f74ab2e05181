"""`KafkaEventBroker`, and what it is made of."""

from .broker import KafkaEventBroker

__all__ = ["KafkaEventBroker"]
