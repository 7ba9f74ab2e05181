"""The conversations' endpoints, hostile ids and bodies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar
from urllib.parse import quote

import pytest
from serving import Gate, client, send, talk

from ticketlock.tracker.store import TrackerStore
from ticketlock.tracker.tracker import Tracker

ROOT = "/conversations/anna/"
SLOT = {"event": "slot", "name": "s", "value": 1}


async def test_events_are_appended_after_a_session_start(run: Callable[..., None]) -> None:
    """In an empty conversation only, and if the list does not bring its own."""
    async with client() as http:
        url = ROOT + "tracker/events?include_events=ALL"
        state = (await http.post(url, json=SLOT)).json()
        kinds = [event["event"] for event in state["events"]]
        assert kinds == ["action", "session_started", "action", "slot"]
        assert state["slots"] == {"s": 1}
        times = [event["timestamp"] for event in state["events"]]
        assert times == sorted(times)
        state = (await http.post(url, json=[SLOT, {**SLOT, "value": 2}])).json()
        assert len(state["events"]) == 6
        own = [{"event": "action", "name": "action_session_start"}, SLOT]
        other = "/conversations/b/tracker/events?include_events=ALL"
        assert len((await http.post(other, json=own)).json()["events"]) == 2


async def test_wrong_events_are_the_senders_fault(run: Callable[..., None]) -> None:
    """400, never 500 (a defect of the reference), and nothing is stored."""
    async with client() as http:
        bad: list[Any] = [[], [SLOT, 5], {"no": "event"}, 5, None, [SLOT, {"event": 5}]]
        for method in ("POST", "PUT"):
            for events in bad:
                answer = await http.request(method, ROOT + "tracker/events", json=events)
                assert answer.status_code == 400, events
                assert answer.json()["status"] == "failure"
        answer = await http.post(f"{ROOT}tracker/events?include_events=SOME", json=SLOT)
        assert answer.status_code == 400
        assert (await http.get(ROOT + "story")).status_code == 404


WRONG: list[tuple[Any, str]] = [
    ({"event": "slot", "name": ["s"], "value": 1}, "name"),
    ({"event": "slot", "value": 1}, "name"),
    ({"event": "entities", "entities": 5}, "entities"),
    ({"event": "entities", "entities": [{}, 5]}, "entities[1]"),
    ({"event": "user", "text": 5}, "text"),
    ({"event": "user", "parse_data": {"entities": 5}}, "parse_data.entities"),
    ({"event": "user", "parse_data": {"intent": "greet"}}, "parse_data.intent"),
    ({"event": "user", "parse_data": []}, "parse_data"),
    ({"event": "bot", "data": "x"}, "data"),
    ({"event": "action", "name": {}}, "name"),
    ({"event": "action"}, "name"),
    ({"event": "active_loop", "name": 5}, "name"),
    ({"event": "action_execution_rejected", "name": None}, "name"),
    ({"event": "form_validation", "validate": "yes"}, "validate"),
    ({"event": "flow_started", "flow_id": 5}, "flow_id"),
    ({"event": "brand new", "timestamp": "soon"}, "timestamp"),
    ({"event": "brand new", "timestamp": True}, "timestamp"),
    ({"event": "brand new", "metadata": 5}, "metadata"),
]


@pytest.mark.parametrize(("wrong", "field"), WRONG, ids=str)
async def test_a_wrong_field_is_named(
    wrong: dict[str, Any], field: str, run: Callable[..., None]
) -> None:
    """400 with its place and name, by POST and PUT; nothing is stored."""
    async with client() as http:
        for method in ("POST", "PUT"):
            answer = await http.request(method, ROOT + "tracker/events", json=[SLOT, wrong])
            assert answer.status_code == 400
            assert f"event 1 ('{wrong['event']}'): {field} " in answer.json()["message"]
        assert (await http.get(ROOT + "tracker?include_events=ALL")).json()["events"] == []
        if wrong["event"] == "user" and isinstance(wrong.get("parse_data"), dict):
            noted = {"sender": "user", "text": "x", "parse_data": wrong["parse_data"]}
            answer = await http.post(ROOT + "messages", json=noted)
            assert answer.status_code == 400
            assert field in answer.json()["message"]


@pytest.mark.parametrize("levels", [100, 300, 600, 5000])
async def test_nested_events_are_refused_in_a_line(
    levels: int, caplog: pytest.LogCaptureFixture
) -> None:
    """400, and hardly anything in the log: 1.2 KB of brackets made 270 KB of it.

    What is deeper than the server takes at all is 413, before it is parsed.
    """
    caplog.set_level("INFO")
    status = 400 if levels < 500 else 413
    async with client(max_depth=500) as http:
        value = "[" * levels + "]" * levels
        slot = f'{{"event": "slot", "name": "s", "value": {value}}}'
        noted = f'{{"sender": "user", "text": "x", "parse_data": {{"a": {value}}}}}'
        for url, text in (("tracker/events", slot), ("messages", noted)):
            answer = await http.post(ROOT + url, content=text)
            assert answer.status_code == status, url
            assert len(answer.text) < 1000
        said = {"message": "x", "metadata": {"a": None}}
        text = json.dumps(said).replace("null", value)
        answer = await http.post("/webhooks/rest/webhook", content=text)
        assert answer.status_code == status
        assert sum(map(len, caplog.messages)) < 2000


async def test_nothing_is_stored_that_cannot_be_answered(run: Callable[..., None]) -> None:
    """Also not in a custom store, whose trackers hold what they like."""

    class Custom(TrackerStore):
        """Keeps trackers as they are, and calls every slot NaN."""

        kept: ClassVar[dict[str, Tracker]] = {}

        async def save(self, tracker: Tracker) -> None:
            self.kept[tracker.sender_id] = tracker

        async def retrieve(self, sender_id: str) -> Tracker | None:
            events = self.kept[sender_id].events if sender_id in self.kept else []
            nan = {"event": "slot", "name": "n", "value": float("nan"), "timestamp": 1.0}
            return Tracker.from_dict(sender_id, [nan, *(e.as_dict() for e in events[1:])])

        async def keys(self) -> list[str]:
            return list(self.kept)

    async with client(stores=(None, Custom())) as http:
        state = await http.post(ROOT + "tracker/events", json=SLOT)
        assert state.status_code == 200
        assert state.json()["slots"] == {"n": "NaN", "s": 1}
        assert (await http.get(ROOT + "tracker")).json()["slots"]["n"] == "NaN"


async def test_the_history_is_replaced(run: Callable[..., None]) -> None:
    """By PUT, under the turn's fence."""
    async with client() as http:
        await send(http, "old", sender="anna")
        url = ROOT + "tracker/events?include_events=ALL"
        state = (await http.put(url, json=[SLOT])).json()
        assert [event["event"] for event in state["events"]] == ["slot"]
        state = (await http.get(ROOT + "tracker?include_events=ALL")).json()
        assert [event["event"] for event in state["events"]] == ["slot"]
        await send(http, "new", sender="anna")
        state = (await http.get(ROOT + "tracker?include_events=ALL")).json()
        assert [event["event"] for event in state["events"]] == ["slot", "user", "bot"]


