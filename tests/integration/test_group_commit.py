"""Group commit of SQLite: what waits for the writer is one transaction, each write by itself."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from contract_events import user
from servers.tracker_stores import Stores
from ticketlock.stores.sql import SQLTrackerStore

from ticketlock.errors import StaleFence, TrackerStoreError


@pytest.fixture
def stores(tracker_sections: Any) -> Stores:
    return Stores("sqlite", tracker_sections("sqlite"))


class Writer:
    """The writer of a store: held up, and what it says to SQLite."""

    def __init__(self, store: SQLTrackerStore) -> None:
        self.engine: Any = store._engine
        self.said: list[str] = []

        @sa.event.listens_for(self.engine._engine, "checkout")
        def trace(connection: Any, *_: Any) -> None:
            connection.set_trace_callback(lambda text: self.said.append(text.split()[0]))

    def sizes(self) -> list[int]:
        """The number of writes in each transaction that was committed; 1 without a savepoint."""
        whole = " ".join(self.said).split("BEGIN")[1:]
        return [part.count("SAVEPOINT") or 1 for part in whole if "COMMIT" in part]

    @contextmanager
    def held_up(self) -> Iterator[None]:
        """Until the end of the block, writes wait."""
        held, free = threading.Event(), threading.Event()

        def hold() -> None:
            held.set()
            free.wait(20)

        self.engine._writer.submit(hold)
        assert held.wait(20)
        try:
            yield
        finally:
            free.set()


async def opened(stores: Stores, **changes: Any) -> tuple[Any, Writer]:
    """A store that is warm: its tables are made, and it knows that they keep marks."""
    store = stores.open(**changes)
    await store.claim("first", 1, "x")
    writer = Writer(store)
    await asyncio.get_running_loop().run_in_executor(writer.engine._writer, int)  # it is idle
    return store, writer


async def queued(writer: Writer, *operations: Any) -> list[asyncio.Future[Any]]:
    """Operations that wait, in this order, for a writer that is held up."""
    tasks = [asyncio.ensure_future(operation) for operation in operations]
    while len(writer.engine._writes._waiting) < len(tasks):
        await asyncio.sleep(0)
        assert not any(task.done() for task in tasks), tasks
    return tasks


async def together(writer: Writer, *operations: Any) -> list[Any]:
    """What comes of operations that have waited for the writer."""
    with writer.held_up():
        tasks = await queued(writer, *operations)
    return await asyncio.gather(*tasks, return_exceptions=True)


def insert(sender_id: str, then: Callable[[sa.Connection], Any] = lambda _: None) -> Any:
    """A write that adds an event, and then does something."""

    def body(connection: sa.Connection) -> Any:
        add = "INSERT INTO events (sender_id, type_name, data) VALUES (?, 'x', '{}')"
        connection.exec_driver_sql(add, (sender_id,))
        return then(connection)

    return body


def fail(_: sa.Connection) -> None:
    raise LookupError("its own")


def stored(store: Any) -> list[str]:
    """The conversations of the events, in the order of their rows, as another process sees them."""
    with closing(sqlite3.connect(store.settings.url.database)) as other:
        return [key for (key,) in other.execute("SELECT sender_id FROM events ORDER BY id")]


async def test_what_waits_shares_one_commit(stores: Stores) -> None:
    """In the order in which it came; and each commit waits for the disk."""
    store, writer = await opened(stores)
    claims = await together(writer, *(store.claim(str(n), 1, "x") for n in range(20)))
    assert writer.sizes() == [20]
    assert writer.said.count("COMMIT") == 1
    writer.said.clear()
    await together(writer, *(store.append(claim, [user("one", 1)]) for claim in claims))
    assert writer.sizes() == [20]
    assert stored(store) == [str(n) for n in range(20)]
    await stores.close()


async def test_a_commit_is_synced_with_every_build_of_sqlite(stores: Stores) -> None:
    """Some, such as that of macOS, sync less unless they are told to."""

    @sa.event.listens_for(sa.pool.Pool, "connect")
    def as_built(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA synchronous = NORMAL")

    try:
        _, writer = await opened(stores)
        pragma = "PRAGMA synchronous"
        found = await writer.engine.run(lambda c: c.exec_driver_sql(pragma).scalar())
        assert found == 2  # FULL
        store = stores.open()
        for fence in (1, 2):  # a claim before a write changes that for itself only
            claim = await store.claim("a", fence, "x")
            await store.append(claim, [user("one", fence)])
            assert await writer.engine.run(lambda c: c.exec_driver_sql(pragma).scalar()) == 2
    finally:
        sa.event.remove(sa.pool.Pool, "connect", as_built)
    await stores.close()


async def test_a_mark_alone_goes_with_the_others(stores: Stores) -> None:
    """Unless another program has written behind the history: then it is counted first."""
    store, writer = await opened(stores, event_broker=object())
    claims = [await store.claim(name, 1, "x") for name in "abc"]
    for claim in claims:
        await store.append(claim, [user("one", 1)])
    foreign = (
        """INSERT INTO events (sender_id, type_name, data) VALUES ('c', 'x', '{"event": "x"}')"""
    )
    await store._write(lambda connection: connection.exec_driver_sql(foreign))
    writer.said.clear()
    await together(writer, *(store.append(claim, [], "mark") for claim in claims))
    assert writer.sizes() == [3, 1]
    assert [claim.sequence for claim in claims] == [1, 1, 2]
    found = [await store.claim(name, 2, "x") for name in "abc"]
    assert [(claim.mark, claim.sequence) for claim in found] == [
        ("mark", 1),
        ("mark", 1),
        ("mark", 2),
    ]
    await stores.close()


async def test_one_conversation_s_failure_is_its_own(stores: Stores) -> None:
    """What it had written is gone, the others are stored."""
    store, writer = await opened(stores)
    old, good = await store.claim("a", 1, "x"), await store.claim("b", 1, "x")
    twice = "INSERT INTO ticketlock_conversations SELECT * FROM ticketlock_conversations"
    writer.said.clear()
    found = await together(
        writer,
        store._write(insert("c")),
        store._write(insert("half", fail)),
        store.claim("a", 2, "later"),
        store.append(old, [user("stale", 1)]),
        store._write(insert("half", lambda connection: connection.exec_driver_sql(twice))),
        store.append(good, [user("good", 1)]),
    )
    assert [type(each) for each in found[1::2]] == [LookupError, StaleFence, type(None)]
    assert str(found[1]) == "its own"
    assert isinstance(found[4], TrackerStoreError)
    assert "UNIQUE constraint failed" in str(found[4])
    assert stored(store) == ["c", "b"]
    assert writer.sizes() == [6]
    await stores.close()


async def test_an_acknowledgement_comes_after_the_commit(stores: Stores) -> None:
    store, writer = await opened(stores)
    loop, committing, may = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def before_commit(_: sa.Connection) -> None:
        loop.call_soon_threadsafe(committing.set)
        may.wait(20)

    sa.event.listen(writer.engine._engine, "commit", before_commit)
    with writer.held_up():
        tasks = await queued(writer, *(store._write(insert(str(n))) for n in range(3)))
    await committing.wait()
    for _ in range(10):
        await asyncio.sleep(0)
    answered, there = [task.done() for task in tasks], stored(store)
    may.set()
    await asyncio.wait(tasks)
    assert answered == [False] * 3
    assert there == []
    assert len(stored(store)) == 3
    await stores.close()


async def test_a_failed_commit_fails_all(stores: Stores) -> None:
    """Also what was refused because of a claim that was not stored. Afterwards all is well."""
    store, writer = await opened(stores)
    claim, other = await store.claim("a", 4, "x"), await store.claim("b", 1, "x")
    refuse = "CREATE TABLE t (x REFERENCES t2 DEFERRABLE INITIALLY DEFERRED)"
    with closing(sqlite3.connect(store.settings.url.database)) as connection:
        connection.execute("CREATE TABLE t2 (x INTEGER PRIMARY KEY)")
        connection.execute(refuse)

    @sa.event.listens_for(writer.engine._engine, "checkout")
    def checked(connection: Any, *_: Any) -> None:
        connection.execute("PRAGMA foreign_keys = ON")

    found = await together(
        writer,
        store.claim("a", 5, "later"),
        store.append(claim, [user("one", 1)]),
        store._write(lambda connection: connection.exec_driver_sql("INSERT INTO t VALUES (1)")),
        store.append(other, [user("two", 1)]),
    )
    assert all(type(each) is TrackerStoreError for each in found), found
    assert all("FOREIGN KEY constraint failed" in str(each) for each in found)
    assert stored(store) == []
    await together(
        writer, store.append(other, [user("two", 1)]), store.append(claim, [user("one", 1)])
    )
    assert stored(store) == ["b", "a"]
    await stores.close()


async def test_a_transaction_that_one_write_has_ended(stores: Stores) -> None:
    """It gets its error, and the others are stored, each by itself."""
    store, writer = await opened(stores)
    end = "INSERT OR ROLLBACK INTO ticketlock_conversations SELECT * FROM ticketlock_conversations"
    tried = 0

    def once(_: sa.Connection) -> str:
        nonlocal tried
        tried += 1
        if tried == 1:
            raise LookupError("in a transaction that is void")
        return "stored"

    found = await together(
        writer,
        store._write(insert("a")),
        store._write(insert("b", once)),
        store._write(insert("c", lambda connection: connection.exec_driver_sql(end))),
        store._write(insert("d")),
    )
    assert isinstance(found.pop(2), TrackerStoreError)
    assert found == [None, "stored", None]
    assert stored(store) == ["a", "b", "d"]
    await stores.close()


async def test_a_full_disk_fails_what_does_not_fit(stores: Stores) -> None:
    """The turns that are with it are stored, and afterwards all is well."""
    store, writer = await opened(stores)
    claims = await together(writer, *(store.claim(name, 1, "x") for name in "abc"))
    await writer.engine.run(lambda c: c.exec_driver_sql("PRAGMA max_page_count = 40"))
    large = [user("x" * 1000, n) for n in range(200)]
    turns = ([user("one", 1)], large, [user("two", 1)])
    found = await together(writer, *map(store.append, claims, turns))
    assert "free some space" in str(found[1])
    assert found[::2] == [None, None]
    assert sorted(stored(store)) == ["a", "c"]
    await store.append(claims[1], [user("small", 1)])
    assert sorted(stored(store)) == ["a", "b", "c"]
    await stores.close()


async def test_a_busy_file_fails_all_and_is_waited_for_once(stores: Stores) -> None:
    store, writer = await opened(stores, timeout=4)  # it waits for the file half of that
    other = sqlite3.connect(store.settings.url.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    found = await together(writer, *(store.claim(str(n), 1, "x") for n in range(5)))
    assert all("another process holds the file" in str(each) for each in found), found
    assert all(type(each) is TrackerStoreError for each in found)
    other.execute("ROLLBACK")
    other.close()
    claims = await together(writer, *(store.claim(str(n), 1, "x") for n in range(5)))
    assert [claim.sequence for claim in claims] == [0] * 5
    await stores.close()


async def test_a_batch_is_bounded(stores: Stores) -> None:
    store, writer = await opened(stores)
    claims = await together(writer, *(store.claim(str(n), 1, "x") for n in range(150)))
    assert writer.sizes() == [64, 64, 22]
    writer.said.clear()
    large = [user("x" * 100_000, n) for n in range(4)]
    await together(writer, *(store.append(claim, large) for claim in claims[:5]))
    assert writer.sizes() == [2, 2, 1]
    writer.said.clear()
    run = writer.engine.run  # what is above the bound goes by itself
    await together(writer, run(insert("a"), size=2_000_000), run(insert("b")), run(insert("c")))
    assert writer.sizes() == [1, 2]
    await stores.close()


async def test_cancelled_before_it_begins_it_writes_nothing(stores: Stores) -> None:
    """Once begun it is written."""
    store, writer = await opened(stores)
    loop, begun, may = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def wait(_: sa.Connection) -> None:
        loop.call_soon_threadsafe(begun.set)
        may.wait(20)

    with writer.held_up():
        run = writer.engine.run
        first, never, second, last = await queued(
            writer, run(insert("a")), run(insert("never"), size=2_000_000), run(insert("b")),
            run(insert("c", wait)),
        )  # fmt: skip
        never.cancel()
        await asyncio.wait([never])
    await begun.wait()
    for task in (first, last):
        task.cancel()
    await asyncio.wait([first, last])
    may.set()
    await second
    assert stored(store) == ["a", "b", "c"]
    assert writer.sizes() == [3]  # nor does it count
    await stores.close()


async def test_writes_of_several_event_loops(stores: Stores) -> None:
    """Each hears in its own loop; one that is closed meanwhile keeps no other from hearing."""
    store, writer = await opened(stores)
    run = writer.engine.run

    async def leave() -> Any:
        """A write that has begun to wait in a loop that ends, as no task that could be cancelled."""
        writing = run(insert("left"))
        writing.send(None)
        return writing

    def elsewhere(name: str) -> list[Any]:
        async def all_of_it() -> list[Any]:
            return await asyncio.gather(
                *(run(insert(name, lambda _, n=n: n)) for n in range(8)),
                run(insert(name, fail)),
                return_exceptions=True,
            )

        return asyncio.run(all_of_it())

    with writer.held_up():
        left = await asyncio.to_thread(asyncio.run, leave())
        threads = [asyncio.create_task(asyncio.to_thread(elsewhere, name)) for name in "abc"]
        while len(writer.engine._writes._waiting) < 28:
            await asyncio.sleep(0.001)
    for found in await asyncio.gather(*threads):
        assert found[:8] == list(range(8))
        assert isinstance(found[8], LookupError)
    left.close()
    assert sorted(stored(store)) == sorted(["left", *"abc" * 8])
    await stores.close()


async def test_a_store_is_closed_behind_what_waits(stores: Stores) -> None:
    store, writer = await opened(stores)
    with writer.held_up():
        running = (store._running.finish(store._write(insert(name))) for name in "abc")
        writing = await queued(writer, *running)
        closing = asyncio.ensure_future(store.close())
        await asyncio.sleep(0)
    await closing
    await asyncio.gather(*writing)
    assert stored(store) == ["a", "b", "c"]


async def test_a_database_in_memory(stores: Stores) -> None:
    """Reads and writes share its only connection, and keep their order."""
    store, writer = await opened(stores, db=":memory:")
    found = await together(writer, *(store._write(insert(name)) for name in "abc"))
    assert found == [None] * 3
    assert writer.sizes() == [3]
    writing = asyncio.ensure_future(store._write(insert("d")))
    await asyncio.sleep(0)
    assert len(await asyncio.gather(store.keys(), writing)) == 2
    assert sorted(await store.keys()) == ["a", "b", "c", "d"]
    await stores.close()
