"""The judgement of the end to end run notices each way in which records can disagree.

What the demo's judge notices by itself is in `demo/judge`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from e2e.sender import Delivery
from e2e.verdict import Verdict, violations

from ticketlock.demo.judge.events import BrokerSnapshot
from ticketlock.demo.judge.records import BEGIN, END, TurnRecord
from ticketlock.demo.traffic import Message
from ticketlock.event_service.records import Received
from ticketlock.events import BotUttered, UserUttered
from ticketlock.events.event import Event

REPLICA = "process 1"
Published = list[Received]


def told(number: int) -> dict[str, Any]:
    return {"message_id": str(number), "fence": 100 + number}


def stored(*numbers: int, tickets: Sequence[int] | None = None) -> list[Event]:
    """A history in which these messages were handled, under tickets equal to them or given."""
    events: list[Event] = []
    for number, ticket in zip(numbers, tickets or numbers, strict=True):
        facts = {"message": number, "seen": len(events), "number": ticket, "fence": 100 + ticket}
        text, custom = f"text {number}", {"custom": told(number)}
        events.append(UserUttered(text, message_id=str(number), timestamp=1.0))
        metadata = {**facts, "replica": REPLICA}
        events.append(BotUttered(text, data=custom, metadata=metadata, timestamp=1.0))
    return events


def recorded(events: Sequence[Event]) -> list[TurnRecord]:
    """What the bots have recorded of it."""
    return [
        TurnRecord(facts["message"], what, facts["number"], facts["fence"], REPLICA, 1.0)
        for event in events
        if isinstance(event, BotUttered)
        for facts in [event.metadata]
        for what in (BEGIN, END)
    ]


def published(events: Sequence[Event]) -> Published:
    """The same in the event service's database."""
    found = []
    for sequence, event in enumerate(events):
        data = json.dumps({**event.as_dict(), "sender_id": "c", "sequence": sequence})
        found.append(Received("c", 1, sequence, None, None, data, "", ""))
    return found


def sent() -> list[Delivery]:
    """Three messages, the second of which was sent twice."""
    deliveries = [Delivery(Message(number, "c", f"text {number}")) for number in range(3)]
    for number, delivery in enumerate(deliveries):
        text = {"recipient_id": "c", "text": f"text {number}"}
        delivery.replies = [[text, {"recipient_id": "c", "custom": told(number)}]]
    deliveries[1].replies *= 2
    return deliveries


def broken(
    events: list[Event],
    deliveries: list[Delivery],
    *,
    ordered: bool = True,
    arrived: Published | None = None,
) -> set[str]:
    verdict = Verdict()
    heard = BrokerSnapshot(
        "event service", arrived={"c": published(events) if arrived is None else arrived}
    )
    entries = recorded(events)
    verdict.add(violations("c", deliveries, events, entries, heard, ordered=ordered))
    assert len(verdict.examples) == sum(verdict.counts.values())
    return {kind for kind, count in verdict.counts.items() if count}


def test_what_agrees_is_not_blamed() -> None:
    assert broken(stored(0, 1, 2), sent()) == set()


@pytest.mark.parametrize(
    ("numbers", "kinds"),
    [
        ((0, 2), {"lost", "other_reply"}),
        ((0, 1, 1, 2), {"duplicated", "stale_fences"}),
        ((0, 1, 2, 3), {"damaged"}),
        ((1, 0, 2), {"out_of_order", "stale_fences"}),
    ],
)
def test_other_turns_are_noticed(numbers: tuple[int, ...], kinds: set[str]) -> None:
    assert broken(stored(*numbers), sent()) == kinds


def test_several_on_their_way_may_come_in_any_order_but_that_of_their_tickets() -> None:
    """Not the sender's order: that counts where each message waits for the one before."""
    events = stored(1, 0, 2, tickets=(1, 2, 3))
    assert broken(events, sent(), ordered=False) == set()
    assert broken(events, sent(), ordered=True) == {"out_of_order"}


def test_another_reply_to_a_duplicate_is_noticed() -> None:
    deliveries = sent()
    deliveries[1].replies[1] = [{"custom": {**told(1), "fence": 999}}]
    assert broken(stored(0, 1, 2), deliveries) == {"other_reply"}
    deliveries[1].replies[1] = []
    assert broken(stored(0, 1, 2), deliveries) == {"other_reply"}


def test_a_message_without_a_reply_is_lost() -> None:
    deliveries = sent()
    deliveries[2].replies = []
    assert broken(stored(0, 1, 2), deliveries) == {"lost"}


def test_a_turn_that_was_stopped_is_noticed() -> None:
    """Its message is in the history, a reply is not, and its sender has got none."""
    events, deliveries = stored(0, 1, 2)[:-1], sent()
    deliveries[2].replies = [[]]
    assert broken(events, deliveries) == {"torn", "other_reply"}


def _lose(events: Published) -> None:
    events.pop(2)


def _swap(events: Published) -> None:
    events[1], events[3] = events[3], events[1]


def _change(events: Published) -> None:
    events[1] = events[1]._replace(data=events[1].data.replace("text 0", "other"))


def _invent(events: Published) -> None:
    events.append(events[-1]._replace(sequence=len(events)))


@pytest.mark.parametrize(
    ("harm", "kind"),
    [
        (_lose, "events_missing"),
        (_swap, "events_out_of_order"),
        (_change, "events_differing"),
        (_invent, "events_unknown"),
    ],
)
def test_the_event_service_must_have_the_same(harm: Callable[[Published], None], kind: str) -> None:
    """Event by event, in the same order; what publishing adds to an event does not count."""
    events = stored(0, 1, 2)
    arrived = published(events)
    harm(arrived)
    assert broken(events, sent(), arrived=arrived) == {kind}
