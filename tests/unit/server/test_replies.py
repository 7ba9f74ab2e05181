"""From what a bot yields to events, and to the objects of the REST channel; stories."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from serving import client, send

from ticketlock.errors import InvalidEvent
from ticketlock.events import BotUttered, SlotSet, UserUttered
from ticketlock.events.reply import reply_event
from ticketlock.server.replies import replies_in, rest_objects
from ticketlock.server.story import stories
from ticketlock.tracker.tracker import Tracker

BUTTONS = [{"title": "Yes", "payload": "/yes"}]


@pytest.mark.parametrize(
    ("reply", "objects"),
    [
        ("hello", [{"text": "hello"}]),
        ("one\n\ntwo\n\n\n\nthree\n", [{"text": "one"}, {"text": "two"}, {"text": "three"}]),
        ("a\nb", [{"text": "a\nb"}]),
        ("", []),
        (" ", [{"text": " "}]),
        ({"text": "a\n\nb", "buttons": BUTTONS}, [{"text": "a\n\nb", "buttons": BUTTONS}]),
        ({"image": "http://x/y.png"}, [{"image": "http://x/y.png"}]),
        (
            {"text": "see", "image": "i", "attachment": "a", "custom": {"k": [1]}},
            [{"text": "see"}, {"image": "i"}, {"attachment": "a"}, {"custom": {"k": [1]}}],
        ),
        ({"text": "x", "metadata": {"utter_action": "u"}, "image": None}, [{"text": "x"}]),
    ],
)
def test_objects(reply: Any, objects: list[dict[str, Any]]) -> None:
    """The documented shapes; a long text is split at its blank lines."""
    made = list(rest_objects(reply_event(reply), "anna"))
    assert made == [{"recipient_id": "anna", **wanted} for wanted in objects]


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (None, "NoneType"),
        (["a"], "list"),
        ({"txt": "a"}, "key 'txt'; known: text"),
        ({"text": 5}, "is not text, but int"),
        ({"metadata": 5}, "metadata"),
        ({"custom": {1: 2}}, "cannot be stored"),
        ({"custom": float("nan")}, "cannot be stored"),
        ("\ud800", "cannot be stored"),
    ],
)
def test_what_is_no_reply(reply: Any, says: str) -> None:
    """The error says what is wrong."""
    with pytest.raises(InvalidEvent, match=says):
        reply_event(reply)


def test_replies_end_where_the_next_message_begins() -> None:
    """Each message has its own; what is no utterance of the bot is none of them."""
    events = [
        UserUttered("a", message_id="1", timestamp=10), BotUttered("A"), SlotSet("s", 1),
        BotUttered("AA"), UserUttered("b", message_id="2", timestamp=20), BotUttered("B"),
    ]  # fmt: skip
    tracker = Tracker("x", events)
    assert tracker.find_message("1") == (0, 10)
    assert [r["text"] for r in replies_in(tracker.since(1), "x")] == ["A", "AA"]
    assert tracker.find_message("2") == (4, 20)
    assert tracker.find_message("3") is None


def test_stories_cannot_be_broken_out_of() -> None:
    """Whatever was said, the document is YAML with these steps."""
    from ruamel.yaml import YAML

    nasty = 'x\n- story: y\n  "q" \'#: {[ ü \u2028'
    events = [UserUttered(nasty), BotUttered(nasty), SlotSet(nasty, {"a": nasty})]
    told = YAML(typ="safe").load(asyncio.run(stories(nasty, [events, [], events])))
    assert [story["story"] for story in told["stories"]] == [
        f"{nasty}, story 1",
        f"{nasty}, story 2",
    ]
    assert told["stories"][0]["steps"] == [
        {"user": nasty}, {"bot": nasty}, {"slot_was_set": [{nasty: {"a": nasty}}]},
    ]  # fmt: skip
    assert YAML(typ="safe").load(asyncio.run(stories("none", [[]])))["stories"] == []


@pytest.mark.parametrize("body", [{}, {"sendr": "anna"}, {"sender_id": "anna"}, {"sender": None}])
async def test_a_message_without_a_sender(body: dict[str, Any]) -> None:
    """It belongs to `default`, and the reply says so: an unknown key is ignored."""
    async with client() as http:
        answer = await send(http, "hello", **body)
        assert answer.json() == [{"recipient_id": "default", "text": "hello"}]


@pytest.mark.parametrize("sender", [5, True, ["anna"], {}])
async def test_a_sender_of_the_wrong_type(sender: Any) -> None:
    """The message is rejected with the field's name."""
    async with client() as http:
        answer = await send(http, "hello", sender=sender)
        assert answer.status_code == 400
        assert answer.json()["message"] == "sender is not text"
