"""The messages that are published, one event each, and the outcomes of sending them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import EventBrokerError
from ..events.stored import StoredEvent

#: Field of the published object with the event's number within its conversation. The triple
#: (`sender_id`, `history`, this number) identifies an event: equal ones are duplicates, and a
#: missing number is a gap.
SEQUENCE_FIELD = "sequence"

#: Field with the time at which the conversation was created. A conversation that is deleted (or
#: expires) and comes back has a greater one, and numbers its events from 0 again. Absent: 0.
HISTORY_FIELD = "history"

_to_json = json.JSONEncoder(allow_nan=False).encode


@dataclass  # not frozen: to make one, a relay's largest expense, would take three times as long
class BrokerMessage:
    """An event as it is sent to a broker.

    Attributes:
        conversation_id: the conversation of the event, published as `sender_id`.
        sequence: its number within the conversation; None for an event from `publish`,
            which has no number.
        body: the event's fields. Its `sender_id`, `sequence` and `history` are replaced.
        headers: texts that are sent as headers, if the broker has headers.
        history: when the conversation was created, in milliseconds since the epoch, see
            HISTORY_FIELD; 0: not known.
    """

    conversation_id: str
    sequence: int | None
    body: Mapping[str, Any]
    headers: Mapping[str, str] | None = None
    history: int = 0

    @classmethod
    def of_event(
        cls, event: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> BrokerMessage:
        """A message for an event given to `publish`; it is published unchanged."""
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

    def encode(self) -> bytes:
        """The object as one line of ASCII JSON. Raises Unsendable if that is impossible."""
        body, text = self.body, None
        try:
            self.conversation_id.encode()
            if self.sequence is not None and type(body) is StoredEvent:  # perhaps without a parse
                text = body.published(self.conversation_id, self.sequence, self.history)
            return (text or _to_json(self.document())).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise Unsendable(f"the event is not JSON: {error}") from error


class Unsendable(EventBrokerError, ValueError):
    """The event can never be delivered; the text says why."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of sending one message.

    Attributes:
        status: `delivered`: the broker has confirmed it. `retry`: the broker may or may not
            have it; send it again. `poisoned`: the broker will never accept it.
        reason: the reason; empty when delivered.
        suspect: with `retry`: the event itself may be the cause. If the broker accepts other
            events meanwhile, a relay makes it a dead letter after some attempts, in a minute or more.
    """

    status: Literal["delivered", "retry", "poisoned"]
    reason: str = ""
    suspect: bool = False


DELIVERED = Outcome("delivered")


def retry(reason: object) -> Outcome:
    """The outcome of a message that must be sent again."""
    return Outcome("retry", str(reason))


def poisoned(reason: object) -> Outcome:
    """The outcome of a message that can never be delivered."""
    return Outcome("poisoned", str(reason))


def in_order(batch: Sequence[BrokerMessage], outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes, with `retry` for every message after the first `retry` of its conversation.

    Such a message is sent again even if the broker has it. After its predecessor it is then a
    duplicate, which consumers drop; otherwise it would be an event out of order.
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


@dataclass(frozen=True)
class Published:
    """The outcome of a batch: events of one conversation that a relay gave to the broker.

    Attributes:
        first: number of the first event.
        delivered, dead: how many the broker has confirmed, and how many became dead letters.
        waits: why the other events still wait; empty if none does.
        seconds: how long the broker took.
    """

    conversation_id: str
    first: int
    delivered: int
    dead: int
    waits: str
    seconds: float
