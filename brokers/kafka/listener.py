"""Reads what is published to a Kafka topic, outside of all consumer groups, for the demo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from ticketlock.event_service.settings import ServiceSettings
from ticketlock.event_service.source import RawMessage

from .errors import explain
from .reader import KafkaReader

#: Seconds for an answer about a partition's offsets.
_ANSWER = 5.0


class KafkaListener(KafkaReader):
    """Reads all partitions from their ends at the first `open`.

    It joins no group and commits no offsets, so it does not affect other consumers.

    Args:
        name: a group's name, which the driver requires even if it is not used.
        keys: those of the section.
    """

    def __init__(self, name: str, *, where: str = "event_broker", **keys: Any) -> None:
        super().__init__(ServiceSettings(group=name), where=where, **keys)
        #: Partition -> the offset to read next.
        self._next: dict[int, int] = {}

    def _config(self) -> dict[str, Any]:
        # A request for offsets waits for the end of a fetch that waits for messages.
        return {**super()._config(), "fetch.wait.max.ms": 50}

    def _join(self, consumer: Consumer) -> None:
        """Does not join: it is in no group."""

    def open(self, end: float) -> None:
        super().open(end)
        consumer = self._make()
        if self._assigned:
            return
        try:
            if not self._next:
                self._next = {place.partition: high for place, high in self._ends(consumer)}
            topic = self.settings.topic
            consumer.assign([TopicPartition(topic, *item) for item in self._next.items()])
        except KafkaException as error:
            raise explain(error.args[0], self.settings) from error
        self._assigned = True

    def _ends(self, consumer: Consumer) -> list[tuple[TopicPartition, int]]:
        topic = self.settings.topic
        partitions = consumer.list_topics(topic, timeout=_ANSWER).topics[topic].partitions
        places = [TopicPartition(topic, number) for number in partitions]
        return [(p, consumer.get_watermark_offsets(p, timeout=_ANSWER)[1]) for p in places]

    def read(self, limit: int, seconds: float) -> list[RawMessage]:
        found = super().read(limit, seconds)
        for message in found:
            partition, offset = message.token
            self._next[partition] = offset + 1
        return found

    def is_caught_up(self) -> bool:
        """Whether all partitions have been read to their ends."""
        try:
            ends = self._ends(self._make())
            return all(self._next.get(p.partition, high) >= high for p, high in ends)
        except KafkaException as error:
            self._on_error(error.args[0])
            return False

    def confirm(self, messages: Sequence[RawMessage]) -> None:
        """Does nothing: it commits no offsets."""
