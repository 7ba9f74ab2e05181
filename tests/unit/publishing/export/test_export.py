"""What is exported and counted, whatever the broker does; brokers and stores without a server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from contract_events import user
from exporting import ALL, HISTORIES, Broker, export, filled
from ticketlock.stores.memory import InMemoryTrackerStore

from ticketlock.errors import (
    ConfigurationError,
    TrackerStoreConnectionError,
)
from ticketlock.publishing.export.export import PROCESS_ID_HEADER
from ticketlock.publishing.export.options import ExportOptions, NothingToExport
from ticketlock.publishing.export.state import StateFile
from ticketlock.publishing.message import DELIVERED, BrokerMessage, Outcome, poisoned, retry
from ticketlock.tracker.tracker import Tracker


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
