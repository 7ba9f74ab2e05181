"""What an event broker is: where the events of conversations are published to."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .errors import EventBrokerError
from .outbox import DeadLetter
from .stored_event import StoredEvent

#: Field of the published object that holds the event's number within its conversation.
#: (`sender_id`, `history`, this number) names an event: equal names are repeats, a jump is a gap.
SEQUENCE_FIELD = "sequence"

#: Field that tells the lives of a conversation apart: after a deletion, or an expiry, events
#: count from 0 again under a greater one. Absent: 0.
HISTORY_FIELD = "history"

_to_json = json.JSONEncoder(allow_nan=False).encode

#: Seconds that `deliver` may take where nothing else is said.
DELIVER_TIMEOUT = 10.0


@dataclass(frozen=True)
class Message:
    """One event on its way to a broker.

    Attributes:
        conversation_id: whose event it is, the published `sender_id`.
        sequence: its number within the conversation; None for an event from `publish`,
            whose caller knows no number.
        body: the event's fields. A `sender_id`, `sequence` or `history` in it is overruled.
        headers: texts that are sent as headers, if the broker has headers.
        history: which life of the conversation the number counts in; 0: not known.
    """

    conversation_id: str
    sequence: int | None
    body: Mapping[str, Any]
    headers: Mapping[str, str] | None = None
    history: int = 0

    @classmethod
    def of_event(
        cls, event: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> Message:
        """A message for an event as `publish` takes it; it is published unchanged."""
        sender = event.get("sender_id")
        return cls("" if sender is None else str(sender), None, dict(event), headers)

    def document(self) -> dict[str, Any]:
        """The object that is published."""
        if self.sequence is None:
            return dict(self.body)
        named = {"sender_id": self.conversation_id, **self.body}
        named |= {"sender_id": self.conversation_id, SEQUENCE_FIELD: self.sequence}
        named.pop(HISTORY_FIELD, None)
        return {**named, HISTORY_FIELD: self.history} if self.history else named

    def _as_stored(self) -> str | None:
        """The object's JSON, where it can be made of what the store keeps without reading that."""
        if not isinstance(self.body, StoredEvent) or self.sequence is None:
            return None
        return self.body.published(self.conversation_id, self.sequence, self.history)

    def encode(self) -> bytes:
        """The object as one line of ASCII JSON. Raises Unsendable where that is impossible."""
        try:
            self.conversation_id.encode()
            return (self._as_stored() or _to_json(self.document())).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise Unsendable(f"the event is not JSON: {error}") from error


class Unsendable(EventBrokerError, ValueError):
    """An event that no attempt can deliver; the text says why."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of sending one message.

    Attributes:
        status: `delivered`: the broker has confirmed it. `retry`: it may or may not be there;
            send it again, it will do when the broker is well. `poisoned`: it never will do.
        reason: why, as a text; empty when delivered.
        suspect: with `retry`: the event itself may be at fault. A relay that sees others pass
            sets it apart after some tries.
    """

    status: Literal["delivered", "retry", "poisoned"]
    reason: str = ""
    suspect: bool = False


DELIVERED = Outcome("delivered")


def retry(reason: object) -> Outcome:
    """The outcome of a message that is to be sent again."""
    return Outcome("retry", str(reason))


def poisoned(reason: object) -> Outcome:
    """The outcome of a message that can never be delivered."""
    return Outcome("poisoned", str(reason))


