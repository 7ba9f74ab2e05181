"""The judge of published events: compares the committed events with those that arrived."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...event_service.records import Received
from ...events.event import Event
from ...publishing.message import HISTORY_FIELD, SEQUENCE_FIELD
from .stored import Finding
from .turns import Violation

#: Every kind of violation, in the order of the report.
EVENT_KINDS = {
    "events_missing": "a committed event did not arrive",
    "events_out_of_order": "an event did not arrive after the one before it",
    "events_unknown": "an event arrived that was never committed",
    "events_differing": "an event arrived with other content than was committed",
    "events_waiting": "events of a conversation were not published in time",
}


@dataclass(frozen=True)
class BrokerSnapshot:
    """The broker's side at the end of a run.

    Attributes:
        broker: its type.
        unread: why it could not be read; empty if it was.
        arrived: the events that a consumer received, by conversation, in order of arrival.
        waiting: conversations that still have events in the outbox.
        dead_letters: the reasons of dead letters, by conversation and number.
    """

    broker: str
    unread: str = ""
    arrived: Mapping[str, Sequence[Received]] = field(default_factory=dict)
    waiting: frozenset[str] = frozenset()
    dead_letters: Mapping[tuple[str, int], str] = field(default_factory=dict)


@dataclass
class EventCounts:
    """Sums of a demo.

    Attributes:
        received: committed events that arrived.
        duplicates: further copies of them that arrived.
    """

    broker: str
    unread: str = ""
    committed: int = 0
    received: int = 0
    duplicates: int = 0

    def rows(self) -> list[tuple[str, str]]:
        """The rows of the table."""
        rows = [("event broker", self.broker), ("events committed", str(self.committed))]
        if self.unread:
            return [*rows, ("events received", f"not read: {self.unread}")]
        received = ("events received", str(self.received))
        return [*rows, received, ("received again", str(self.duplicates))]

    def as_json(self, found: Mapping[str, int]) -> dict[str, Any]:
        """The counts with `found`, the number of violations by kind; unread values are null."""
        read = not self.unread
        values: dict[str, Any] = {
            "broker": self.broker,
            "unread": self.unread or None,
            "committed": self.committed,
            "received": self.received if read else None,
            "duplicates": self.duplicates if read else None,
        }
        return values | {kind.removeprefix("events_"): found[kind] for kind in EVENT_KINDS}


def verify_events(
    conversation: str, events: Sequence[Event], snapshot: BrokerSnapshot, counts: EventCounts
) -> list[Violation]:
    """The violations in the events of one conversation; adds to `counts`.

    Args:
        events: its whole history in the tracker store, numbered from 0.

    An event is in order if one of its copies arrived after the event before it, because a broker
    may confirm a part of a batch, and then gets the others again.
    """
    arrived = snapshot.arrived.get(conversation, ())
    history = Counter(event.history for event in arrived).most_common(1)
    places: dict[int, list[int]] = {}
    found: list[Finding] = []
    for place, event in enumerate(arrived):
        number = event.sequence
        if number is None or number >= len(events) or event.history != history[0][0]:
            text = f"sequence {number} of history {event.history}"
            found.append(("events_unknown", None, f"{text} of {len(events)} committed events"))
            continue
        places.setdefault(number, []).append(place)
        if _content(event.data) != _content(json.dumps(events[number].as_dict())):
            found.append(("events_differing", None, f"event {number}: {event.data:.200}"))
    counts.committed += len(events)
    counts.received += len(places)
    counts.duplicates += sum(map(len, places.values())) - len(places)
    found += [*_missing(conversation, len(events), places, snapshot), *_out_of_order(places)]
    if conversation in snapshot.waiting:
        found.append(("events_waiting", None, "its events were not published in time"))
    return [Violation(kind, conversation, message, text) for kind, message, text in found]


def verify_strangers(known: Sequence[str], snapshot: BrokerSnapshot) -> Iterator[Violation]:
    """The violations of conversations to which no message was sent."""
    for conversation in sorted((snapshot.arrived.keys() | snapshot.waiting) - set(known)):
        yield Violation("events_unknown", conversation, None, "no message was sent to it")


def _missing(
    conversation: str, count: int, places: Mapping[int, Sequence[int]], snapshot: BrokerSnapshot
) -> Iterator[Finding]:
    last = max(places, default=-1)
    for number in range(count):
        reason = snapshot.dead_letters.get((conversation, number))
        if number in places:
            continue
        if reason is not None:
            yield "events_missing", None, f"event {number} was set apart: {reason}"
        elif not snapshot.unread and not (conversation in snapshot.waiting and number > last):
            yield "events_missing", None, f"event {number} did not arrive"


def _out_of_order(places: Mapping[int, Sequence[int]]) -> Iterator[Finding]:
    behind = -1
    for number in sorted(places):
        place = next((place for place in places[number] if place > behind), None)
        if place is None:
            yield "events_out_of_order", None, f"event {number} arrived before the one before it"
        else:
            behind = place


def _content(data: str) -> dict[str, Any]:
    """The event without the fields that publishing adds."""
    fields: dict[str, Any] = json.loads(data)
    added = ("sender_id", SEQUENCE_FIELD, HISTORY_FIELD)
    return {key: value for key, value in fields.items() if key not in added}
