"""Group commit on PostgreSQL and MariaDB: turns share statements, and each is by itself."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
from contract_events import user
from integration.sql_stores import engine_of, execute
from servers.tracker_stores import Stores
from ticketlock.stores.sql import postgresql, together
from ticketlock.stores.sql.together import Together

from ticketlock.errors import StaleFence, TrackerStoreError
from ticketlock.stress.proxy import Proxy
from ticketlock.tracker.fenced import Write

#: A turn begins with it.
SESSION = {"event": "action", "name": "action_session_start", "timestamp": 1.0}


@pytest.fixture(params=["postgres", "mariadb"])
def stores(request: pytest.FixtureRequest, tracker_sections: Any) -> Stores:
    return Stores(request.param, tracker_sections(request.param))


@pytest.fixture
def postgres(tracker_sections: Any) -> Stores:
    return Stores("postgres", tracker_sections("postgres"))


class Watched:
    """A store, with the conversations of its batches and of what went alone."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.batches: list[list[str]] = []
        self.alone = 0
        for kind in (store._together.claims, store._together.writes):
            kind._statements = self._watch(kind._statements)
        by_itself = store._alone

        def alone(*given: Any) -> Any:
            self.alone += 1
            return by_itself(*given)

        store._alone = alone

    def _watch(self, statements: Any) -> Any:
        def watched(connection: Any, batch: Sequence[Any], info: Any) -> Any:
            self.batches.append([one.sender_id for one in batch])
            return statements(connection, batch, info)

        return watched

    async def queued(self, kind: Together, *operations: Any) -> list[asyncio.Future[Any]]:
        """Operations that wait, in this order, for writers that are all busy."""
        assert kind._busy == 0
        kind._busy = together.WRITERS
        tasks = [asyncio.ensure_future(operation) for operation in operations]
        while len(kind._waiting) < len(tasks):
            await asyncio.sleep(0)
            assert not any(task.done() for task in tasks), tasks
        return tasks

    def free(self, kind: Together) -> None:
        """One writer is free."""
        kind._busy = together.WRITERS - 1
        kind._wake()

    async def at_once(self, kind: Together, *operations: Any) -> list[Any]:
        """What comes of operations that have waited for a writer; then all are free."""
        tasks = await self.queued(kind, *operations)
        self.free(kind)
        found = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 40)
        kind._busy -= together.WRITERS - 1
        return found

    async def claims(self, *names: str, fence: int = 1) -> list[Any]:
        kind = self.store._together.claims
        return await self.at_once(kind, *(self.store.claim(name, fence, "x") for name in names))

    async def appends(self, *turns: tuple[Any, list[dict[str, Any]]]) -> list[Any]:
        kind = self.store._together.writes
        return await self.at_once(kind, *(self.store.append(*turn) for turn in turns))


async def opened(stores: Stores, **changes: Any) -> Watched:
    store: Any = stores.open(**changes)
    await store.claim("first", 1, "x")
    return Watched(store)


async def texts(stores: Stores, name: str) -> list[Any]:
    """The texts of a conversation's events, as another process reads them."""
    tracker = await stores.open().retrieve_full_tracker(name)
    return [event.as_dict().get("text") for event in tracker.events] if tracker else []


async def test_what_waits_shares_a_statement(stores: Stores) -> None:
    """New conversations and old ones; sorted, as those of other processes."""
    watched = await opened(stores)
    names = [f"{n}" for n in range(20)]
    for turn in range(1, 4):
        claims = await watched.claims(*reversed(names), fence=turn)
        assert [claim.sequence for claim in claims] == [turn - 1] * 20
        texts_ = [[event.text for event in claim.tracker.events] for claim in claims]
        assert texts_ == [[f"{n}" for n in range(1, turn)]] * 20
        await watched.appends(*((claim, [user(f"{turn}", turn)]) for claim in claims))
    assert watched.batches == [sorted(names)] * 6
    assert watched.alone == 0
    assert await texts(stores, "7") == ["1", "2", "3"]
    await stores.close()


async def test_rows_are_those_of_a_turn_that_goes_alone(stores: Stores) -> None:
    """Sequences, sessions, marks and outbox, in the same columns."""
    watched = await opened(stores)
    await rows_are_those_of_a_turn_that_goes_alone(stores, watched.store)
    assert watched.alone == 0
    await stores.close()