async def test_looking_creates_nothing(run: Callable[..., None]) -> None:
    """An unknown conversation has an empty state; it is not there afterwards either."""
    async with client() as http:
        state = (await http.get(ROOT + "tracker")).json()
        assert (state["sender_id"], state["events"]) == ("anna", [])
        assert (await http.get(ROOT + "tracker?include_events=NONE")).json()["events"] is None
        assert (await http.get(ROOT + "story")).status_code == 404
        for query in ("include_events=", "include_events=all", "until=x", "until=nan"):
            assert (await http.get(f"{ROOT}tracker?{query}")).status_code == 400, query


async def test_the_past(run: Callable[..., None]) -> None:
    """`until` gives the conversation as it was then; sessions are stories of their own."""
    async with client() as http:
        session = [
            {"event": "action", "name": "action_session_start"},
            {"event": "session_started"},
        ]
        history = [
            *session, {"event": "user", "text": "one"}, *session, {"event": "user", "text": "two"},
        ]  # fmt: skip
        history = [{**event, "timestamp": i} for i, event in enumerate(history)]
        await http.put(ROOT + "tracker/events", json=history)
        state = (await http.get(ROOT + "tracker?until=2.5")).json()
        assert len(state["events"]) == 3
        assert state["latest_message"]["text"] == "one"
        one, two = '- user: "one"', '- user: "two"'
        story = (await http.get(ROOT + "story")).text
        assert two in story
        assert one not in story
        story = (await http.get(ROOT + "story?all_sessions=true")).text
        assert one in story
        assert two in story
        story = (await http.get(ROOT + "story?until=3")).text
        assert two not in story


