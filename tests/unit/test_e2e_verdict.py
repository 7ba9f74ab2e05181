"""The judgement of the end to end run notices each way in which records can disagree."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from e2e.sender import Delivery
from e2e.verdict import Verdict, _judge, _unlike

from ticketlock.demo.traffic import Message

Events = list[dict[str, Any]]


def told(number: int) -> dict[str, Any]:
    return {"message_id": f"m{number}", "fence": 100 + number}


def stored(*numbers: int) -> Events:
    events: Events = [{"event": "action", "name": "action_session_start"}]
    for number in numbers:
        events.append({"event": "user", "message_id": f"m{number}", "text": f"text {number}"})
        events.append({"event": "bot", "data": {"custom": told(number)}})
    return events


def sent() -> list[Delivery]:
    """Three messages, the second of which was sent twice."""
    deliveries = [Delivery(Message(number, "c", f"text {number}")) for number in range(3)]
    for number, delivery in enumerate(deliveries):
        delivery.replies = [[{"recipient_id": "c", "custom": told(number)}]]
    deliveries[1].replies *= 2
    return deliveries


def broken(events: Events, deliveries: list[Delivery], *, ordered: bool = True) -> set[str]:
    verdict = Verdict()
    _judge(verdict, deliveries, events, ordered=ordered)
    assert len(verdict.examples) == sum(verdict.counts.values())
    return {kind for kind, count in verdict.counts.items() if count}


def test_what_agrees_is_not_blamed() -> None:
    assert broken(stored(0, 1, 2), sent()) == set()


@pytest.mark.parametrize(
    ("numbers", "kinds"),
    [
        ((0, 2), {"lost", "other_reply", "out_of_order"}),
        ((0, 1, 1, 2), {"twice", "out_of_order"}),
        ((0, 1, 2, 3), {"unknown", "out_of_order"}),
        ((1, 0, 2), {"out_of_order"}),
    ],
)
def test_other_turns_are_noticed(numbers: tuple[int, ...], kinds: set[str]) -> None:
    assert broken(stored(*numbers), sent()) == kinds


def test_several_on_their_way_may_come_in_any_order_but_that_of_their_fences() -> None:
    """Not the sender's order, but that which the replies tell."""
    events, deliveries = stored(1, 0, 2), sent()
    assert broken(events, deliveries, ordered=False) == {"out_of_order"}
    for number, fence in ((1, 200), (0, 201), (2, 202)):
        for event in events:
            if event.get("data", {}).get("custom", {}).get("message_id") == f"m{number}":
                event["data"]["custom"]["fence"] = fence
        for reply in deliveries[number].replies:
            reply[0]["custom"] = {"message_id": f"m{number}", "fence": fence}
    assert broken(events, deliveries, ordered=False) == set()
    assert broken(events, deliveries, ordered=True) == {"out_of_order"}


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
    events, deliveries = stored(0, 1, 2), sent()
    del events[4]
    deliveries[1].replies = [[], []]
    assert broken(events, deliveries) == {"stopped", "other_reply"}


def _lose(published: dict[str, Events]) -> None:
    published["c"].pop(2)


def _repeat(published: dict[str, Events]) -> None:
    published["c"].insert(2, published["c"][2])


def _swap(published: dict[str, Events]) -> None:
    published["c"][1], published["c"][3] = published["c"][3], published["c"][1]


def _change(published: dict[str, Events]) -> None:
    published["c"][1]["text"] = "other"


def _invent(published: dict[str, Events]) -> None:
    published["d"] = stored(7)


@pytest.mark.parametrize("harm", [_lose, _repeat, _swap, _change, _invent])
def test_the_event_service_must_have_the_same(harm: Callable[[dict[str, Events]], None]) -> None:
    """Event by event, in the same order; what publishing adds to an event does not count."""
    histories = {"c": stored(0, 1, 2)}
    published = copy.deepcopy(histories)
    for place, event in enumerate(published["c"]):
        event.update(sender_id="c", sequence=place)
    assert _unlike(histories, published) is None
    harm(published)
    assert _unlike(histories, published) is not None
