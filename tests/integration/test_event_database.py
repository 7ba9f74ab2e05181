"""The event service's tables on real databases: what is new, what is missing, odd names."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from servers.consumers import query, stored
from ticketlock.stores.sql.settings import SQLSettings
from ticketlock.stores.sql.sqlite import SQLiteEngine

from ticketlock.endpoints.registry import create_event_database, create_tracker_store
from ticketlock.errors import ConfigurationError
from ticketlock.event_service.database import EventDatabase, EventDatabaseError, Gap, HistoryKey
from ticketlock.event_service.parsing import parse, reject
from ticketlock.event_service.records import Received, Reject
from ticketlock.event_service.source import RawMessage

DATABASES = ("sqlite", "postgres", "mariadb")
#: Different ids that a database's own rules may take for one.
ALIKE = ["a", "A", "a ", "ä", "a\u0308", "Ä", "🎟" * 255, "'; --", "%s:x"]


@pytest.fixture(params=DATABASES)
def service(request: pytest.FixtureRequest, tracker_sections: Any) -> dict[str, Any]:
    """A section for a new, empty database."""
    return dict(tracker_sections(request.param))


@asynccontextmanager
async def opened(service: dict[str, Any], number: int = 1) -> AsyncIterator[list[EventDatabase]]:
    """Several instances, which open it at the same moment."""
    found = [create_event_database(service)[1] for _ in range(number)]
    try:
        await asyncio.gather(*(database.open() for database in found))
        yield found
    finally:
        for database in found:
            await database.close()


def event(sender: str, sequence: int | None, history: int = 0, **body: Any) -> Received:
    fields = {"sender_id": sender, "sequence": sequence, "history": history, **body}
    delivery = RawMessage(json.dumps(fields).encode(), "queue q", False, None)
    found = parse(delivery, create_event_database()[1].limits)
    assert isinstance(found, Received)
    return found


def bad(body: bytes) -> Reject:
    return reject(RawMessage(body, "queue q", False, None), "why \0 not \ud800")


async def test_repeats_and_gaps(service: dict[str, Any]) -> None:
    """A repeat is dropped, a gap is known until it is filled, in each history on its own."""
    async with opened(service) as (database,):
        done = await database.store([event("c", n) for n in (0, 1, 1, 5, 9)], [])
        assert (done.stored, done.duplicates) == (4, 1)
        missing = [Gap("c", 0, 2, 4), Gap("c", 0, 6, 8)]
        assert done.gaps == {HistoryKey("c", 0): missing}
        await database.store([event("c", 0, history=7), event("d", 1)], [])
        assert await database.gaps() == [*missing, Gap("d", 0, 0, 0)]
        assert await database.gaps({HistoryKey("d", 0), HistoryKey("c", 7)}) == [Gap("d", 0, 0, 0)]
        done = await database.store([event("c", n) for n in (4, 3, 5, 2)], [])
        assert (done.stored, done.duplicates) == (3, 1)
        done = await database.store([event("c", n) for n in (7, 6, 8)] + [event("d", 0)], [])
        assert done.stored == 4
        assert await database.gaps() == []
    assert stored(service) == [*(("c", 0, n) for n in range(10)), ("c", 7, 0), ("d", 0, 0),
                               ("d", 0, 1)]  # fmt: skip


async def test_what_is_stored(service: dict[str, Any]) -> None:
    """The published text, and beside it what queries want; to the last digit."""
    fields = {"event": "user", "timestamp": 1771000000.123456, "text": "ü\0\n🎟 'x' \\ %s :y"}
    async with opened(service) as (database,):
        await database.store([event("c", 0, **fields), event("c", 1)], [])
    columns = "type_name, timestamp, data"
    rows = query(service, f"SELECT {columns} FROM ticketlock_service_events ORDER BY sequence")
    assert rows[0][:2] == ("user", 1771000000.123456)
    assert json.loads(rows[0][2]) == {"sender_id": "c", "sequence": 0, "history": 0, **fields}
    assert rows[1][:2] == (None, None)


async def test_ids_that_look_alike(service: dict[str, Any]) -> None:
    """Each is a conversation of its own, found again, repeats and all."""
    async with opened(service) as (database,):
        for expected in ((len(ALIKE), 0), (0, len(ALIKE))):
            done = await database.store([event(sender, 1) for sender in ALIKE], [])
            assert (done.stored, done.duplicates) == expected
        found = await database.gaps()
        assert sorted(gap.sender_id for gap in found) == sorted(ALIKE)
        assert await database.gaps({HistoryKey("a ", 0)}) == [Gap("a ", 0, 0, 0)]
    assert stored(service) == sorted((sender, 0, 1) for sender in ALIKE)


async def test_many_instances_at_once(service: dict[str, Any]) -> None:
    """They make the tables together, and of the same events one stores each."""
    batches = [[event(f"c{i % 40}", i // 40) for i in range(start, start + 200)]
               for start in range(0, 1000, 200)]  # fmt: skip
    async with opened(service, 4) as databases:

        async def all_of_them(database: EventDatabase, turn: int) -> int:
            order = batches[turn:] + batches[:turn]
            return sum([(await database.store(batch, [])).stored for batch in order])

        work = (all_of_them(database, turn) for turn, database in enumerate(databases))
        assert sum(await asyncio.gather(*work)) == 1000
        assert await databases[0].gaps() == []
    assert len(stored(service)) == 1000


async def test_first_uses_at_once(tracker_sections: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They connect once: what else was opened is closed."""
    live: list[SQLiteEngine] = []
    make, dispose = SQLiteEngine.__init__, SQLiteEngine.dispose

    def made(self: SQLiteEngine, settings: SQLSettings) -> None:
        live.append(self)
        make(self, settings)

    async def disposed(self: SQLiteEngine) -> None:
        live.remove(self)
        await dispose(self)

    monkeypatch.setattr(SQLiteEngine, "__init__", made)
    monkeypatch.setattr(SQLiteEngine, "dispose", disposed)
    database = create_event_database(tracker_sections("sqlite"))[1]
    await asyncio.gather(*(database.store([event("a", n)], []) for n in range(5)))
    assert len(live) == 1
    await database.close()
    assert live == []


