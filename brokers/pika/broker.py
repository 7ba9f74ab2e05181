"""Events in queues of RabbitMQ, by pika."""

from __future__ import annotations

import asyncio
import os
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pika

from ticketlock.errors import EventBrokerConnectionError
from ticketlock.publishing.message import DELIVERED, Outcome, poisoned, retry
from ticketlock.settings.section import Section

from ..threaded import EncodedMessage, ThreadedBroker
from .link import PikaLink
from .parameters import PikaSettings

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ticketlock.settings.broker_keys import PikaOptions

#: How often a batch may lose its channel or its queues before `deliver` gives up.
_SETBACKS = 3

#: RabbitMQ's error when it closes the channel because of a large message.
_TOO_LARGE = re.compile(r"larger than configured max size (\d+)")

#: Namespace of the message ids.
_IDS = uuid.UUID("6d0a4a5c-3c0e-5b1e-9d53-2f1f6f0b7a11")


class PikaEventBroker(ThreadedBroker):
    """Publishes to a durable fanout exchange with durable queues, each of which gets all events.

    Messages are persistent. One is delivered once the server has confirmed that it is in all
    queues, on disk. `message_id` is the same whenever the same event is sent again, `app_id`
    is the environment variable RASA_ENVIRONMENT.

    Args:
        host: a host, or an `amqp://` or `amqps://` URL; required, here or as `url`.
        username: required unless the URL has it.
        password: required unless the URL has it.
        event_loop: accepted and ignored: the broker has its own thread.
        keys: those of `PikaOptions`, see docs/reference/endpoints.md.
        where: how error messages name these settings.
    """

    def __init__(
        self,
        host: str | None = None,
        username: str | None = None,
        password: str | None = None,
        *,
        event_loop: Any = None,
        where: str = "event_broker",
        **keys: Unpack[PikaOptions],
    ) -> None:
        super().__init__()
        named = {"host": host, "username": username, "password": password}
        self.settings = PikaSettings.read(Section({**keys, **named}, where))
        self.address = self.settings.address
        self._keep = self.settings.keep
        self._link: PikaLink | None = None
        self._trouble: EventBrokerConnectionError | None = None
        self._largest = float("inf")  # bytes; known after the server refused a message
        self._careful = False

    async def connect(self, timeout: float | None = None) -> None:
        """Connect and declare the exchange and the queues.

        It makes `connection_attempts` attempts, `retry_delay_in_seconds` apart, unless another
        one is useless. Raises EventBrokerConnectionError.
        """
        for attempt in range(self.settings.attempts):
            if attempt:
                await asyncio.sleep(self.settings.retry_delay)
            try:
                return await self.connect_once(timeout)
            except EventBrokerConnectionError as error:
                if not error.again or attempt == self.settings.attempts - 1:
                    raise

    def publish(self, event: dict[str, Any], headers: Mapping[str, str] | None = None) -> None:
        """See `ThreadedBroker.publish`. With `raise_on_failure` it also raises
        EventBrokerConnectionError while the server is away.
        """
        if self.settings.raise_on_failure and self._trouble is not None:
            raise self._trouble
        super().publish(event, headers)

    def is_ready(self) -> bool:
        """Whether the connection is open and the server takes messages."""
        return self._link is not None and self._link.is_ready

    # -- the thread ----------------------------------------------------------------------------

    def _open(self, end: float) -> None:
        self._link = self._link or PikaLink(self.settings)
        try:
            self._link.open(end)
        except pika.exceptions.ChannelClosedByBroker as error:
            self._trouble = self._link.explain(error)
            raise self._trouble from error
        except EventBrokerConnectionError as error:
            self._trouble = error
            raise
        self._trouble = None

    def _idle(self) -> None:
        if self._link is not None:
            self._link.keep_alive()
            if self._link.reason is not None and not self._link.is_open:
                self._trouble = self._link.explain(self._link.reason)

    def _send(self, batch: Sequence[EncodedMessage], end: float) -> list[Outcome]:
        outcomes: list[Outcome | None] = [None] * len(batch)
        held: set[str] = set()
        setbacks = 0
        nacks = False
        while pending := self._pending(batch, outcomes, held):
            if self.left(end) <= 0 or setbacks > _SETBACKS:
                break
            try:
                self._open(self._latest(end))
            except EventBrokerConnectionError:
                break
            round_ = _first_of_each(batch, pending) if self._careful else pending
            before = len(pending)
            nacks |= self._publish(batch, round_, outcomes, held, end)
            if len(self._pending(batch, outcomes, held)) == before or None in [
                outcomes[i] for i in round_
            ]:
                setbacks += 1
        # A queue that refuses a message (it is full, or its node fails) may accept the next one of
        # the conversation. So send them one by one, until a whole batch is accepted.
        self._careful = nacks
        for i in range(len(batch)):
            if outcomes[i] is None and batch[i].key in held:
                outcomes[i] = retry("an earlier event of the conversation was refused")
        reason = self._reason(end)
        return [outcome or retry(reason) for outcome in outcomes]

    def _latest(self, end: float) -> float:
        return time.monotonic() + self.left(end)

    def _pending(
        self, batch: Sequence[EncodedMessage], outcomes: list[Outcome | None], held: set[str]
    ) -> list[int]:
        """Indexes of the messages to send. Those too large for the server become poisoned."""
        pending = []
        for i, wire in enumerate(batch):
            if outcomes[i] is not None or wire.key in held:
                continue
            if len(wire.value) > self._largest:
                outcomes[i] = poisoned(
                    f"{self.address}: the event has {len(wire.value)} bytes, the server takes "
                    f"{self._largest:.0f}: raise its max_message_size"
                )
            else:
                pending.append(i)
        return pending

    def _publish(
        self,
        batch: Sequence[EncodedMessage],
        chosen: list[int],
        outcomes: list[Outcome | None],
        held: set[str],
        end: float,
    ) -> bool:
        """Send the chosen messages and note their outcomes; True if a queue refused one."""
        link = self._link
        assert link is not None  # opened before
        link.reason = None
        sent = [(batch[i].value, _properties(batch[i])) for i in chosen]
        refused = False
        for i, result in zip(chosen, link.publish(sent, self._latest(end)), strict=True):
            if result == "acked":
                outcomes[i] = DELIVERED
            elif result == "returned":
                link.forget_topology()  # and send it again
            elif result == "nacked":
                refused = True
                outcomes[i] = retry(f"{self.address}: a queue refused the event: is it full?")
                held.add(batch[i].key)
        if too_large := _TOO_LARGE.search(str(link.reason)):
            self._largest = int(too_large[1])
        return refused

    def _reason(self, end: float) -> str:
        link = self._link
        if self._trouble is not None:
            return str(self._trouble)
        if link is not None and link.blocked is not None:
            return f"{self.address}: it accepts no messages at the moment: {link.blocked}"
        if link is not None and link.reason is not None:
            return str(link.explain(link.reason))
        if self.left(end) <= 0:
            return f"{self.address}: no confirmation in time"
        return f"{self.address}: no queue is bound to exchange {self.settings.exchange}"

    def _shut(self, end: float) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None


def _first_of_each(batch: Sequence[EncodedMessage], pending: list[int]) -> list[int]:
    """The first message of each conversation that is still to be sent."""
    first: dict[str, int] = {}
    for i in pending:
        first.setdefault(batch[i].key, i)
    return list(first.values())


def _properties(wire: EncodedMessage) -> Any:
    message = wire.message
    if message.sequence is None:
        name = uuid.uuid4()
    else:
        name = uuid.uuid5(_IDS, f"{message.history}/{message.sequence}/{message.conversation_id}")
    return pika.BasicProperties(
        delivery_mode=2,
        message_id=str(name),
        app_id=os.environ.get("RASA_ENVIRONMENT"),
        headers=dict(message.headers) if message.headers else None,
    )