async def test_a_story_is_one_that_rasa_reads(run: Callable[..., None]) -> None:
    """A message has its text beside its intent; what an action says is no step of its own."""
    async with client() as http:
        action, said = {"event": "action"}, {"event": "bot", "text": "Hi"}
        intent = {"intent": {"name": "greet"}}
        history = [
            {"event": "user", "text": "hello: there", "parse_data": intent},
            {**action, "name": "utter_greet"}, said, said, {**action, "name": "action_listen"},
            {"event": "user", "text": "and now"}, {**said, "text": "Bye"},
        ]  # fmt: skip
        await http.put(ROOT + "tracker/events", json=history)
        story = (await http.get(ROOT + "story")).text
    assert story.partition("  steps:\n")[2] == (
        '  - intent: "greet"\n    user: "hello: there"\n  - action: "utter_greet"\n'
        '  - user: "and now"\n  - bot: "Bye"\n'
    )


async def test_a_message_without_an_answer(run: Callable[..., None]) -> None:
    """POST messages stores it, and asks no bot; only a user's message goes there."""
    async with client() as http:
        parsed = {"intent": {"name": "greet"}}
        told = {"text": "hi", "sender": "user", "parse_data": parsed}
        state = (await http.post(ROOT + "messages", json=told)).json()
        assert [event["event"] for event in talk(state["events"])] == ["user"]
        assert state["latest_message"]["intent"] == {"name": "greet"}
        for wrong in ({"text": "hi"}, {"text": "hi", "sender": "bot"}, {"sender": "user"}):
            assert (await http.post(ROOT + "messages", json=wrong)).status_code == 400


async def test_trigger_an_intent(run: Callable[..., None]) -> None:
    """The bot answers; the tracker is the one after it. Errors are texts."""
    async with client() as http:
        told = {"name": "greet", "entities": {"city": "Oslo"}}
        answer = (await http.post(ROOT + "trigger_intent?include_events=ALL", json=told)).json()
        assert answer["messages"] == [{"recipient_id": "anna", "text": "EXTERNAL: greet"}]
        events = talk(answer["tracker"]["events"])
        assert [event["event"] for event in events] == ["user", "bot"]
        latest = answer["tracker"]["latest_message"]
        assert latest["entities"] == [{"entity": "city", "value": "Oslo"}]
        for wrong in ({}, {"name": ""}, {"name": 5}, {"name": "a", "entities": [5]}):
            answer = await http.post(ROOT + "trigger_intent", json=wrong)
            assert answer.status_code == 400
            assert "<function" not in answer.json()["message"]  # a defect of the reference


async def test_what_needs_a_model(run: Callable[..., None]) -> None:
    """409; nothing is executed, saved, loaded or replaced: those defects have no place here."""
    async with client() as http:
        for name in ("execute", "predict"):
            answer = await http.post(ROOT + name, json={"name": "action_x"})
            assert (answer.status_code, answer.json()["reason"]) == (409, "Conflict")
        for method in ("PUT", "DELETE"):
            assert (await http.request(method, "/model")).status_code == 404
        assert (await http.get(ROOT + "story")).status_code == 404


async def test_paths_and_methods(run: Callable[..., None]) -> None:
    """Whatever is not there is said in the documented body, with what is allowed."""
    async with client() as http:
        greeting = await http.get("/")
        assert greeting.text.startswith("Hello from ticketlock")
        assert set((await http.get("/version")).json()) == {
            "version", "minimum_compatible_version",
        }  # fmt: skip
        answer = await http.patch(ROOT + "tracker/events")
        assert answer.status_code == 405
        assert set(answer.headers["allow"].split(", ")) == {"POST", "PUT"}
        assert answer.json()["code"] == 405
        for path in ("/nothing", "/conversations/", "/conversations//tracker", "/webhooks/x"):
            assert (await http.get(path)).json()["code"] == 404, path


