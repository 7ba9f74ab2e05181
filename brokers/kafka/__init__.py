"""The backend for Kafka: `KafkaEventBroker`."""

from .broker import KafkaEventBroker

__all__ = ["KafkaEventBroker"]