async def rows_are_those_of_a_turn_that_goes_alone(stores: Stores, one: Any) -> None:
    alone: Any = stores.open()
    await alone.claim("first", 1, "x")
    alone._together = None
    turns = [
        ([SESSION, user("one", 1)], "a mark", True),
        ([user("two", 2)], None, True),
        ([SESSION, user("drei", 3), user("vier \N{SNOWMAN}", 4)], 'b "mark\\', False),
        ([user("five", 5)], None, True),
    ]
    for number, (events, mark, publishes) in enumerate(turns, 1):
        for name, store in (("together", one), ("alone", alone)):
            store.publishes = publishes
            claim = await store.claim(name, number, "x")
            assert claim.mark == ("" if number == 1 else "a mark" if number < 4 else 'b "mark\\')
            assert len(claim.tracker.events) == (0, 2, 3, 3)[number - 1]
            await store.append(claim, events, mark)
    engine = engine_of(alone.settings.url)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(engine.dispose)
        connection = await stack.enter_async_context(engine.connect())
        columns = "sender_id, fence, owner, sequence, outbox, relay, mark, outbox_since = outbox_at"
        query = f"SELECT {columns} FROM ticketlock_conversations WHERE sender_id <> 'first'"
        found, other = (await connection.exec_driver_sql(query)).all()
        assert found[1:] == other[1:]
        query = "SELECT sender_id, type_name, timestamp, intent_name, action_name, data FROM events"
        rows = (await connection.exec_driver_sql(f"{query} ORDER BY id")).all()
        assert [row[1:] for row in rows if row[0] == "alone"] == [
            row[1:] for row in rows if row[0] == "together"
        ]
        query = "SELECT c.sender_id, last_id - id, session_id, outbox_id - id FROM events e JOIN"
        query += " ticketlock_conversations c ON e.sender_id = c.sender_id AND e.id = c.session_id"
        places = (await connection.exec_driver_sql(query)).all()
        assert len(places) == 2
        assert all(place[1] > 0 for place in places)


async def test_one_conversation_s_failure_is_its_own(stores: Stores) -> None:
    """A stale claim and a stale write; a large turn goes by itself, with what is in its batch."""
    watched = await opened(stores)
    old, good, large = await watched.claims("a", "b", "c")
    await stores.open().claim("a", 5, "later")
    found = await watched.claims("a", "d", fence=2)
    assert isinstance(found[0], StaleFence)
    assert found[0].stored == 5
    assert found[1].sequence == 0
    await watched.store.append(large, [user("x" * together.LARGE, 1)])
    assert watched.batches[-1] == ["a", "d"]
    found = await watched.appends((old, [user("never", 1)]), (good, [user("stored", 1)]))
    assert isinstance(found[0], StaleFence)
    assert found[1] is None
    assert await texts(stores, "a") == []
    assert await texts(stores, "b") == ["stored"]
    await stores.close()


async def test_what_another_process_holds_holds_up_no_other(stores: Stores) -> None:
    """Its turn waits by itself; the others of its batch do not."""
    watched = await opened(stores)
    store = watched.store
    claims = await watched.claims("a", "b", "c")
    blocker: Any = stores.open()
    await blocker.connect()
    lock = "SELECT * FROM ticketlock_conversations WHERE sender_id = 'b' FOR UPDATE"
    async with blocker._engine.connect() as connection:
        await connection.exec_driver_sql(lock)
        writes = await watched.queued(
            store._together.writes, *(store.append(claim, [user("one", 1)]) for claim in claims)
        )
        watched.free(store._together.writes)
        await asyncio.wait([writes[0], writes[2]], timeout=5)
        assert [write.done() for write in writes] == [True, False, True]
        more = await watched.queued(
            store._together.claims, *(store.claim(name, 2, "x") for name in "abc")
        )
        watched.free(store._together.claims)
        await asyncio.wait([more[0], more[2]], timeout=5)
        assert [claim.done() for claim in more] == [True, False, True]
        await connection.rollback()
    done, refused = await asyncio.gather(more[1], writes[1], return_exceptions=True)
    assert done.sequence in (0, 1)  # whichever of them came first
    assert isinstance(refused, StaleFence) or done.sequence == 1
    await stores.close()


