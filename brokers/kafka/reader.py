"""Reads the events of a Kafka topic, as a member of a consumer group."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from ticketlock.event_service.settings import ServiceSettings
from ticketlock.event_service.source import RawMessage, Source
from ticketlock.settings.section import Section

from .client_config import KafkaSettings
from .errors import (
    DISCONNECTED,
    HOPELESS,
    NO_TOPIC,
    PASSING,
    TRANSPORT,
    explain,
    refused,
)

log = logging.getLogger("ticketlock.brokers")

#: Seconds after which the group gives a silent member's partitions to others.
SESSION_TIMEOUT = 10
#: Kafka's limit of characters in a member's name.
LONGEST_NAME = 249
#: Seconds to wait for more messages after the first, and messages of one request.
GATHER, CHUNK = 0.02, 250
#: Bytes after which a batch is full.
MAX_BYTES = 8 * 2**20
#: Seconds between two checks of a topic after an error.
CHECK_SECONDS = 1.0


class KafkaReader(Source):
    """A consumer whose offsets are committed by `confirm` only.

    Partitions are assigned cooperatively: a member that joins or leaves does not stop the
    others. With `instance`, a member that restarts within the session timeout goes on with its
    partitions at once.

    Args:
        keys: those of the event broker's section.
    """

    def __init__(
        self, service: ServiceSettings, *, where: str = "event_broker", **keys: Any
    ) -> None:
        self.settings = KafkaSettings.read(Section(keys, where))
        self.service = service
        self.address = f"Kafka at {self.settings.servers}, topic {self.settings.topic}"
        self._where = where
        self._consumer: Consumer | None = None
        self._assigned = False
        self._paused = False
        self._trouble: KafkaError | None = None
        self._looked = 0.0
        #: Messages that came outside of `read`; the next `read` returns them first.
        self._ahead: list[Any] = []
        #: Partition -> the offset to read next, until its commit has succeeded.
        self._done: dict[int, int] = {}

    def _config(self) -> dict[str, Any]:
        name = self.service.instance
        config = {
            "group.id": self.service.group,
            # With the topic in it: the server would assign a known name its old partitions even
            # if it subscribes to another topic now.
            "group.instance.id": name and f"{name}.{self.settings.topic}"[:LONGEST_NAME],
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": 1000 * SESSION_TIMEOUT,
            "heartbeat.interval.ms": 1000,  # how soon a member notices a new assignment
            "queued.max.messages.kbytes": 16 * 1024,
            # How soon a new topic or partition is noticed.
            "topic.metadata.refresh.interval.ms": 3000,
            **self.settings.connection(),
            "error_cb": self._on_error,
            "on_commit": self._on_commit,
        }
        return {key: value for key, value in config.items() if value is not None}

    def open(self, end: float) -> None:
        consumer = self._make()
        while True:
            found = self._look(max(0.05, min(1.0, end - time.monotonic())))
            if found is None:
                return
            trouble = self._trouble if found.code() == TRANSPORT else found
            hopeless = trouble is not None and trouble.code() in HOPELESS
            if hopeless or time.monotonic() >= end or found.code() in NO_TOPIC:
                raise explain(trouble or found, self.settings)
            self._serve(consumer, 0.1)

    def _make(self) -> Consumer:
        if self._consumer is None:
            self._trouble, self._assigned, self._paused = None, False, False
            self._ahead.clear()
            self._done.clear()
            try:
                self._consumer = Consumer(self._config())
            except KafkaException as error:
                raise refused(error, self._where) from error
            self._join(self._consumer)
        return self._consumer

    def _join(self, consumer: Consumer) -> None:
        consumer.subscribe(
            [self.settings.topic],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    def _look(self, seconds: float) -> KafkaError | None:
        """The error of the topic; None if it can be read."""
        self._looked = time.monotonic()
        assert self._consumer is not None  # made before
        topic = self.settings.topic
        try:
            found = self._consumer.list_topics(topic, timeout=seconds).topics[topic].error
        except KafkaException as error:
            found = error.args[0]
        if found is None:
            self._trouble = None
        return found  # type: ignore[no-any-return]  # confluent-kafka's KafkaError or None

    @property
    def is_ready(self) -> bool:
        """Whether the group has assigned this member its partitions, even if they are none."""
        return self._assigned and self._trouble is None

    def read(self, limit: int, seconds: float) -> list[RawMessage]:
        consumer = self._make()
        self._resume(consumer)
        messages, self._ahead = self._ahead, []
        if not messages:
            messages = self._consume(consumer, 1, seconds)
        size = sum(map(len, messages))
        while messages and len(messages) < limit and size < MAX_BYTES:
            wanted = min(CHUNK, limit - len(messages))
            more = self._consume(consumer, wanted, GATHER)
            messages += more
            size += sum(map(len, more))
            if len(more) < wanted:
                break
        if not messages:
            self._commit(consumer, list(self._done), wait=False)  # those that failed before
            self._check()
        return [_raw_message(message) for message in messages]

    def _consume(self, consumer: Consumer, limit: int, seconds: float) -> list[Any]:
        try:
            found = consumer.consume(limit, seconds)
        except KafkaException as error:
            self._on_error(error.args[0])
            return []
        messages = []
        for message in found:
            problem = message.error()
            if problem is None:
                self._trouble = None
                messages.append(message)
            elif problem.code() not in PASSING:
                self._on_error(problem)
        return messages

    def _check(self) -> None:
        """Check whether the last error has passed. Raises EventBrokerConnectionError if not."""
        trouble = self._trouble
        if trouble is None:
            return
        if trouble.fatal():
            self.close(time.monotonic() + 1.0)
            raise explain(trouble, self.settings)
        if time.monotonic() >= self._looked + CHECK_SECONDS:
            found = self._look(1.0)
            if found is not None:
                known = found.code() in NO_TOPIC
                raise explain(found if known else trouble or found, self.settings)

    def is_caught_up(self) -> bool:
        """Whether the group has read all partitions to their ends.

        That no message comes is not enough: during a rebalance no member may be reading.
        """
        consumer, topic = self._make(), self.settings.topic
        try:
            found = consumer.list_topics(topic, timeout=2).topics[topic]
            places = [TopicPartition(topic, number) for number in found.partitions]
            for place in consumer.committed(places, timeout=2):
                low, high = consumer.get_watermark_offsets(place, timeout=2)
                if max(place.offset, low) < high:  # a negative offset: not committed yet
                    return False
        except KafkaException as error:
            self._on_error(error.args[0])
            return False
        return found.error is None

    def confirm(self, messages: Sequence[RawMessage]) -> None:
        if self._consumer is None:
            return
        mine = {place.partition for place in self._consumer.assignment()}
        for message in messages:
            partition, offset = message.token
            if partition in mine:
                self._done[partition] = offset + 1
        self._commit(self._consumer, list(self._done), wait=False)

    def _commit(self, consumer: Consumer, partitions: list[int], *, wait: bool) -> None:
        """Commit offsets. Errors are only logged: uncommitted messages are read again."""
        topic = self.settings.topic
        places = [TopicPartition(topic, p, self._done[p]) for p in partitions if p in self._done]
        if places:
            try:
                if wait:
                    consumer.commit(offsets=places, asynchronous=False)
                else:
                    consumer.commit(offsets=places, asynchronous=True)
            except KafkaException as error:
                log.debug("%s: offsets not committed: %s", self.address, error)

    def keep_alive(self) -> None:
        if self._consumer is not None:
            self._serve(self._consumer, 0)

    def _serve(self, consumer: Consumer, seconds: float) -> None:
        """Let the consumer stay in its group, without reading messages."""
        try:
            consumer.pause(consumer.assignment())
            self._paused = True
            message = consumer.poll(seconds)
        except KafkaException as error:
            self._on_error(error.args[0])
            return
        if message is not None and message.error() is None:
            self._ahead.append(message)  # from a partition that was assigned just now

    def _resume(self, consumer: Consumer) -> None:
        if self._paused:
            self._paused = False
            consumer.resume(consumer.assignment())

    def close(self, end: float) -> None:
        consumer, self._consumer = self._consumer, None
        self._assigned = False
        if consumer is not None:
            self._commit(consumer, list(self._done), wait=self._trouble is None)
            consumer.close()

    # -- what the driver calls, from within consume, poll and close -------------------------------

    def _on_error(self, error: KafkaError) -> None:
        # After a refused login there are errors of the lost connection, which are less precise.
        known = self._trouble is not None
        if not (known and error.code() in DISCONNECTED):
            self._trouble = error

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        if error is not None:
            log.debug("%s: offsets not committed: %s", self.address, error)
            return
        for place in partitions:
            if place.error is None and self._done.get(place.partition) == place.offset:
                del self._done[place.partition]

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._assigned = True
        self._paused = True  # partitions that this member had and paused stay paused
        for place in partitions:
            self._done.pop(place.partition, None)
        numbers = ", ".join(str(place.partition) for place in partitions)
        log.info("%s: assigned partitions %s", self.address, numbers or "none")

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # Messages that were read and not confirmed are delivered again to another member.
        self._commit(consumer, [place.partition for place in partitions], wait=True)
        self._on_lost(consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for place in partitions:
            self._done.pop(place.partition, None)


def _raw_message(message: Any) -> RawMessage:
    partition, offset = message.partition(), message.offset()
    origin = f"{message.topic()}/{partition}/{offset}"
    return RawMessage(message.value() or b"", origin, True, (partition, offset))
