"""A domain in turns: slots of trackers, what `utter` says, and when a session ends."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from serving import client, send
from ticketlock.stores.memory import InMemoryTrackerStore

from ticketlock import ConfigurationError, Conversations, Domain, Tracker
from ticketlock.server import Message
from ticketlock.turn import Turn

DOMAIN = Domain.from_dict(
    {
        "slots": {
            "city": {"type": "text", "initial_value": "Rome"},
            "tags": {"type": "list", "initial_value": "a"},
            "n": {"type": "float"},
        },
        "forms": {"order": {"required_slots": ["city"]}},
        "session_config": {
            "session_expiration_time": 5,
            "carry_over_slots_to_new_session": False,
        },
        "responses": {
            "utter_greet": [
                {"text": "Hi {name} in {city}", "id": "g1"},
                {"text": "slack: {city}", "channel": "slack"},
            ],
            "utter_picture": [
                {"text": "see", "image": "http://x/{city}.png", "buttons": [{"title": "a"}]}
            ],
            "utter_never": [
                {"text": "x", "condition": [{"type": "slot", "name": "n", "value": 1}]}
            ],
            "utter_any": [{"text": str(i)} for i in range(1000)],
        },
    }
)
INITIAL = {
    "city": "Rome", "tags": ["a"], "n": None, "requested_slot": None,
    "session_started_metadata": None,
}  # fmt: skip


def slot(name: str, value: Any) -> dict[str, Any]:
    return {"event": "slot", "name": name, "value": value}


def tracker(*events: dict[str, Any]) -> Tracker:
    made = InMemoryTrackerStore(DOMAIN).init_tracker("c")
    made.update_with_events(events)
    return made


def test_slots_begin_with_their_values() -> None:
    """Also after a restart and the start of a session, and whatever a bot has changed in place."""
    made = tracker()
    assert made.slots == INITIAL
    made.slots["tags"].append("b")
    for reset in ("restart", "session_started", "reset_slots"):
        made.update(slot("city", "Oslo"))
        assert made.slots["city"] == "Oslo"
        made.update({"event": reset})
        assert made.slots == INITIAL
    assert tracker().slots == INITIAL


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [("tags", "b", ["b"]), ("tags", ["b"], ["b"]), ("tags", None, None), ("tags", "", ""),
     ("tags", {"k": 1}, [{"k": 1}]), ("n", "12", "12"), ("n", 99, 99), ("city", 3, 3)],
)  # fmt: skip
def test_what_a_slot_is_set_to(name: str, given: Any, kept: Any) -> None:
    """A list takes one value as a list; the others take what comes."""
    assert tracker(slot(name, given)).slots[name] == kept


def test_a_slot_that_is_not_declared(caplog: pytest.LogCaptureFixture) -> None:
    """It has no value, its event stays, and its name is logged once; without a domain it is set."""
    domain = Domain.from_dict({})
    with caplog.at_level(logging.WARNING, "ticketlock"):
        for _ in range(2):
            made = InMemoryTrackerStore(domain).init_tracker("c")
            made.update(slot("nope", "secret"))
    assert made.slots == {"session_started_metadata": None}
    assert made.events[-1].as_dict()["value"] == "secret"
    (record,) = caplog.records
    assert record.getMessage() == (
        "slot 'nope' is not in the domain: it has no value; declare it under slots"
    )
    plain = InMemoryTrackerStore().init_tracker("c")
    plain.update(slot("nope", 1))
    assert plain.slots == {"nope": 1}


async def greets(turn: Turn, message: Message) -> AsyncIterator[str]:
    turn.utter("utter_greet", name=message.text)
    yield "then"
    turn.utter("utter_picture")


async def test_a_response_is_a_reply() -> None:
    """Among those that the bot yields, and in the history as documented."""
    async with client(greets, (None, InMemoryTrackerStore(DOMAIN))) as http:
        assert (await send(http, "Anna")).json() == [
            {"recipient_id": "default", "text": "Hi Anna in Rome"},
            {"recipient_id": "default", "text": "then"},
            {"recipient_id": "default", "text": "see", "buttons": [{"title": "a"}]},
            {"recipient_id": "default", "image": "http://x/Rome.png"},
        ]
        state = (await http.get("/conversations/default/tracker?include_events=ALL")).json()
        assert state["slots"] == INITIAL
        first, _, last = [e for e in state["events"] if e["event"] == "bot"]
        assert (first["text"], first["data"]) == ("Hi Anna in Rome", {})
        assert first["metadata"] == {"id": "g1", "utter_action": "utter_greet"}
        assert last["data"] == {
            "buttons": [{"title": "a"}],
            "image": "http://x/Rome.png",
            "attachment": "http://x/Rome.png",
        }


async def test_the_variation_of_the_message_s_channel() -> None:
    async with Conversations(domain=DOMAIN) as conversations, conversations.turn("c") as turn:
        turn.utter("utter_greet", name="Anna")
        turn.add({"event": "user", "text": "hi", "input_channel": "slack"})
        turn.utter("utter_greet", name="Anna")
        said = [e.as_dict() for e in turn.tracker.events if e.as_dict()["event"] == "bot"]
        assert [one["text"] for one in said] == ["Hi Anna in Rome", "slack: Rome"]
        assert said[1]["metadata"] == {"channel": "slack", "utter_action": "utter_greet"}


async def said(conversation: str, message_id: str) -> list[Any]:
    """What two calls of `utter` in a new process would say to a message."""
    async with Conversations(domain=DOMAIN) as conversations:
        async with conversations.turn(conversation) as turn:
            turn.add({"event": "user", "text": "hi", "message_id": message_id})
            turn.utter("utter_any")
            turn.utter("utter_any")
            return [e.as_dict()["text"] for e in turn.tracker.events[1:]]


async def test_an_attempt_that_is_repeated_says_the_same() -> None:
    """Of several variations, for the same message; for others, and when said again, another one."""
    first = await said("c", "m1")
    assert first == await said("c", "m1")
    assert first[0] != first[1]
    assert first != await said("c", "m2")
    assert first != await said("d", "m1")


async def test_a_turn_that_is_tried_again() -> None:
    """What a client of the stream has seen before the failure is what it gets for good."""

    async def fails(turn: Turn, message: Message) -> AsyncIterator[str]:
        turn.utter("utter_any")
        if message.attempt == 1:
            raise RuntimeError("of the test")
        yield "done"

    async with client(fails, (None, InMemoryTrackerStore(DOMAIN))) as http:
        body = {"message": "hi", "message_id": "m1"}
        first = await http.post("/webhooks/rest/webhook?stream=true", json=body)
        heard, failed = map(json.loads, first.text.splitlines())
        assert (failed["code"], heard["text"].isdigit()) == (500, True)
        assert (await send(http, "hi", message_id="m1")).json()[0] == heard


async def test_what_is_stored_is_shown_as_rasa_does() -> None:
    """Quick replies are buttons, and elements are texts."""

    async def bot(turn: Turn, message: Message) -> AsyncIterator[str]:
        turn.utter("utter_rich")
        yield "end"

    rich = {
        "text": "t",
        "quick_replies": [{"title": "q"}],
        "elements": [{"title": "a", "subtitle": "b", "buttons": [{"title": "c"}]}, {"title": "d"}],
    }
    domain = Domain.from_dict({"responses": {"utter_rich": [rich]}})
    async with client(bot, (None, InMemoryTrackerStore(domain))) as http:
        to = {"recipient_id": "default"}
        assert (await send(http, "hi")).json() == [
            {**to, "text": "t", "buttons": [{"title": "q"}]},
            {**to, "text": "a : b", "buttons": [{"title": "c"}]},
            {**to, "text": "d : ", "buttons": []},
            {**to, "text": "end"},
        ]


async def test_without_a_fitting_variation(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is said, and a warning says so."""
    async with Conversations(domain=DOMAIN) as conversations, conversations.turn("c") as turn:
        turn.utter("utter_never")
        assert turn.tracker.events == []
    assert "utter_never: no variation fits the slots" in caplog.text


