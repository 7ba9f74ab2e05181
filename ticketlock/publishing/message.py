"""What is published, one event a message, and what became of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import EventBrokerError
from ..events.stored import StoredEvent

#: Field of the published object that holds the event's number within its conversation.
#: (`sender_id`, `history`, this number) names an event: equal names are repeats, a jump is a gap.
SEQUENCE_FIELD = "sequence"

#: Field that tells the lives of a conversation apart: after a deletion, or an expiry, events
#: count from 0 again under a greater one. Absent: 0.
HISTORY_FIELD = "history"

_to_json = json.JSONEncoder(allow_nan=False).encode


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


@dataclass(frozen=True)
class Published:
    """The outcome of a conversation's events that a relay gave to the broker.

    Attributes:
        first: number of the first of them.
        delivered, dead: how many the broker has confirmed, how many were set apart.
        waits: why the rest waits; empty if there is no rest.
        seconds: that the broker took for the batch they were in.
    """

    conversation_id: str
    first: int
    delivered: int
    dead: int
    waits: str
    seconds: float
