"""Claims and writes that go to SQLite through its driver: the same rows, and the same refusals."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy as sa
from conftest import until
from contract_events import user
from integration.test_group_commit_servers import (
    events_of_another_program,
    rows_are_those_of_a_turn_that_goes_alone,
)
from servers.tracker_stores import Stores

from ticketlock.errors import StaleFence


@pytest.fixture
def stores(tracker_sections: Any) -> Stores:
    return Stores("sqlite", tracker_sections("sqlite"))


async def opened(stores: Stores) -> tuple[Any, list[Any]]:
    """A store, and the turns of it that went through SQLAlchemy."""
    store: Any = stores.open()
    await store.claim("first", 1, "x")
    alone, by_itself = [], store._alone

    def watched(*given: Any) -> Any:
        alone.append(given)
        return by_itself(*given)

    store._alone = watched
    return store, alone


async def test_rows_are_those_of_a_turn_that_goes_alone(stores: Stores) -> None:
    """Sequences, sessions, marks and outbox, in the same columns."""
    store, alone = await opened(stores)
    await rows_are_those_of_a_turn_that_goes_alone(stores, store)
    assert alone == []
    await stores.close()


async def test_events_of_another_program(stores: Stores) -> None:
    """A turn that finds some goes alone, and counts them."""
    store, alone = await opened(stores)
    await events_of_another_program(stores, store)
    assert len(alone) == 2
    await stores.close()


async def test_what_is_stale_is_refused_and_leaves_nothing(stores: Stores) -> None:
    store, alone = await opened(stores)
    old = await store.claim("a", 1, "x")
    await store.claim("a", 5, "later")
    found = await asyncio.gather(
        store.append(old, [user("never", 1)]), store.claim("a", 4, "later"),
        store.claim("a", 5, "another"), return_exceptions=True,
    )  # fmt: skip
    assert all(isinstance(each, StaleFence) for each in found), found
    assert [each.stored for each in found] == [5, 5, 5]
    assert len(alone) == 3
    assert await store.retrieve_full_tracker("a") is None
    await stores.close()


async def test_a_repeated_write_is_written_once(stores: Stores) -> None:
    """After an answer that was lost, for instance."""
    store, alone = await opened(stores)
    claim = await store.claim("a", 1, "x")
    await store.append(claim, [user("one", 1)])
    claim.sequence = 0
    await store.append(claim, [user("one", 1), user("two", 2)])
    assert len(alone) == 1
    claim = await store.claim("a", 2, "x")
    assert [event.text for event in claim.tracker.events] == ["one", "two"]
    assert claim.sequence == 2
    await stores.close()


async def test_what_a_turn_costs(stores: Stores) -> None:
    """Statements of a turn: a claim takes four, a write three and one for each event; and one where
    the other kind was before it, which waits for the disk or does not."""
    store: Any = stores.open()
    claim = await store.claim("a", 1, "x")
    await store.append(claim, [user(f"{n}", n) for n in range(100)])
    said: list[str] = []

    @sa.event.listens_for(store._engine._engine, "checkout")
    def trace(connection: Any, *_: Any) -> None:
        connection.set_trace_callback(lambda text: said.append(text.split()[0]))

    for name in ("a", "new"):
        claim = await store.claim(name, 2, "x")
        assert said == [
            "PRAGMA",
            "BEGIN",
            "INSERT",
            "SELECT",
            "COMMIT",
        ]  # INSERT ON CONFLICT UPDATE
        said.clear()
        await store.append(claim, [user("one", 1), user("two", 2)])
        assert said == ["PRAGMA", "BEGIN", "INSERT", "INSERT", "UPDATE", "COMMIT"]
        said.clear()
    await store.append(claim, [], "mark")
    assert said == ["BEGIN", "UPDATE", "COMMIT"]
    await stores.close()


async def test_the_writer_waits_for_other_processes_in_short_steps(stores: Stores) -> None:
    """SQLite's own wait is one BEGIN, and sleeps up to 100 ms at a time."""
    store, _ = await opened(stores)
    said: list[str] = []

    @sa.event.listens_for(store._engine._engine, "checkout")
    def trace(connection: Any, *_: Any) -> None:
        connection.set_trace_callback(lambda text: said.append(text.split()[0]))

    with closing(sqlite3.connect(store.settings.url.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        claiming = asyncio.create_task(store.claim("a", 1, "x"))
        await until(lambda: said.count("BEGIN") > 20, "it looks again and again", 3)
        assert not claiming.done()
    assert (await claiming).sequence == 0
    assert said.count("COMMIT") == 1
    await stores.close()
