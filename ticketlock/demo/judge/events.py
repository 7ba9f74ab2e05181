"""The judge of the broker's side: what was committed and what arrived in, violations out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...event_service.records import Received
from ...events.event import Event
from ...publishing.message import HISTORY_FIELD, SEQUENCE_FIELD
from .stored import Found
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
class Heard:
    """What is known of the broker's side when all is over.

    Attributes:
        broker: its type, for people.
        unread: why nothing could be read; empty where it was read.
        arrived: what a consumer received, by conversation, in the order of arrival.
        waiting: conversations that have events in the outbox still.
        buried: reasons why events were set apart, by conversation and number.
    """

    broker: str
    unread: str = ""
    arrived: Mapping[str, Sequence[Received]] = field(default_factory=dict)
    waiting: frozenset[str] = frozenset()
    buried: Mapping[tuple[str, int], str] = field(default_factory=dict)


@dataclass
class EventCounts:
    """Sums of a demo.

    Attributes:
        received: committed events that arrived.
        duplicates: how often one of them arrived once more.
    """

    broker: str
    unread: str = ""
    committed: int = 0
    received: int = 0
    duplicates: int = 0

    def rows(self) -> list[tuple[str, str]]:
        """Of the table for people."""
        rows = [("event broker", self.broker), ("events committed", str(self.committed))]
        if self.unread:
            return [*rows, ("events received", f"not read: {self.unread}")]
        received = ("events received", str(self.received))
        return [*rows, received, ("received again", str(self.duplicates))]

    def as_json(self, found: Mapping[str, int]) -> dict[str, Any]:
        """With `found`, the number of violations by kind; what was not read is null."""
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
    conversation: str, events: Sequence[Event], heard: Heard, counts: EventCounts
) -> list[Violation]:
    """Everything that went wrong with the events of one conversation; adds to `counts`.

    Args:
        events: all that its tracker store has of it, which are numbered from 0.

    An event is in order if one of its copies arrived behind the event before it, which is
    what a broker is good for that confirms some of a batch, and is sent the rest again.
    """
    arrived = heard.arrived.get(conversation, ())
    life = Counter(event.history for event in arrived).most_common(1)
    places: dict[int, list[int]] = {}
    found: list[Found] = []
    for place, event in enumerate(arrived):
        number = event.sequence
        if number is None or number >= len(events) or event.history != life[0][0]:
            text = f"sequence {number} of history {event.history}"
            found.append(("events_unknown", None, f"{text} of {len(events)} committed events"))
            continue
        places.setdefault(number, []).append(place)
        if _content(event.data) != _content(json.dumps(events[number].as_dict())):
            found.append(("events_differing", None, f"event {number}: {event.data:.200}"))
    counts.committed += len(events)
    counts.received += len(places)
    counts.duplicates += sum(map(len, places.values())) - len(places)
    found += [*_missing(conversation, len(events), places, heard), *_out_of_order(places)]
    if conversation in heard.waiting:
        found.append(("events_waiting", None, "its events were not published in time"))
    return [Violation(kind, conversation, message, text) for kind, message, text in found]


def verify_strangers(known: Sequence[str], heard: Heard) -> Iterator[Violation]:
    """What arrived, or waits, of conversations that nobody has had."""
    for conversation in sorted((heard.arrived.keys() | heard.waiting) - set(known)):
        yield Violation("events_unknown", conversation, None, "no message was sent to it")


def _missing(
    conversation: str, count: int, places: Mapping[int, Sequence[int]], heard: Heard
) -> Iterator[Found]:
    last = max(places, default=-1)
    for number in range(count):
        reason = heard.buried.get((conversation, number))
        if number in places:
            continue
        if reason is not None:
            yield "events_missing", None, f"event {number} was set apart: {reason}"
        elif not heard.unread and not (conversation in heard.waiting and number > last):
            yield "events_missing", None, f"event {number} did not arrive"


def _out_of_order(places: Mapping[int, Sequence[int]]) -> Iterator[Found]:
    behind = -1
    for number in sorted(places):
        place = next((place for place in places[number] if place > behind), None)
        if place is None:
            yield "events_out_of_order", None, f"event {number} arrived before the one before it"
        else:
            behind = place


def _content(data: str) -> dict[str, Any]:
    """The event without what publishing has added."""
    fields: dict[str, Any] = json.loads(data)
    added = ("sender_id", SEQUENCE_FIELD, HISTORY_FIELD)
    return {key: value for key, value in fields.items() if key not in added}
