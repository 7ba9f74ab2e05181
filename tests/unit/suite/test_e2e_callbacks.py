"""The judgement of `e2e --async` notices each way in which callbacks can be wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from e2e.accepted import Accepted
from e2e.callbacks import Post, callback_violations

from ticketlock.demo.traffic import Message

Posts = list[Post]


def sent() -> list[Accepted]:
    """Three messages, accepted with the tickets 1 to 3."""
    return [Accepted(Message(id, "c", f"text {id}"), number=id + 1) for id in range(3)]


def posted() -> Posts:
    """Their replies, in two parts each, as they should come."""
    return [
        Post(id + 1, part, 2, f"{id}-{part}", body, 1.0)
        for id in range(3)
        for part, body in enumerate((text(id), custom(id)), 1)
    ]


def text(id: int) -> dict[str, Any]:
    return {"recipient_id": "c", "text": f"text {id}"}


def custom(id: int) -> dict[str, Any]:
    return {"recipient_id": "c", "custom": {"message_id": str(id), "fence": 100 + id}}


def broken(posts: Posts, deliveries: list[Accepted] | None = None) -> set[str]:
    found = callback_violations("c", sent() if deliveries is None else deliveries, posts)
    return {violation.kind for violation in found}


def test_what_is_right_is_not_blamed() -> None:
    """Each message has its replies then, for the comparison with the history."""
    deliveries = sent()
    assert broken(posted(), deliveries) == set()
    assert [one.replies for one in deliveries] == [[[text(id), custom(id)]] for id in range(3)]


def test_repeats_are_no_fault() -> None:
    """A POST may come again under its webhook-id, at any time."""
    posts = posted()
    assert broken([*posts[:4], posts[1], posts[0], *posts[3:], posts[0]]) == set()


def _lose(posts: Posts) -> None:
    del posts[2:4]


def _lose_a_part(posts: Posts) -> None:
    del posts[3]


def _lose_the_last(posts: Posts) -> None:
    del posts[4:]


def _swap_messages(posts: Posts) -> None:
    posts[:] = [*posts[2:4], *posts[:2], *posts[4:]]


def _swap_parts(posts: Posts) -> None:
    posts[0], posts[1] = posts[1], posts[0]


def _send_under_two_ids(posts: Posts) -> None:
    posts.append(replace(posts[0], webhook_id="another"))


def _send_under_two_tickets(posts: Posts) -> None:
    posts += [replace(post, number=4, webhook_id=f"4-{post.part}") for post in posts[:2]]


def _take_another_ticket(posts: Posts) -> None:
    posts[4:] = [replace(post, number=4) for post in posts[4:]]


def _change_the_text(posts: Posts) -> None:
    posts[2] = replace(posts[2], body={"recipient_id": "c", "text": "text 2"})


@pytest.mark.parametrize(
    ("harm", "kind"),
    [
        (_lose, "callbacks_missing"),
        (_lose_a_part, "callbacks_missing"),
        (_lose_the_last, "callbacks_missing"),
        (_swap_messages, "callbacks_out_of_order"),
        (_swap_parts, "callbacks_out_of_order"),
        (_send_under_two_ids, "callbacks_twice"),
        (_send_under_two_tickets, "callbacks_twice"),
        (_take_another_ticket, "callbacks_differing"),
        (_change_the_text, "callbacks_differing"),
    ],
)
def test_what_is_wrong_is_noticed(harm: Callable[[Posts], None], kind: str) -> None:
    posts = posted()
    harm(posts)
    assert broken(posts) == {kind}