def in_order(batch: Sequence[Message], outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes, with what came after the first retry of a conversation held back.

    Such a message counts as `retry` even if the broker has it: sent again after its
    predecessor it is a repeat, which consumers drop, and not an event out of order.
    """
    waiting: set[str] = set()
    result = []
    for message, outcome in zip(batch, outcomes, strict=True):
        if outcome.status == "retry":
            waiting.add(message.conversation_id)
        elif outcome.status == "delivered" and message.conversation_id in waiting:
            outcome = retry("an earlier event of the conversation must be sent first")
        result.append(outcome)
    return result


class EventBroker:
    """Publishes events. A custom broker has the four documented methods, plain or async:
    `from_endpoint_config`, `publish`, `is_ready` and `close`; the rest is inherited.
    """

    @classmethod
    async def from_endpoint_config(cls, broker_config: Any, event_loop: Any = None) -> Any:
        """A broker made from a section, an `EndpointConfig`; None for None."""
        raise NotImplementedError(f"{cls.__name__} must implement from_endpoint_config")

    @staticmethod
    async def create(obj: Any = None, loop: Any = None) -> EventBroker | None:
        """The broker of a section: an EndpointConfig, a mapping, a broker, or None.

        Raises ConfigurationError, and EventBrokerConnectionError where the type connects at
        once. `loop` is documented and not needed: no broker is bound to an event loop.
        """
        from .registry import create_event_broker

        return await create_event_broker(obj)

    def publish(self, event: dict[str, Any]) -> Any:
        """Queue one event to be sent. Returns at once; raises EventBrokerError if it is refused."""
        raise NotImplementedError(f"{type(self).__name__} must implement publish")

    def is_ready(self) -> Any:
        """Whether the broker could be reached last time."""
        return True

    async def connect(self) -> None:
        """Reach the broker now. Raises EventBrokerConnectionError saying why it is not."""

    async def connect_once(self) -> None:
        """As `connect`, but with a single attempt, for a caller that waits."""
        await self.connect()

    async def close(self) -> None:
        """Close what is open, within a bounded time."""

    async def deliver(
        self, batch: Sequence[Message], timeout: float | None = None
    ) -> list[Outcome]:
        """Send a batch in order; return one outcome for each message.

        Of one conversation nothing counts as delivered after its first `retry`. Poisoned
        messages are skipped, what follows them is sent. This implementation calls `publish`
        for one message after the other and takes its return for the confirmation.

        Args:
            timeout: seconds; what is not confirmed by then is `retry`. None: the broker's own.

        Returns:
            One outcome for each message, in the order of the batch. A broker that is away is
            an outcome, not an exception; EventBrokerError means that the broker is closed.
        """
        seconds = DELIVER_TIMEOUT if timeout is None else timeout
        end = asyncio.get_running_loop().time() + seconds
        failed: dict[str, Outcome] = {}
        outcomes = []
        for message in batch:
            outcome = failed.get(message.conversation_id)
            if outcome is None:
                left = end - asyncio.get_running_loop().time()
                outcome = await self._publish_one(message, left)
                if outcome.status == "retry":
                    failed[message.conversation_id] = outcome
            outcomes.append(outcome)
        return outcomes

    def _hand_over(self, document: dict[str, Any]) -> Any:
        return self.publish(document)

    async def _publish_one(self, message: Message, seconds: float) -> Outcome:
        if seconds <= 0:
            return retry("the time ran out before it was sent")
        try:
            message.encode()
            answer = self._hand_over(message.document())
            if inspect.isawaitable(answer):
                await asyncio.wait_for(answer, seconds)
            else:
                await asyncio.sleep(0)  # a long batch must not hold the event loop
        except Unsendable as error:
            return poisoned(error)
        except (asyncio.TimeoutError, TimeoutError):
            return retry("publish did not return in time")
        except Exception as error:  # noqa: BLE001  # whatever a custom broker raises
            return Outcome("retry", f"{type(error).__name__}: {error}", suspect=True)
        return DELIVERED


async def resend(broker: EventBroker, letter: DeadLetter, timeout: float) -> Outcome:
    """Publish a dead letter once more; it stays one until the caller removes it.

    Args:
        timeout: seconds for the broker's answer.
    """
    message = Message(letter.sender_id, letter.sequence, letter.event, history=letter.history)
    (outcome,) = await broker.deliver([message], timeout)
    return outcome
