"""What is exported and counted, whatever the broker does; brokers and stores without a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from contract_events import user
from ticketlock.stores.memory import InMemoryTrackerStore

from ticketlock.errors import (
    ConfigurationError,
    EventBrokerConnectionError,
    TrackerStoreConnectionError,
)
from ticketlock.publishing.broker import EventBroker
from ticketlock.publishing.export.export import PROCESS_ID_HEADER, EventExport
from ticketlock.publishing.export.options import ExportOptions, ExportResult, NothingToExport
from ticketlock.publishing.export.state import StateFile
from ticketlock.publishing.message import DELIVERED, BrokerMessage, Outcome, poisoned, retry
from ticketlock.tracker.tracker import Tracker

Judge = Callable[[BrokerMessage], Outcome]


class Broker(EventBroker):
    """Keeps what it confirms; `judge` says what becomes of a message."""

    def __init__(self, judge: Judge = lambda _: DELIVERED) -> None:
        self.judge = judge
        self.kept: list[BrokerMessage] = []
        self.batches: list[int] = []

    async def deliver(
        self, batch: Sequence[BrokerMessage], timeout: float | None = None
    ) -> list[Outcome]:
        await asyncio.sleep(0)
        self.batches.append(len(batch))
        outcomes = [self.judge(message) for message in batch]
        self.kept += [m for m, o in zip(batch, outcomes, strict=True) if o == DELIVERED]
        return outcomes

    def names(self) -> list[tuple[str, int | None]]:
        return [(message.conversation_id, message.sequence) for message in self.kept]


#: Stored order is not the order of the timestamps, and conversations overlap in time.
HISTORIES = {
    "b": [user("b0", 50), user("b1", 10), user("b2", 30)],
    "a": [user("a0", 20), user("a1", 40), user("a2", 60), user("a3", 5)],
    "c": [user("c0", 1)],
}
ALL = [("a", 0), ("a", 1), ("a", 2), ("a", 3), ("b", 0), ("b", 1), ("b", 2), ("c", 0)]


async def filled(histories: dict[str, list[dict[str, Any]]] = HISTORIES) -> InMemoryTrackerStore:
    store = InMemoryTrackerStore()
    for sender_id, events in histories.items():
        await store.update(Tracker.from_dict(sender_id, events))
        store._conversations[sender_id].history = 1  # each run fills its own: of one life
    return store


def export(broker: EventBroker, store: Any = None, **arguments: Any) -> ExportResult:
    async def body() -> ExportResult:
        made = EventExport(store or await filled(), broker, **{"patience": 0.3, **arguments})
        return await made.run()

    return asyncio.run(body())


def test_stored_order(tmp_path: Path) -> None:
    """Conversations by id, events as they are stored and never by timestamp, one header."""
    broker = Broker()
    result = export(broker)
    assert broker.names() == ALL
    assert [message.body for message in broker.kept[:4]] == HISTORIES["a"]
    assert {(m.headers or {})[PROCESS_ID_HEADER] for m in broker.kept} == {result.process_id}
    assert (result.published, result.published_total, result.conversations) == (8, 8, 3)
    assert result.complete
    assert len(result.process_id) == 32
    assert export(Broker()).process_id != result.process_id


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"minimum_timestamp": 30}, [("a", 1), ("a", 2), ("b", 0), ("b", 2)]),
        ({"maximum_timestamp": 10}, [("a", 3), ("c", 0)]),
        ({"minimum_timestamp": 10, "maximum_timestamp": 30}, [("a", 0), ("b", 1)]),
        ({"minimum_timestamp": 30, "maximum_timestamp": 30}, []),
        ({"conversation_ids": frozenset({"c", "a", "zz"}), "maximum_timestamp": 6},
         [("a", 3), ("c", 0)]),
    ],
)  # fmt: skip
def test_filters(options: dict[str, Any], wanted: list[tuple[str, int]]) -> None:
    """The minimum is included, the maximum is not; numbers are those of the whole history."""
    broker = Broker()
    result = export(broker, options=ExportOptions(**options))
    assert broker.names() == wanted
    assert result.published == len(wanted)
    assert result.missing == (["zz"] if "conversation_ids" in options else [])


def test_the_offset() -> None:
    """It changes what is published, not what is filtered by; other events stay as they are."""
    events = [user("x", 1.25), {"event": "restart"}, {"event": "odd", "timestamp": "noon"}]
    store = asyncio.run(filled({"x": events}))
    broker = Broker()
    options = ExportOptions(maximum_timestamp=2, offset_timestamps_by_seconds=-3600)
    export(broker, store, options=options)
    assert [message.body.get("timestamp") for message in broker.kept] == [-3598.75, None, "noon"]
    assert "timestamp" not in broker.kept[1].body


@pytest.mark.parametrize(
    "options",
    [
        {"minimum_timestamp": 5, "maximum_timestamp": 4},
        {"minimum_timestamp": float("nan")},
        {"offset_timestamps_by_seconds": 10**13},
        {"conversation_ids": frozenset()},
    ],
)
def test_contradictory_options(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        ExportOptions(**options)


def test_nothing_to_export(tmp_path: Path) -> None:
    """An empty store and no overlap are errors, and leave no state behind."""
    state = tmp_path / "state"
    with pytest.raises(NothingToExport, match="no conversations"):
        export(Broker(), asyncio.run(filled({})), state=StateFile(state))
    with pytest.raises(NothingToExport, match="none of the given"):
        export(Broker(), options=ExportOptions(conversation_ids=frozenset("x")))
    assert not state.exists()


def test_a_replaced_history_keeps_its_numbers() -> None:
    """After an update the numbers go on, as consumers of the live events know them."""

    async def body() -> InMemoryTrackerStore:
        store = await filled()
        tracker = await store.retrieve_full_tracker("a")
        assert tracker is not None
        await store.update(tracker)
        return store

    broker = Broker()
    export(broker, asyncio.run(body()))
    assert broker.names()[:4] == [("a", 4), ("a", 5), ("a", 6), ("a", 7)]


def test_only_what_is_confirmed_counts() -> None:
    """Refusals are sent again, in order, and counted once; the batch waits for the slowest."""
    refused: dict[Any, int] = {}

    def judge(message: BrokerMessage) -> Outcome:
        name = (message.conversation_id, message.sequence)
        refused[name] = refused.get(name, 0) + 1
        late = message.conversation_id == "b" and refused[name] < 3
        return retry("busy") if late else DELIVERED

    broker = Broker(judge)
    said: list[str] = []
    result = export(broker, say=said.append, patience=5)
    assert sorted(broker.names()) == ALL
    assert [name for name in broker.names() if name[0] == "b"] == [("b", n) for n in range(3)]
    assert result.published == 8
    assert broker.batches == [8, 3, 3]
    assert len(said) == 1
    assert said[0].startswith("busy; waiting")


def test_poisoned_events_are_told() -> None:
    """They are named with their reason, not counted as published, and hold up nothing."""
    broker = Broker(lambda m: poisoned("too large") if m.sequence == 1 else DELIVERED)
    said: list[str] = []
    result = export(broker, say=said.append, batch_size=3)
    assert (result.published, result.failed, result.complete) == (6, 2, True)
    assert [(f.conversation_id, f.sequence, f.reason) for f in result.failures] == [
        ("a", 1, "too large"), ("b", 1, "too large"),
    ]  # fmt: skip
    assert said == [f"event 1 of conversation '{name}': too large" for name in "ab"]


def test_an_unreadable_conversation_is_told() -> None:
    """The others are exported; a store that is away ends the export instead."""

    class Store(InMemoryTrackerStore):
        error: Exception = ConfigurationError("never")

        async def retrieve_full_tracker(self, sender_id: str) -> Tracker | None:
            if sender_id == "":
                return await super().retrieve_full_tracker(sender_id)  # refuses such an id
            if sender_id == "b" and isinstance(self.error, TrackerStoreConnectionError):
                raise self.error
            return Tracker.from_dict(sender_id, HISTORIES[sender_id])

        async def keys(self) -> list[str]:
            return ["", "a", "b"]

    broker, store = Broker(), Store()
    result = export(broker, store)
    assert broker.names() == ALL[:7]
    assert (result.failed, result.failures[0].sequence, result.conversations) == (1, None, 3)
    store.error = TrackerStoreConnectionError("gone")
    with pytest.raises(TrackerStoreConnectionError):
        export(Broker(), store)


def test_patience_ends(tmp_path: Path) -> None:
    """A broker that takes nothing more: an error, exact counts, and a position to go on from."""
    state = tmp_path / "state"
    away = Broker(lambda m: retry("away") if m.conversation_id == "b" else DELIVERED)

    async def body() -> ExportResult:
        made = EventExport(
            await filled(), away, state=StateFile(state), patience=0.2, batch_size=100,
            say=lambda _: None,
        )  # fmt: skip
        with pytest.raises(EventBrokerConnectionError, match=r"away; nothing was confirmed for"):
            await made.run()
        assert made.resumable
        return made.result

    result = asyncio.run(body())
    # c was confirmed behind b, which was not: the continuation publishes it again, and counts it.
    assert (result.published, result.complete) == (4, False)
    assert set(away.names()) == set(ALL) - {("b", n) for n in range(3)}
    rest = Broker()
    result = export(rest, state=StateFile(state, resume=True))
    assert rest.names() == ALL[4:]
    assert (result.published, result.published_before, result.published_total) == (4, 4, 8)
    assert (result.conversations, result.conversations_before) == (3, 0)
    assert result.complete


def test_a_continuation_skips_nobody(tmp_path: Path) -> None:
    """The position is a place in the order of the export, not a time: whatever is stopped at,
    older events of other conversations still come."""
    for stop in range(len(ALL)):
        state = tmp_path / f"state{stop}"
        left = stop

        def judge(_: BrokerMessage) -> Outcome:
            nonlocal left
            left -= 1
            return DELIVERED if left >= 0 else retry("away")

        broker = Broker(judge)
        with pytest.raises(EventBrokerConnectionError):
            export(broker, state=StateFile(state), batch_size=1, patience=0, say=lambda _: None)
        rest = Broker()
        result = export(rest, state=StateFile(state, resume=True), batch_size=2)
        assert broker.names() + rest.names() == ALL
        assert (result.published, result.published_before) == (8 - stop, stop)


async def test_a_conversation_that_has_come_back_is_not_continued(tmp_path: Path) -> None:
    """Deleted and made again between two runs: its number 2 is another event, so is its 0."""

    def events(life: str) -> list[dict[str, Any]]:
        return [user(f"{life} {number}", number) for number in range(4)]

    store, broker = InMemoryTrackerStore(), Broker()
    broker.judge = lambda m: DELIVERED if m.sequence < 2 else retry("away")  # type: ignore[operator]
    await store.update(Tracker.from_dict("a", events("first")))
    path = tmp_path / "state"
    with pytest.raises(EventBrokerConnectionError):
        first = {"batch_size": 2, "patience": 0, "say": lambda _: None}
        await EventExport(store, broker, state=StateFile(path), **first).run()
    history = json.loads(path.read_text())["position"]["history"]
    assert [m.history for m in broker.kept] == [history] * 2
    await store.delete("a")
    await asyncio.sleep(0.002)  # lives are told apart by milliseconds
    await store.update(Tracker.from_dict("a", events("second")))
    rest = Broker()
    result = await EventExport(store, rest, state=StateFile(path, resume=True)).run()
    assert [m.body["text"] for m in rest.kept] == [e["text"] for e in events("second")]
    assert {m.history > history for m in rest.kept} == {True}
    assert (result.published_before, result.published) == (2, 4)


def test_a_cancelled_export_repeats_nothing(tmp_path: Path) -> None:
    """What is on its way is waited for, counted, and not sent again."""
    state, broker = StateFile(tmp_path / "state"), Broker()

    async def body() -> None:
        sent = asyncio.Event()

        async def slow(
            batch: Sequence[BrokerMessage], timeout: float | None = None
        ) -> list[Outcome]:
            sent.set()
            await asyncio.sleep(0.05)
            return await Broker.deliver(broker, batch, timeout)

        broker.deliver = slow  # type: ignore[method-assign]  # of this one object
        made = EventExport(await filled(), broker, state=state, batch_size=3)
        task = asyncio.ensure_future(made.run())
        await sent.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert made.result.published == 3

    asyncio.run(body())
    rest = Broker()
    export(rest, state=StateFile(tmp_path / "state", resume=True))
    assert broker.names() + rest.names() == ALL


def test_late_conversations_are_told(tmp_path: Path) -> None:
    """One that appears before the place where a continuation goes on is left out, and told."""
    state = tmp_path / "state"
    stops = Broker(lambda m: retry("away") if m.conversation_id == "b" else DELIVERED)
    with pytest.raises(EventBrokerConnectionError):
        export(stops, state=StateFile(state), patience=0, say=lambda _: None)
    said: list[str] = []
    store = asyncio.run(filled({**HISTORIES, "A": [user("late", 1)], "bb": [user("new", 1)]}))
    rest = Broker()
    result = export(rest, store, state=StateFile(state, resume=True), say=said.append)
    assert rest.names() == [*ALL[4:7], ("bb", 0), ("c", 0)]
    (text,) = said
    assert text.startswith("1 of the conversations are new since the export began")
    assert (result.published_total, result.complete) == (9, True)


def test_the_state_is_small_and_strict(tmp_path: Path) -> None:
    """It refuses other options, other files, a second export, and to be forgotten."""
    path = tmp_path / "state"
    away = Broker(lambda m: retry("away") if m.conversation_id != "a" else DELIVERED)

    def stopped(**more: Any) -> None:
        export(away, state=StateFile(path), patience=0, say=lambda _: None, **more)

    with pytest.raises(ConfigurationError, match="no export to continue"):
        export(away, state=StateFile(path, resume=True))
    assert not path.exists()
    with pytest.raises(EventBrokerConnectionError):
        stopped(options=ExportOptions(minimum_timestamp=1), places={"event_broker": "x"})
    assert path.stat().st_size < 1000
    assert json.loads(path.read_text())["position"]["published"] == 4
    with pytest.raises(ConfigurationError, match=r"interrupted after 4 events.*--resume"):
        stopped()
    with pytest.raises(ConfigurationError, match="another minimum timestamp, another event_brok"):
        export(away, state=StateFile(path, resume=True), places={"event_broker": "y"})
    with (
        StateFile(path),
        pytest.raises(ConfigurationError, match="another export is using this file"),
    ):
        export(away, state=StateFile(path, resume=True))
    for content in ("{}", "[]", "no", '{"ticketlock_events_export": 2, "position": {}}', "\x00"):
        path.write_text(content)
        with pytest.raises(ConfigurationError, match="is not the state of an export"):
            stopped()
        assert path.read_text() == content
    with pytest.raises(ConfigurationError, match="No such file"):
        export(away, state=StateFile(tmp_path / "no" / "state"))


def test_the_lock_outlives_every_write(tmp_path: Path) -> None:
    """The file is replaced with each position, and stays locked; afterwards it is free."""
    path = tmp_path / "state"
    refused = 0

    def judge(_: BrokerMessage) -> Outcome:
        nonlocal refused
        with pytest.raises(ConfigurationError, match="another export"), StateFile(path):
            pass
        refused += 1
        return DELIVERED

    export(Broker(judge), state=StateFile(path), batch_size=1)
    assert refused == 8
    again = Broker()
    result = export(again, state=StateFile(path, resume=True))
    assert (again.kept, result.published_before, result.complete) == ([], 8, True)
    assert export(again, state=StateFile(path)).published == 8  # a finished one may be forgotten
    assert [file.name for file in tmp_path.iterdir()] == ["state"]


def test_one_conversation_at_a_time() -> None:
    """Batches go across conversations, and reading does not run ahead of them."""

    class Store(InMemoryTrackerStore):
        read = 0

        async def retrieve_full_tracker(self, sender_id: str) -> Tracker | None:
            self.read += 1
            return Tracker.from_dict(sender_id, [user(str(n), n) for n in range(10)])

        async def keys(self) -> list[str]:
            return [f"c{n:03}" for n in range(100)]

    store, seen = Store(), []
    broker = Broker(lambda m: seen.append(store.read) or DELIVERED)  # type: ignore[func-returns-value]
    result = export(broker, store, batch_size=25)
    assert broker.batches == [25] * 40
    assert all(read <= int(m.conversation_id[1:]) + 3 for read, m in zip(seen, broker.kept))  # noqa: B905
    assert (result.published, result.conversations) == (1000, 100)
