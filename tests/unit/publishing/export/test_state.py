"""An export that goes on: what its state file keeps, whatever ended the one before."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from contract_events import user
from exporting import ALL, HISTORIES, Broker, export, filled
from ticketlock.stores.memory import InMemoryTrackerStore

from ticketlock.errors import (
    ConfigurationError,
    EventBrokerConnectionError,
)
from ticketlock.publishing.export.export import EventExport
from ticketlock.publishing.export.options import ExportOptions, ExportResult
from ticketlock.publishing.export.state import StateFile
from ticketlock.publishing.message import DELIVERED, BrokerMessage, Outcome, retry
from ticketlock.tracker.tracker import Tracker


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
