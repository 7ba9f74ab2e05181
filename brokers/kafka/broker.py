"""Events on a Kafka topic, by confluent-kafka."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException, Producer

from ticketlock.errors import EventBrokerConnectionError
from ticketlock.publishing.message import DELIVERED, Outcome, poisoned, retry
from ticketlock.settings.section import Section

from ..threaded import QUEUE_SIZE, EncodedMessage, ThreadedBroker
from .client_config import RECORD_BATCH, KafkaSettings
from .errors import (
    DESTROYED,
    DISCONNECTED,
    HOPELESS,
    PURGED,
    QUEUE_FULL,
    TRANSPORT,
    explain,
    refused,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ticketlock.settings.broker_keys import KafkaOptions

#: Codes of errors that are the message's own fault.
_POISON = {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.INVALID_MSG_SIZE,
    KafkaError.RECORD_LIST_TOO_LARGE,
}


class KafkaEventBroker(ThreadedBroker):
    """Publishes to one topic with an idempotent producer and the confirmation of all replicas.

    The value is the event as JSON, the key its `sender_id` in UTF-8, the header
    `RASA_ENVIRONMENT` the environment variable of that name. With `partition_by_sender: false`
    there is no key and the partition is random: consumers then get the events of a
    conversation in any order and must sort them by `sequence`.

    Args:
        url: `host:port`, several with commas or as a list; required.
        keys: those of `KafkaOptions`, see docs/reference/endpoints.md.
        where: how error messages name these settings.
    """

    def __init__(
        self,
        url: str | Sequence[str] | None = None,
        *,
        where: str = "event_broker",
        **keys: Unpack[KafkaOptions],
    ) -> None:
        section = Section({"url": url, **keys}, where)
        self.settings = KafkaSettings.read(section)
        super().__init__(self.settings.queue_size or QUEUE_SIZE)
        self.address = f"Kafka at {self.settings.servers}"
        self._where = where
        self._producer: Producer | None = None
        self._trouble: KafkaError | None = None
        self._healthy = False
        self._next_look = 0.0
        environment = os.environ.get("RASA_ENVIRONMENT", "RASA_ENVIRONMENT_NOT_SET")
        self._headers: list[tuple[str, str | bytes | None]] = [("RASA_ENVIRONMENT", environment)]

    async def start(self) -> None:
        """Connect in the background, so that a process starts while the server is away.

        Raises ConfigurationError for settings that the driver refuses.
        """
        await self._call(self._make)

    def is_ready(self) -> bool:
        """Whether the server answered last time. After a failure it is checked regularly."""
        return self._healthy

    # -- the thread ----------------------------------------------------------------------------

    def _make(self) -> Producer:
        if self._producer is None:
            config = {**self.settings.config(), "error_cb": self._on_error}
            try:
                self._producer = Producer(config)
            except KafkaException as error:
                raise refused(error, self._where) from error
        return self._producer

    def _on_error(self, error: KafkaError) -> None:
        # Called from poll; it must not raise. After a refused login there are errors of the
        # lost connection, which are less precise.
        known = self._trouble is not None
        if not (known and error.code() in DISCONNECTED):
            self._trouble = error
        self._healthy = False

    def _explain(self, error: KafkaError | None) -> EventBrokerConnectionError:
        return explain(error, self.settings)

    def _open(self, end: float) -> None:
        producer = self._make()
        self._trouble = None
        while True:
            producer.poll(0)
            found = self._look(producer, max(0.05, min(1.0, self.left(end))))
            if found is None:
                return
            producer.poll(0)
            trouble = self._trouble if found.code() == TRANSPORT else found
            if self.left(end) <= 0 or (trouble and trouble.code() in HOPELESS):
                raise self._explain(trouble or found)
            producer.poll(min(0.1, max(0.0, self.left(end))))

    def _look(self, producer: Producer, seconds: float) -> KafkaError | None:
        """The error of the topic; None if it can be written to."""
        try:
            topic = producer.list_topics(self.settings.topic, timeout=seconds)
            found = topic.topics[self.settings.topic].error
        except KafkaException as error:
            found = error.args[0]
        self._healthy = found is None
        return found  # type: ignore[no-any-return]  # confluent-kafka's KafkaError or None

    def _idle(self) -> None:
        if self._healthy and self._producer is not None:
            self._producer.poll(0)  # serves _on_error
        elif time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + 3.0
            self._look(self._make(), 0.5)

    def _send(self, batch: Sequence[EncodedMessage], end: float) -> list[Outcome]:
        outcomes = self._send_once(batch, end)
        # A server refuses a record batch as a whole. A message that is small enough is sent
        # again by itself, with the later ones of its conversation, which must not precede it.
        affected: set[str] = set()
        for i, (wire, outcome) in enumerate(zip(batch, outcomes, strict=True)):
            if outcome.status == "poisoned" and len(wire.value) < RECORD_BATCH:
                affected.add(wire.key)
            elif wire.key not in affected or outcome.status == "poisoned":
                continue
            outcomes[i] = self._send_once([wire], end)[0]
        return outcomes

    def _send_once(self, batch: Sequence[EncodedMessage], end: float) -> list[Outcome]:
        producer = self._make()
        self._trouble = None
        outcomes: list[Outcome | None] = [None] * len(batch)
        held: set[str] = set()  # conversations with a message that must be sent again
        open_ = len(batch)

        def note(i: int, outcome: Outcome | None) -> None:
            nonlocal open_
            open_ -= 1
            outcomes[i] = outcome
            if outcome is None or outcome.status == "retry":
                held.add(batch[i].key)

        for i, wire in enumerate(batch):
            if i % 50 == 0:
                producer.poll(0)
                if self._given_up(end):
                    break
            if wire.key in held:
                note(i, retry("an earlier event of the conversation was not accepted"))
                continue
            error = self._produce(
                producer, wire, lambda error, _, i=i: note(i, self._outcome(error)), end
            )
            if error is not None:
                note(i, self._outcome(error))
        while open_ and not self._given_up(end):
            producer.poll(min(0.1, max(0.0, self.left(end))))
        if any(outcome is None or outcome.status == "retry" for outcome in outcomes):
            if not open_ and None in outcomes:  # they failed without a reason
                self._trouble = self._look(producer, 0.5) or self._trouble
            self._give_up(producer)
        reason = self._explain(self._trouble)
        return [outcome or retry(reason) for outcome in outcomes]

    def _given_up(self, end: float) -> bool:
        trouble = self._trouble
        return self.left(end) <= 0 or (
            trouble is not None and (trouble.code() in HOPELESS or trouble.fatal())
        )

    def _produce(
        self, producer: Producer, wire: EncodedMessage, report: Callable[..., None], end: float
    ) -> KafkaError | None:
        """Put a message into the driver's queue, and wait while it is full. Returns the error."""
        key = wire.key.encode() if self.settings.partition_by_sender and wire.key else None
        headers = self._headers + list((wire.message.headers or {}).items())
        while True:
            try:
                producer.produce(
                    self.settings.topic, wire.value, key, headers=headers, on_delivery=report
                )
                return None
            except BufferError:
                if self._given_up(end):
                    return KafkaError(QUEUE_FULL)
                producer.poll(min(0.1, max(0.0, self.left(end))))
            except KafkaException as error:
                found: KafkaError = error.args[0]
                return found

    def _outcome(self, error: KafkaError | None) -> Outcome | None:
        """The outcome of a message; None: send it again, the reason is not known yet."""
        if error is None:
            self._healthy = True
            return DELIVERED
        if error.code() in _POISON:
            return poisoned(f"{self.address}: {error.str()}")
        self._healthy = False
        if error.code() in PURGED:
            return retry(self._explain(self._trouble))
        if error.code() == DESTROYED:
            return None  # its server or topic has gone
        if error.fatal():
            self._trouble = error
        return retry(self._explain(error))

    def _give_up(self, producer: Producer) -> None:
        """Purge unsent messages and drop the producer: after this it could not keep the order of
        messages, and it caches for minutes that a topic does not exist.
        """
        self._producer = None
        producer.purge()
        end = time.monotonic() + 0.5
        while len(producer) and time.monotonic() < end:
            producer.poll(0.05)

    def _shut(self, end: float) -> None:
        self._healthy = False
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()
            producer.poll(0)