@pytest.mark.parametrize(
    "sender",
    [
        "a/b",
        "/",
        "a/tracker",
        "a/tracker/events",
        "a b",
        "ä ☃ 𝄞",
        "a\nb",
        "...",
        "a?b#c",
        "%2F",
        "a+b",
    ],
)
async def test_any_id(sender: str) -> None:
    """Slashes, line ends, any Unicode: one conversation by all ways."""
    async with client() as http:
        await send(http, "hi", sender=sender)
        url = f"/conversations/{quote(sender, safe='')}/tracker"
        state = (await http.get(url)).json()
        assert state["sender_id"] == sender
        assert len(talk(state["events"])) == 2


@pytest.mark.parametrize("sender", ["", "a\0b", "x" * 256, "\ud800", 5, [], {}, True])
async def test_ids_that_cannot_be(sender: Any) -> None:
    """400 in the documented body, whatever the store would have done."""
    async with client() as http:
        text = json.dumps({"message": "hi", "sender": sender})
        answer = await http.post("/webhooks/rest/webhook", content=text)
        assert answer.status_code == 400
        assert answer.json()["reason"] == "BadRequest"
        assert (await http.get("/conversations/%ff/tracker")).status_code == 400
        assert (await http.get("/conversations/a%00/tracker")).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"5", b"null", b"\xff", b'{"message": NaN}', b"[" * 60,
        b'{"message": ' + b"9" * 5000 + b"}", b"{}", b'{"message": null}', b'{"message": 5}',
        b'{"message": "x", "metadata": []}', b'{"message": "x", "metadata": {"a": 1e999}}',
        b'{"message": "\\ud800"}', b'{"message": "x", "message_id": ""}',
        b'{"message": "x", "message_id": 5}', b'{"message": "x", "input_channel": 5}',
        b'{"message": "x", "message_id": "' + b"x" * 256 + b'"}',
        b'{"message": "x", "metadata": {"\\ud800": 1}}',
    ],
)  # fmt: skip
async def test_bodies_that_cannot_be(body: bytes) -> None:
    """400 in the documented body."""
    async with client() as http:
        answer = await http.post("/webhooks/rest/webhook", content=body)
        assert answer.status_code == 400
        assert answer.json()["code"] == 400


async def test_large_and_slow_bodies(run: Callable[..., None]) -> None:
    """413 after `max_body` bytes, announced or not; 408 when it does not come in time."""
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 65536
            yield b"x" * 65536

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with client(max_body=4096, body_timeout=0.1) as http:
        url = "/webhooks/rest/webhook"
        for content in (b"x" * 4097, endless()):
            answer = await http.post(url, content=content)
            assert (answer.status_code, answer.json()["code"]) == (413, 413)
            assert answer.headers["connection"] == "close"
        assert sent <= 9 * 1024 * 1024  # what is thrown away so that the answer can be read
        huge = {"content-length": "9" * 50}
        assert (await http.post(url, content=b"x", headers=huge)).status_code == 413
        answer = await http.post(url, content=slow())
        assert (answer.status_code, answer.headers["connection"]) == (408, "close")
        exact = json.dumps({"message": "x" * (4096 - 15)})
        assert len(exact) == 4096
        assert (await http.post(url, content=exact)).status_code == 200


async def test_ready_is_asked_seldom(run: Callable[..., None]) -> None:
    """However often it is asked, the stores are asked once a second; what fails is named."""
    async with client() as http:
        stores = http.app.handler.conversations  # type: ignore[attr-defined]  # see serving.client
        asked = 0

        async def exists(sender_id: str) -> bool:
            nonlocal asked
            asked += 1
            raise OSError("db.internal: password hunter2")

        stores.tracker_store.exists = exists
        answers = await asyncio.gather(*(http.get("/ready") for _ in range(20)))
        assert {answer.status_code for answer in answers} == {503}
        assert answers[0].json()["problems"] == {"tracker_store": "OSError"}
        assert asked == 1
        assert (await http.get("/health")).status_code == 200


async def test_status_counts_turns(run: Callable[..., None]) -> None:
    """It says what runs and what waits."""
    gate = Gate()
    async with client(gate) as http:
        tasks = [asyncio.create_task(send(http, text)) for text in "ab"]
        await gate.entered.wait()
        status = (await http.get("/status")).json()
        assert (status["turns_running"], status["turns_waiting"]) == (1, 1)
        assert status["model_file"].endswith("Gate")
        assert status["num_active_training_jobs"] == 0
        gate.open.set()
        await asyncio.gather(*tasks)