async def test_what_cannot_be_uttered() -> None:
    async with Conversations(domain=DOMAIN) as conversations, conversations.turn("c") as turn:
        with pytest.raises(ConfigurationError, match="domain: responses: 'utter_gret' is not ther"):
            turn.utter("utter_gret")
    async with Conversations() as conversations, conversations.turn("c") as turn:
        with pytest.raises(ConfigurationError, match="there is no domain: give Conversations"):
            turn.utter("utter_greet")


def test_for_threads() -> None:
    with Conversations(domain=DOMAIN).sync() as conversations, conversations.turn("c") as turn:
        turn.utter("utter_greet", name="Anna")
        assert turn.tracker.events[-1].as_dict()["text"] == "Hi Anna in Rome"


@pytest.mark.parametrize(
    ("settings", "minutes", "city"),
    [
        ({}, 4, "Oslo"),
        ({}, 6, "Rome"),
        ({"session_expiration_time": 60}, 6, "Oslo"),
        ({"session_expiration_time": 1}, 4, "Rome"),
        ({"carry_over_slots": True}, 6, "Oslo"),
    ],
)
async def test_the_session_ends_as_the_domain_says(
    settings: dict[str, Any], minutes: float, city: str
) -> None:
    """Unless the section server says it."""
    store = InMemoryTrackerStore(DOMAIN)
    then = time.time() - 60 * minutes
    old = [{"event": "user", "text": "old", "timestamp": then}, slot("city", "Oslo")]
    await store.save(Tracker.from_dict("default", old))
    async with client(None, (None, store), **settings) as http:
        await send(http, "hi")
        state = (await http.get("/conversations/default/tracker")).json()
        assert state["slots"]["city"] == city


def test_where_the_domain_comes_from(tmp_path: Path) -> None:
    """An argument, a path, the section server from the folder of its file, or the store's own."""
    (tmp_path / "bot").mkdir()
    (tmp_path / "bot" / "domain.yml").write_text("slots: {a: {type: any, initial_value: 1}}")
    (tmp_path / "other.yml").write_text("slots: {a: {type: any, initial_value: 2}}")
    file = tmp_path / "endpoints.yml"
    file.write_text("server: {domain: bot/domain.yml}\ntracker_store: {type: in_memory}")

    def initial(conversations: Conversations) -> Any:
        assert conversations.domain is conversations.tracker_store.domain
        return conversations.tracker_store.init_tracker("c").slots["a"]

    assert initial(Conversations.from_endpoints(file)) == 1
    assert initial(Conversations.from_endpoints(file, tmp_path / "other.yml")) == 2
    assert initial(Conversations(domain=str(tmp_path / "bot"))) == 1
    assert Conversations(None, InMemoryTrackerStore(DOMAIN)).domain is DOMAIN
    given = Conversations(None, InMemoryTrackerStore(), domain=DOMAIN)
    assert given.tracker_store.init_tracker("c").slots == INITIAL
    assert Conversations().domain is None
    file.write_text("server: {domain: no.yml}")
    with pytest.raises(ConfigurationError, match=r"no\.yml: cannot be read"):
        Conversations.from_endpoints(file)
    file.write_text("server: {domain: [a]}")
    with pytest.raises(ConfigurationError, match="server: domain: is not the path of a file"):
        Conversations.from_endpoints(file)
