"""The demo's judge of the broker's side, against hand-made arrivals, and what waits for it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ticketlock.brokers.file.listener import FileListener
from ticketlock.brokers.sql.broker import SQLEventBroker
from ticketlock.brokers.sql.listener import SQLListener

from ticketlock import ConfigurationError, EventBrokerConnectionError
from ticketlock.demo.backends import Backends
from ticketlock.demo.consumer import EventConsumer
from ticketlock.demo.judge.events import (
    EVENT_KINDS,
    BrokerSnapshot,
    EventCounts,
    verify_events,
    verify_strangers,
)
from ticketlock.demo.listeners import create_event_listener
from ticketlock.demo.processes import Replica, ReplicaFailed, ReplicaProcesses
from ticketlock.demo.report import Report
from ticketlock.endpoints.registry import create_tracker_store
from ticketlock.event_service.parsing import parse
from ticketlock.event_service.records import Limits, Received
from ticketlock.event_service.source import RawMessage
from ticketlock.events import UserUttered
from ticketlock.events.event import Event
from ticketlock.files.scratch import Scratch
from ticketlock.publishing.message import BrokerMessage
from ticketlock.tracker.outbox import DeadLetter
from ticketlock.tracker.tracker import Tracker

COUNT = 5
COMMITTED: list[Event] = [UserUttered(f"text {i}", timestamp=float(i)) for i in range(COUNT)]


def arrival(number: int, history: int = 7, text: str | None = None) -> Received:
    """An event as the relay publishes it, and a consumer reads it."""
    body = COMMITTED[number].as_dict() if number < COUNT else {"event": "user"}
    body |= {} if text is None else {"text": text}
    wire = BrokerMessage("c", number, body, history=history).encode()
    event = parse(RawMessage(wire, "", False, None), Limits())
    assert isinstance(event, Received)
    return event


def judge(
    numbers: Sequence[int | Received], counts: EventCounts | None = None, **more: Any
) -> dict[str, int]:
    """How many violations of each kind there are when this arrived."""
    arrived = [arrival(n) if isinstance(n, int) else n for n in numbers]
    heard = BrokerSnapshot("kafka", arrived={"c": arrived}, **more)
    found = verify_events("c", COMMITTED, heard, counts or EventCounts("kafka"))
    assert all(violation.kind in EVENT_KINDS for violation in found)
    return dict(Counter(violation.kind for violation in found))


def test_events_that_arrived_once_and_in_order_break_no_promise() -> None:
    counts = EventCounts("kafka")
    assert judge(range(COUNT), counts) == {}
    assert (counts.committed, counts.received, counts.duplicates) == (COUNT, COUNT, 0)


def test_repeats_are_counted_and_no_violation() -> None:
    counts = EventCounts("kafka")
    assert judge([0, 1, 2, 1, 2, 3, 4, 0], counts) == {}
    assert (counts.received, counts.duplicates) == (COUNT, 3)


@given(st.integers(0, COUNT - 1))
def test_a_relay_that_drops_an_event_is_caught(dropped: int) -> None:
    assert judge([n for n in range(COUNT) if n != dropped]) == {"events_missing": 1}


@given(st.permutations(range(COUNT)))
def test_a_relay_that_reorders_events_is_caught(order: list[int]) -> None:
    assert bool(judge(order)) == (order != list(range(COUNT)))
    assert judge(order).keys() <= {"events_out_of_order"}


def test_an_event_that_came_too_early_is_in_order_once_it_is_repeated_in_its_place() -> None:
    assert judge([0, 2, 1, 2, 3, 4]) == {}
    assert judge([0, 2, 1, 3, 4]) == {"events_out_of_order": 1}


def test_what_arrived_under_another_name_or_none_is_unknown() -> None:
    assert judge([*range(COUNT), COUNT]) == {"events_unknown": 1}
    assert judge([*range(COUNT), arrival(1, history=8)]) == {"events_unknown": 1}
    nameless = arrival(1)._replace(sequence=None)
    assert judge([*range(COUNT), nameless]) == {"events_unknown": 1}


def test_another_content_is_found_in_each_copy() -> None:
    other = arrival(4, text="other")
    assert judge([0, 1, 2, 3, other]) == {"events_differing": 1}
    assert judge([0, 1, 2, 3, 4, other]) == {"events_differing": 1}


def test_what_waits_is_one_violation_and_not_missing_unless_it_was_passed_over() -> None:
    waiting = frozenset({"c"})
    assert judge([0, 1], waiting=waiting) == {"events_waiting": 1}
    assert judge([0, 2], waiting=waiting) == {"events_waiting": 1, "events_missing": 1}


def test_an_event_that_was_set_apart_is_missing_also_where_nothing_is_read() -> None:
    dead_letters = {("c", 1): "too large"}
    assert judge([0, 2, 3, 4], dead_letters=dead_letters) == {"events_missing": 1}
    counts = EventCounts("theirs", "unknown")
    assert judge([], counts, unread="unknown", dead_letters=dead_letters) == {"events_missing": 1}
    assert judge([], unread="unknown") == {}
    values = counts.as_json(Counter({"events_missing": 1}))
    assert (values["received"], values["duplicates"], values["missing"]) == (None, None, 1)
    assert ("events received", "not read: unknown") in counts.rows()


def test_events_of_a_conversation_that_had_no_message_are_unknown() -> None:
    heard = BrokerSnapshot("kafka", arrived={"c": [], "other": [arrival(0)]})
    assert [one.conversation for one in verify_strangers(["c"], heard)] == ["other"]


def test_the_report_has_the_brokers_side_only_if_there_is_one() -> None:
    report = Report(1, 1, 1, seconds=1.0, kills=0)
    assert report.as_json()["events"] is None
    assert "events missing" not in dict(report.rows())
    report.add_events("c", COMMITTED, BrokerSnapshot("file", arrived={"c": [arrival(1)]}))
    values = report.as_json()["events"]
    assert values["broker"] == "file"
    assert (values["committed"], values["received"], values["missing"]) == (COUNT, 1, COUNT - 1)
    assert dict(report.rows())["events missing"] == str(COUNT - 1)


# -- where the events go --------------------------------------------------------------------------


def test_a_broker_of_the_demo_must_not_empty_the_outbox_of_others(tmp_path: Path) -> None:
    backends = Backends.choose(None, None, str(tmp_path), "demo1", True)
    assert backends.event_broker == {"type": "file", "path": str(tmp_path / "events.log")}
    assert Backends.choose(None, None, str(tmp_path), "demo1").event_broker is None
    file = tmp_path / "endpoints.yml"
    for section in ("tracker_store: {type: redis}", "event_broker: {type: file}"):
        file.write_text(section)
        with pytest.raises(ConfigurationError, match=r"--events and .*: give one of them"):
            Backends.choose(None, file, str(tmp_path), "demo1", True)
    assert Backends.choose(None, file, str(tmp_path), "demo1").event_broker == {"type": "file"}


# -- listening ------------------------------------------------------------------------------------


def test_a_file_is_heard_from_its_last_whole_line_on(tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    path.write_bytes(b"before\n" + b"x" * 70_000)  # half a line: its writer was killed
    listener = FileListener(path=str(path))
    listener.open(0)
    assert listener.read(9, 0) == []
    path.write_bytes(b"before\none\ntwo\nthr")  # the broker has taken the half line away
    assert [found.body for found in listener.read(9, 0)] == [b"one\n", b"two\n"]
    with path.open("ab") as file:
        file.write(b"ee\n")
    assert [found.body for found in listener.read(9, 0)] == [b"three\n"]
    listener.close(0)
    with pytest.raises(EventBrokerConnectionError, match="No such file"):
        FileListener(path=str(tmp_path / "none")).open(0)


def test_a_table_is_heard_from_its_newest_row_on(tmp_path: Path) -> None:
    section = {"type": "sql", "db": str(tmp_path / "events.db")}

    async def publish(*numbers: int) -> None:
        broker = SQLEventBroker(db=section["db"])
        await broker.deliver([BrokerMessage("c", n, {"event": "user"}) for n in numbers])
        await broker.close()

    asyncio.run(publish(0, 1))
    listener = create_event_listener(section, "unused")
    assert isinstance(listener, SQLListener)
    end = 1e12
    listener.open(end)
    assert listener.read(9, 0) == []
    asyncio.run(publish(2, 3, 4))
    found = [*listener.read(2, 0), *listener.read(2, 0)]
    assert [json.loads(one.body)["sequence"] for one in found] == [2, 3, 4]
    listener.close(end)


async def test_only_the_demos_own_events_and_letters_are_heard_and_what_waits_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ticketlock.demo.consumer.PATIENCE", 0.3)
    monkeypatch.setattr("ticketlock.demo.consumer.MISSING", 0.1)
    path = tmp_path / "events.log"
    store = create_tracker_store({"type": "sql", "db": str(tmp_path / "tracker.db")})
    store.publishes = True
    async with (
        store,
        EventConsumer({"type": "file", "path": str(path)}, "here", store, "demo-1") as ear,
    ):
        assert await ear.drained(lambda: None, print) == frozenset()
        for name in ("demo-1:a", "demo-11:a", "somebody"):
            await store.save(Tracker(name, [UserUttered("hi")]))
            letter = DeadLetter(name, 1, 0, {"event": "user"}, "too large")
            await store.outbox.add_dead_letters([letter])
            with path.open("ab") as file:
                file.write(BrokerMessage(name, 0, {"event": "user"}, history=1).encode() + b"\n")
        waiting = await ear.drained(lambda: None, print)
        assert waiting == {"demo-1:a"}
        heard = await ear.snapshot(2, waiting, print)
        assert list(heard.arrived) == ["demo-1:a"]
        assert heard.dead_letters == {("demo-1:a", 0): "too large"}
        await ear.drop_dead_letters()
        left = [letter.sender_id for letter in await store.outbox.dead_letters()]
        assert left == ["demo-11:a", "somebody"]


async def test_a_replica_that_fails_ends_the_waiting_for_the_outbox(tmp_path: Path) -> None:
    def fail() -> None:
        raise ReplicaFailed("gone")

    section = {"type": "file", "path": str(tmp_path / "events.log")}
    async with create_tracker_store({"type": "sql", "db": str(tmp_path / "t.db")}) as store:
        async with EventConsumer(section, "here", store, "demo-1") as ear:
            with pytest.raises(ReplicaFailed):
                await ear.drained(fail, print)


# -- the fleet ------------------------------------------------------------------------------------


def test_a_replica_that_does_not_start_leaves_no_other_one_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []

    async def start(replica: Replica, endpoints: Path, token: str) -> None:
        if replica.slot == 0:
            await asyncio.sleep(0)  # the others have begun
            raise replica.failed("did not start")
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(replica.slot)

    monkeypatch.setattr(Replica, "start", start)

    async def body(scratch: Scratch) -> None:
        (scratch.path / "replica-0.0.log").write_text("its last words")
        fleet = ReplicaProcesses(tmp_path / "endpoints.yml", "token", scratch)
        with pytest.raises(ReplicaFailed, match="its last words"):
            await fleet.start(3)
        assert ended == [1, 2]

    with Scratch("test", str(tmp_path)) as scratch:
        asyncio.run(body(scratch))