async def test_what_another_process_creates_holds_up_no_other(stores: Stores) -> None:
    """It has inserted the row, and is frozen before its commit."""
    watched = await opened(stores)
    blocker: Any = stores.open()
    await blocker.connect()
    columns = "(sender_id, fence, sequence, last_id, session_id, born)"
    row = f"INSERT INTO ticketlock_conversations {columns} VALUES ('b', 0, 0, 0, 0, 1)"
    async with blocker._engine.connect() as connection:
        await connection.exec_driver_sql(row)
        kind = watched.store._together.claims
        claims = await watched.queued(kind, *(watched.store.claim(n, 1, "x") for n in "abc"))
        watched.free(kind)
        await asyncio.wait([claims[0], claims[2]], timeout=5)
        assert [claim.done() for claim in claims] == [True, False, True]
        await connection.commit()
    assert [claim.fence for claim in await asyncio.gather(*claims)] == [1, 1, 1]
    await stores.close()


async def test_a_statement_that_fails(stores: Stores) -> None:
    """One conversation cannot be stored; the others are, each by itself."""
    watched = await opened(stores)
    claims = await watched.claims("a", "bad", "c")
    await execute(stores, "ALTER TABLE events ADD CONSTRAINT good CHECK (sender_id <> 'bad')")
    found = await watched.appends(*((claim, [user("one", 1)]) for claim in claims))
    assert isinstance(found.pop(1), TrackerStoreError)
    assert found == [None, None]
    assert watched.alone == 3
    assert [await texts(stores, name) for name in ("a", "bad", "c")] == [["one"], [], ["one"]]
    await stores.close()