async def test_unnumbered_events_and_rejects(service: dict[str, Any]) -> None:
    """Repeats of them are known by what is in them; all bytes and reasons can be kept."""
    raw = bytes(range(256))
    async with opened(service) as (database,):
        some = [event("c", None, n=n) for n in (0, 1, 1)]
        done = await database.store([*some, event("c", 0)], [bad(raw), bad(b""), bad(raw)])
        assert (done.stored, done.duplicates, done.rejected) == (3, 2, 2)
        done = await database.store(some, [bad(b"")])
        assert (done.stored, done.duplicates, done.rejected) == (0, 4, 0)
    rows = query(service, "SELECT body, reason FROM ticketlock_service_rejects ORDER BY id")
    assert [bytes(body) for body, _ in rows] == [raw, b""]
    assert rows[0][1] == "why \\0 not \\ud800"
    rows = query(service, "SELECT data FROM ticketlock_service_unnumbered ORDER BY id")
    assert [json.loads(row[0])["n"] for row in rows] == [0, 1]


async def test_what_the_database_does_not_take(service: dict[str, Any]) -> None:
    """One such event is put among the rejects, and the others of its batch are stored."""
    if service.get("dialect") is None:
        pytest.skip("SQLite takes anything")
    async with opened(service) as (database,):
        long = event("ä" * 600, 0)
        done = await database.store([event("c", 0), long, event("c", 1)], [bad(b"?")])
        assert (done.stored, done.rejected) == (2, 2)
        again = await database.store([long], [])
        assert (again.duplicates, again.rejected) == (1, 0)
    assert stored(service) == [("c", 0, 0), ("c", 0, 1)]


async def test_a_message_larger_than_a_packet(tracker_sections: Any) -> None:
    """MariaDB takes no statement of that size: what fits of it is kept."""
    service = await asyncio.to_thread(tracker_sections, "mariadb")
    async with opened(service) as (database,):
        limit = database.limits.size
        assert limit
        large = json.dumps({"sender_id": "c", "sequence": 0, "x": "'" * limit}).encode()
        found = parse(RawMessage(large, "queue q", False, None), database.limits)
        assert isinstance(found, Reject)
        assert (await database.store([], [found])).rejected == 1
    ((size, reason),) = query(
        service, "SELECT LENGTH(body), reason FROM ticketlock_service_rejects"
    )
    assert size == limit
    assert f"the first {limit} bytes of its body are kept" in reason


async def test_beside_a_tracker_store(service: dict[str, Any]) -> None:
    """One database for both: neither touches the other's tables."""
    store = create_tracker_store(service)
    async with store, opened(service) as (database,):
        claim = await store.claim("c", 1, "owner")
        await store.append(claim, [{"event": "user", "text": "hello", "timestamp": 1.0}])
        await database.store([event("c", 0), event("c", 1)], [])
        tracker = await store.retrieve_full_tracker("c")
        assert tracker is not None
        assert len(tracker.events) == 1


@pytest.mark.parametrize("dialect", ["postgresql", "mysql"])
async def test_nobody_there(dialect: str) -> None:
    """The error names the database and what to check, without the password."""
    keys = {"dialect": dialect, "url": "127.0.0.1:1", "username": "u", "password": "s3cret"}
    database = create_event_database({**keys, "db": "x"})[1]
    with pytest.raises(EventDatabaseError, match="check url and port") as caught:
        await database.open()
    assert "s3cret" not in str(caught.value)
    assert caught.value.again


@pytest.mark.parametrize("name", ["postgres", "mariadb"])
async def test_a_wrong_password(tracker_sections: Any, name: str) -> None:
    """No waiting cures it."""
    section = {**await asyncio.to_thread(tracker_sections, name), "password": "wr0ng"}
    database = create_event_database(section)[1]
    with pytest.raises(EventDatabaseError, match="check username and password") as caught:
        await database.open()
    assert not caught.value.again


@pytest.mark.parametrize(
    ("section", "error"),
    [
        ({"type": "mongod"}, "event_service: type: 'mongod' is not known; the only type is sql"),
        ({"dialect": "oracle", "url": "h"}, "event_service: dialect: 'oracle' is not one of"),
        ({"grup": "g"}, "event_service: grup: is not a setting here; did you mean group?"),
        ({"group": ""}, "event_service: group: is empty"),
        ({"instance": "a b"}, "event_service: instance: 'a b' is not"),
    ],
)
def test_wrong_settings(section: dict[str, Any], error: str) -> None:
    """They name the section and the key."""
    with pytest.raises(ConfigurationError, match=error.replace("?", r"\?")):
        create_event_database(section)


def test_defaults() -> None:
    """An SQLite file beside nothing else, and a group of its own."""
    settings, database = create_event_database()
    assert database.address == "SQLite file events.db"
    assert (settings.group, settings.queue) == ("ticketlock-event-service", None)
