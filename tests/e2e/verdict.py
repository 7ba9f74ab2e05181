"""The judgement: sender's record, tracker store and event service's database must agree.

The demo's judge says what is wrong with the turns and the events of a conversation; what it is
given is read from the databases with SQL. Of the replies it knows nothing: they are judged here.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from servers.consumers import query

from ticketlock.demo.judge.events import (
    EVENT_KINDS,
    BrokerSnapshot,
    EventCounts,
    verify_events,
    verify_strangers,
)
from ticketlock.demo.judge.records import Records, TurnRecord
from ticketlock.demo.judge.turns import KINDS, Violation, verify
from ticketlock.event_service.records import Received
from ticketlock.events import BotUttered, UserUttered
from ticketlock.events.event import Event

from .accepted import AcceptedSender
from .acting import ACTING_KINDS, acting_violations, apart
from .sender import Delivery, Sender
from .topology import Topology

#: Seconds for which the event service may store nothing before we stop waiting for it.
PATIENCE = 60.0


@dataclass
class Verdict:
    """How often each promise was broken, by its name; and the first ones, in words."""

    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys((*KINDS, *EVENT_KINDS, "other_reply", "rejected"), 0)
    )
    examples: list[str] = field(default_factory=list)

    def broken(self, kind: str, example: object) -> None:
        self.counts[kind] += 1
        if len(self.examples) < 10:
            self.examples.append(str(example))

    def add(self, violations: Iterable[Violation]) -> None:
        for violation in violations:
            self.broken(violation.kind, violation)


def judge(
    topology: Topology,
    sender: Sender | AcceptedSender,
    on_stored: Callable[[int], None] = lambda stored: None,
) -> tuple[Verdict, dict[str, list[Event]]]:
    """The verdict, and all histories."""
    verdict, records = Verdict(), Records(topology.records)
    if topology.actions is not None:
        verdict.counts |= dict.fromkeys(ACTING_KINDS, 0)
    stored = _stored_events(topology)
    count = sum(map(len, stored.values()))
    heard = BrokerSnapshot("event service", arrived=_published(topology, count, on_stored))
    sent: dict[str, list[Delivery]] = defaultdict(list)
    for delivery in sender.deliveries:
        sent[delivery.message.conversation].append(delivery)
    names = sent.keys() | stored.keys()
    for name in names:
        ordered, entries = name in sender.narrow, records.read(name)
        verdict.add(
            violations(
                name, sent[name], stored[name], entries, heard,
                ordered=ordered, acting=topology.actions is not None,
            )
        )  # fmt: skip
    verdict.add(verify_strangers(list(names), heard))
    return verdict, stored


def _stored_events(topology: Topology) -> dict[str, list[Event]]:
    """All histories, as they are stored."""
    stored: dict[str, list[Event]] = defaultdict(list)
    for name, data in query(topology.tracker, "SELECT sender_id, data FROM events ORDER BY id"):
        stored[name].append(Event.from_dict(_object(data), stamp=False))
    return stored


def violations(
    name: str,
    sent: Sequence[Delivery],
    stored: Sequence[Event],
    entries: Sequence[TurnRecord | None],
    heard: BrokerSnapshot,
    *,
    ordered: bool,
    acting: bool = False,
) -> list[Violation]:
    """All that is wrong with one conversation.

    Args:
        ordered: its messages were sent one after the other; else their order is the tickets'.
        acting: whether the bot calls actions and schedules reminders.
    """
    messages = [delivery.message for delivery in sent]
    resent = () if ordered else {message.id for message in messages}
    plain = apart(stored)[0] if acting else stored
    sent_ids = [delivery.message_id for delivery in sent]
    return [
        *verify(name, messages, plain, entries, resent=resent),
        *verify_events(name, stored, heard, EventCounts(heard.broker)),
        *_replies(name, sent, plain),
        *(acting_violations(name, stored, sent_ids) if acting else ()),
    ]


def _replies(name: str, sent: Sequence[Delivery], stored: Sequence[Event]) -> Iterator[Violation]:
    """Each sending of a message must have got the reply that is stored."""
    told: dict[str | None, Any] = {}
    for user, answer in pairwise(stored):
        if isinstance(user, UserUttered) and isinstance(answer, BotUttered):
            told.setdefault(user.message_id, answer.data.get("custom"))
    for delivery in sent:
        if not delivery.replies:
            yield Violation("lost", name, delivery.message.id, "it got no reply")
        for reply in delivery.replies:
            customs = [part["custom"] for part in reply if "custom" in part]
            if customs != [told.get(delivery.message_id)]:
                text = f"{reply} is not the stored {told.get(delivery.message_id)}"
                yield Violation("other_reply", name, delivery.message.id, text)


def _object(data: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(data) if isinstance(data, str) else data
    return found


def _published(
    topology: Topology, count: int, on_stored: Callable[[int], None]
) -> Mapping[str, Sequence[Received]]:
    """What the event service has, once it has so many events or no more come."""
    end, last = time.monotonic() + PATIENCE, -1
    while time.monotonic() < end:
        ((now,),) = query(topology.events, "SELECT count(*) FROM ticketlock_service_events")
        on_stored(now)
        if now >= count:
            break
        if now != last:
            end, last = time.monotonic() + PATIENCE, now
        time.sleep(0.2)
    found: dict[str, list[Received]] = defaultdict(list)
    for name, history, sequence, data in query(
        topology.events,
        "SELECT sender_id, history, sequence, data FROM ticketlock_service_events"
        " ORDER BY sender_id, history, sequence",
    ):
        text = json.dumps(_object(data))
        found[name].append(Received(name, history, sequence, None, None, text, "", ""))
    return found
