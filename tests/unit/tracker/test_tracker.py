"""Events and what follows from them, without any store."""

from __future__ import annotations

import dataclasses
import pickle
import time
from typing import Any

import pytest
from contract_events import LEGACY_TYPES, action, session, slot, user
from hypothesis import given
from hypothesis import strategies as st

from ticketlock import events as e
from ticketlock.errors import InvalidEvent
from ticketlock.tracker.tracker import EventVerbosity, Tracker


def tracker(*wires: dict[str, Any]) -> Tracker:
    return Tracker.from_dict("a", wires, {"city": "Rome"})


@pytest.mark.parametrize("wire", LEGACY_TYPES, ids=lambda wire: wire["event"][:20])
def test_round_trip(wire: dict[str, Any]) -> None:
    """A dictionary comes back as it was: its fields, their order, unknown ones."""
    made = e.Event.from_dict(wire, stamp=False)
    assert made.as_dict() == wire
    assert list(made.as_dict()) == list(wire)
    assert pickle.loads(pickle.dumps(made)) == made


def test_every_type_makes_what_it_reads() -> None:
    for name, kind in e.EVENT_TYPES.items():
        fields = [f for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING]
        needed = {f.name: "x" for f in fields if f.default_factory is dataclasses.MISSING}
        made = kind(**needed, timestamp=0, metadata={"m": 1})
        again = e.Event.from_dict(made.as_dict())
        assert type(again) is kind, name
        assert again.as_dict() == made.as_dict()
        assert again.timestamp == 0


def test_timestamps() -> None:
    """What is given is kept, 0 too; nothing, or null, is now."""
    assert e.SlotSet("x", timestamp=0).as_dict()["timestamp"] == 0
    assert abs(e.SlotSet("x").timestamp - time.time()) < 5
    stamped = e.Event.from_dict({"event": "restart", "timestamp": None})
    assert abs(stamped.as_dict()["timestamp"] - time.time()) < 5
    assert e.Event.from_dict({"event": "restart"}, stamp=False).as_dict() == {"event": "restart"}


def test_a_new_user_event_can_be_read_by_rasa() -> None:
    """It fails for a history that has one without `parse_data`; a stored one is kept as it is."""
    said = {"event": "user", "text": "hi", "timestamp": 1.0}
    assert e.Event.from_dict(said).as_dict() == {**said, "parse_data": {}}
    assert e.Event.from_dict(said, stamp=False).as_dict() == said
    parsed = {**said, "parse_data": {"intent": {"name": "greet"}}}
    assert e.Event.from_dict(parsed).as_dict() == parsed
    bot = {"event": "bot", "text": "hi", "timestamp": 1.0}
    assert e.Event.from_dict(bot).as_dict() == bot


@pytest.mark.parametrize("bad", [{}, {"event": None}, [], "restart"], ids=repr)
def test_no_event(bad: Any) -> None:
    with pytest.raises(InvalidEvent):
        e.Event.from_dict(bad)


def test_old_names() -> None:
    form = e.Event.from_dict({"event": "form", "name": "f"})
    validation = e.Event.from_dict({"event": "form_validation", "validate": False})
    assert isinstance(form, e.ActiveLoop)
    assert isinstance(validation, e.LoopInterrupted)
    assert validation.is_interrupted


def test_empty_state() -> None:
    state = Tracker("a").current_state()
    assert state["latest_message"]["text"] is None
    del state["latest_message"]
    assert state == {
        "sender_id": "a", "slots": {}, "latest_event_time": None,
        "followup_action": "action_listen", "paused": False, "events": None,
        "latest_input_channel": None, "active_loop": {}, "latest_action": {},
        "latest_action_name": None,
    }  # fmt: skip


def test_state_follows_the_events() -> None:
    made = tracker(*session(0), user("hi", 1), {"event": "followup", "name": "go"}, slot("n", 5))
    made.update(e.ConversationPaused())
    state = made.current_state()
    assert state["slots"] == {"city": "Rome", "n": 5}
    assert state["latest_message"]["text"] == "hi"
    assert (state["followup_action"], state["paused"]) == ("go", True)
    assert (state["latest_input_channel"], state["latest_action_name"]) == ("rest", "action_listen")
    made.update(e.EntitiesAdded([{"entity": "x"}]))
    assert made.latest_message["entities"] == [{"entity": "x"}]
    assert made.events[3].as_dict()["parse_data"]["entities"] == []


def test_loops() -> None:
    made = tracker(user("hi", 1), {"event": "active_loop", "name": "f"})
    made.update({"event": "action_execution_rejected", "name": "f"})
    made.update({"event": "loop_interrupted", "is_interrupted": True})
    assert made.active_loop["trigger_message"]["text"] == "hi"
    assert (made.active_loop["rejected"], made.active_loop["is_interrupted"]) == (True, True)
    made.update(action("f", 2))
    assert made.active_loop["rejected"] is False
    made.update({"event": "active_loop", "name": None})
    assert made.active_loop == {}


def test_restart_and_taking_back() -> None:
    """Step by step and all at once give the same state."""
    wires = [
        *session(0), user("one", 1), slot("a", 1), action("x", 1), {"event": "undo"},
        action("action_listen", 2), user("two", 2), slot("b", 2), {"event": "rewind"},
        {"event": "reset_slots"}, {"event": "restart"}, {"event": "undo"}, {"event": "rewind"},
    ]  # fmt: skip
    stepwise = tracker()
    for number, wire in enumerate(wires):
        stepwise.update(wire)
        at_once = tracker(*(x.as_dict() for x in stepwise.events))
        for verbosity in EventVerbosity:
            assert stepwise.current_state(verbosity) == at_once.current_state(verbosity)
        if number == 10:
            assert stepwise.slots == {"city": "Rome", "a": 1}
            assert stepwise.latest_message["text"] == "one"
    assert stepwise.followup_action == "action_session_start"
    assert stepwise.applied_events() == []
    shown = stepwise.current_state(EventVerbosity.AFTER_RESTART)["events"]
    assert [x["event"] for x in shown] == ["restart", "undo", "rewind"]


@given(st.lists(st.sampled_from(["user", "action", "listen", "slot", "undo", "rewind", "restart"])))
def test_taking_back_is_that_of_the_last_one(kinds: list[str]) -> None:
    """Whatever the order: as if one looked for it, from the end, each time."""
    made = {"listen": action("action_listen", 0), "action": action("x", 0), "user": user("u", 0)}
    wires = [
        {**made.get(kind, {"event": kind, "name": "a"}), "i": i} for i, kind in enumerate(kinds)
    ]
    kept: list[dict[str, Any]] = []
    for wire in wires:
        kind = {"undo": "action", "rewind": "user"}.get(wire["event"])
        if wire["event"] == "restart":
            kept = []
        elif kind is None:
            kept.append(wire)
        elif any(one["event"] == kind for one in kept):
            while kept.pop()["event"] != kind:
                continue
            if kind == "user" and kept and kept[-1].get("name") == "action_listen":
                kept.pop()
    assert [event.as_dict()["i"] for event in tracker(*wires).applied_events()] == [
        wire["i"] for wire in kept
    ]


def test_sessions() -> None:
    made = tracker(user("before", 0), *session(1), user("x", 1), *session(1))
    assert [len(part) for part in made.sessions()] == [1, 4, 3]
    assert [x.as_dict() for x in made.latest_session()] == session(1)


def test_an_export_writes_nothing(tmp_path: Any) -> None:
    path = tmp_path / "stories.yml"
    tracker().update({"event": "export", "path": str(path)})
    assert not path.exists()