async def test_a_failed_commit_fails_all(postgres: Stores) -> None:
    """Each turn of the batch is repeated by itself."""
    watched = await opened(postgres)
    claims = await watched.claims("a", "bad", "c")
    await execute(
        postgres,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF new.sender_id = 'bad' THEN RAISE 'refused at the commit'; END IF;"
        " RETURN NULL; END $$",
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON events DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    found = await watched.appends(*((claim, [user("one", 1)]) for claim in claims))
    assert "refused at the commit" in str(found.pop(1))
    assert found == [None, None]
    assert [await texts(postgres, name) for name in ("a", "bad", "c")] == [["one"], [], ["one"]]
    await postgres.close()


async def test_the_answer_of_a_commit_is_lost(stores: Stores) -> None:
    """Each turn is repeated, and finds its events stored."""
    async with Proxy(int(stores.section["port"])) as proxy:
        watched = await opened(stores, port=proxy.port)
        claims = await watched.claims("a", "b", "c")
        proxy.answers_left = {"postgres": 0, "mariadb": 4}[stores.backend]
        kind = watched.store._together.writes
        turns = ((claim, [user("one", 1)]) for claim in claims)
        writes = await watched.queued(kind, *(watched.store.append(*turn) for turn in turns))
        watched.free(kind)
        other = stores.open()
        while not await other.retrieve("c"):
            await asyncio.sleep(0.01)
        assert not any(write.done() for write in writes)
        proxy.answers_left = math.inf
        proxy.reset()
        await asyncio.gather(*writes)
        assert [claim.sequence for claim in claims] == [1, 1, 1]
        assert [await texts(stores, name) for name in "abc"] == [["one"]] * 3
        claims[0].sequence = 0  # had it been told an error, it would repeat the turn by hand
        await watched.store.append(claims[0], [user("one", 1)])
        assert await texts(stores, "a") == ["one"]
        await stores.close()


async def test_a_row_that_is_newer_than_what_the_statement_sees(
    postgres: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn that is committed between the two is not missing in the history."""
    claiming = postgresql._claim(True)
    other: Any = postgres.open()
    first = await other.claim("a", 1, "x")
    await other.append(first, [user("one", 1)])
    watched = await opened(postgres)
    waits = "(SELECT pg_advisory_lock(7)) AS w, unnest(%s::text[], "
    monkeypatch.setattr(
        postgresql, "_claim", lambda _: claiming.replace("unnest(%s::text[], ", waits, 1)
        .replace("SELECT * FROM (", "SELECT a.* FROM (", 1),
    )  # fmt: skip
    async with other._engine.connect() as connection:
        await connection.exec_driver_sql("SELECT pg_advisory_lock(7)")
        claiming_ = asyncio.ensure_future(watched.store.claim("a", 2, "y"))
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        while not (await connection.exec_driver_sql(waiting)).scalar():
            await asyncio.sleep(0.01)
        await other.append(first, [user("two", 2)])
        await connection.exec_driver_sql("SELECT pg_advisory_unlock(7)")
    claim = await claiming_
    assert watched.batches == [["a"]]
    assert [event.text for event in claim.tracker.events] == ["one", "two"]
    assert claim.sequence == 2
    await postgres.close()


async def test_events_of_another_program(stores: Stores) -> None:
    """A turn that finds some goes alone, and counts them."""
    await events_of_another_program(stores, (await opened(stores)).store)
    await stores.close()


async def events_of_another_program(stores: Stores, store: Any) -> None:
    claim = await store.claim("a", 1, "x")
    row = "INSERT INTO events (sender_id, type_name, data) VALUES ('a', 'user', '{0}')"
    event = '{"event": "user", "text": "beside"}'
    await store.append(claim, [user("one", 1)])
    await execute(stores, row.replace("{0}", event))
    claim = await store.claim("a", 2, "x")
    assert claim.sequence == 2
    await execute(stores, row.replace("{0}", event))
    await store.append(claim, [user("two", 2)])
    claim = await store.claim("a", 3, "x")
    assert claim.sequence == 4
    assert [event.text for event in claim.tracker.events] == ["one", "beside", "beside", "two"]


async def test_a_batch_is_bounded(stores: Stores) -> None:
    watched = await opened(stores)
    claims = await watched.claims(*(f"{n:03}" for n in range(150)))
    assert [len(batch) for batch in watched.batches] == [64, 64, 22]
    watched.batches.clear()
    large = [user("x" * 60_000, n) for n in range(4)]
    await watched.appends(*((claim, large) for claim in claims[:9]))
    assert [len(batch) for batch in watched.batches] == [4, 4, 1]
    assert watched.alone == 0
    await stores.close()


async def test_two_turns_of_one_conversation(stores: Stores) -> None:
    """As two callers may have them: one is in the batch, the other goes alone."""
    watched = await opened(stores)
    found = await watched.claims("a", "a")
    assert [claim.fence for claim in found] == [1, 1]
    assert watched.batches == [["a"]]
    assert watched.alone == 1
    await stores.close()


async def test_cancelled_before_it_begins_it_writes_nothing(stores: Stores) -> None:
    watched = await opened(stores)
    claims = await watched.claims("a", "never", "c")
    kind = watched.store._together.writes
    encoded = await watched.store._encoded([user("one", 1)])
    writes = (Write(claim.sender_id, encoded, 0, (1, "x")) for claim in claims)
    tasks = await watched.queued(kind, *map(watched.store._do_write, writes))
    tasks[1].cancel()
    await asyncio.wait([tasks[1]])
    watched.free(kind)
    await asyncio.gather(tasks[0], tasks[2])
    assert watched.batches[-1] == ["a", "c"]
    assert [await texts(stores, name) for name in ("a", "never", "c")] == [["one"], [], ["one"]]
    await stores.close()


async def test_batches_of_two_processes(stores: Stores) -> None:
    """Of the same conversations, in opposite order: none waits for the other for ever."""
    one, other = await opened(stores), await opened(stores)
    names = [f"{n}" for n in range(30)]
    for fence in range(1, 6):
        found = await asyncio.gather(
            one.claims(*names, fence=fence), other.claims(*reversed(names), fence=fence)
        )
        assert not [e for side in found for e in side if isinstance(e, BaseException)], found
        appends = [
            watched.appends(*((claim, [user("one", 1)]) for claim in side))
            for watched, side in zip((one, other), found, strict=True)
        ]
        done = await asyncio.gather(*appends)
        assert not [e for side in done for e in side if e is not None], done
    await stores.close()
