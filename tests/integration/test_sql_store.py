"""What only the SQL store has: a documented table, servers to log in to, transactions."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from contract_events import action, session, user
from integration.sql_stores import engine_of
from servers.tracker_stores import Stores
from sqlalchemy.ext.asyncio import create_async_engine
from ticketlock.stores.sql import SQLTrackerStore

from ticketlock.errors import (
    ConfigurationError,
    StaleFence,
    TrackerStoreConnectionError,
    TrackerStoreError,
)

SERVERS = ("postgres", "mariadb")

#: The documented table as another program makes it, in plain SQL.
NUMBER = {
    "sqlite": "id INTEGER NOT NULL PRIMARY KEY",
    "postgres": "id SERIAL PRIMARY KEY",
    "mariadb": "id INTEGER NOT NULL AUTO_INCREMENT PRIMARY KEY",
}
TABLE = """CREATE TABLE events ({number}, sender_id VARCHAR(255) NOT NULL,
 type_name VARCHAR(255) NOT NULL, timestamp FLOAT, intent_name VARCHAR(255),
 action_name VARCHAR(255), data TEXT)"""
INSERT = """INSERT INTO events (sender_id, type_name, timestamp, intent_name, action_name, data)
 VALUES (:sender_id, :type_name, :timestamp, NULL, :action_name, :data)"""


@pytest.fixture(params=["sqlite", *SERVERS])
def stores(request: pytest.FixtureRequest, tracker_sections: Any) -> Stores:
    return Stores(request.param, tracker_sections(request.param))


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, tracker_sections: Any) -> Stores:
    return Stores(request.param, tracker_sections(request.param))


@pytest.fixture
def postgres(tracker_sections: Any) -> Stores:
    return Stores("postgres", tracker_sections("postgres"))


async def execute(stores: Stores, *statements: tuple[str, Any]) -> None:
    """Run plain SQL in the stores' database."""
    store = stores.open()
    if stores.backend == "postgres":
        await store.connect()  # makes the database
        await store.close()
    engine = engine_of(store.settings.url)
    async with engine.begin() as connection:
        for statement, values in statements:
            await connection.execute(sa.text(statement), values)
    await engine.dispose()


def row(sender_id: str, event: dict[str, Any]) -> dict[str, Any]:
    return {
        "sender_id": sender_id, "type_name": event["event"], "timestamp": event.get("timestamp"),
        "action_name": event.get("name"), "data": json.dumps(event),
    }  # fmt: skip


async def history(store: Any, sender_id: str = "a") -> list[dict[str, Any]]:
    tracker = await store.retrieve_full_tracker(sender_id)
    return [event.as_dict() for event in tracker.events] if tracker else []


async def test_a_database_of_another_program(stores: Stores) -> None:
    """Opens, continues and exports without loss; so it does when that program wrote again."""
    old = [*session(0), user("one", 1), action("x", 900), *session(500), user("Ünï 🙂", 501)]
    tables = [("DROP TABLE IF EXISTS events", {})] if stores.backend == "postgres" else []
    tables += [(TABLE.format(number=NUMBER[stores.backend]), {})]
    tables += [("CREATE INDEX ix_events_sender_id ON events (sender_id)", {})]
    rows = [(INSERT, row(sender_id, event)) for event in old for sender_id in ("a", "b", "A")]
    await execute(stores, *tables, *rows)
    store = stores.open()
    assert sorted(await store.keys()) == ["A", "a", "b"]
    assert await history(store) == old
    assert await history(store, "A") == old
    assert (await store.retrieve_full_tracker("a")).origin.history == 0  # it has no row of ours
    latest = await store.retrieve("b")
    assert [event.as_dict() for event in latest.events] == old[5:]
    latest.update(user("saved", 502))
    await store.save(latest)
    assert await history(store, "b") == [*old, user("saved", 502)]
    claim = await store.claim("a", 1, "x")
    assert claim.sequence == len(old)
    assert [event.as_dict() for event in claim.tracker.events] == old[5:]
    await store.append(claim, [user("claimed", 503)])
    again = [user("by the old program", 1), *session(2), user("and more", 1)]
    await execute(stores, *((INSERT, row("a", event)) for event in again))
    assert await history(store) == [*old, user("claimed", 503), *again]
    claim = await stores.open().claim("a", 2, "y")
    assert claim.sequence == len(old) + 1 + len(again)
    assert [event.as_dict() for event in claim.tracker.events] == again[1:]
    assert (await store.retrieve_full_tracker("a")).origin.history > 0


async def test_a_row_that_is_no_event(stores: Stores) -> None:
    """An error that names the row; the process goes on (T8)."""
    store = stores.open()
    await store.connect()
    for number, data in enumerate(("{broken", "[]", '{"no": "event"}')):
        bad = {**row("x", user("x", 1)), "data": data, "sender_id": str(number)}
        await execute(stores, (INSERT, bad))
        with pytest.raises(TrackerStoreError, match=f"table events, id {number + 1}"):
            await store.retrieve(str(number))


async def test_many_replicas_start_at_once(stores: Stores) -> None:
    """Each makes the tables, none fails (T25)."""
    replicas = [stores.open() for _ in range(8)]
    await asyncio.gather(*(replica.connect() for replica in replicas))
    claims = await asyncio.gather(*(r.claim(str(n), 1, "x") for n, r in enumerate(replicas)))
    assert [claim.sequence for claim in claims] == [0] * 8


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"password": "s3cret"}, "check username and password"),
        ({"port": 1}, "check url and port"),
        ({"url": "nowhere.invalid"}, "check the host name|check url and port"),
        ({"db": "not_there", "login_db": None}, "create the database"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
async def test_what_is_wrong_is_said_at_once(server: Stores, change: Any, said: str) -> None:
    """With the database's name, and never with a password (T21)."""
    store = server.open(**change)
    begun = time.monotonic()
    with pytest.raises(TrackerStoreConnectionError, match=said) as error:
        await store.connect()
    assert time.monotonic() - begun < 15
    assert "database" in str(error.value)
    assert store.settings.url.password not in str(error.value)


async def test_sqlite_files_that_cannot_be_used(tmp_path: Any) -> None:
    for path, said in (("no/folder.db", "must exist"), ("text", "not a database")):
        (tmp_path / "text").write_text("this is no database, only a text" * 100)
        store = SQLTrackerStore(db=str(tmp_path / path))
        with pytest.raises(TrackerStoreError, match=said):
            await store.connect()
        await store.close()


async def test_a_full_disk(tmp_path: Any) -> None:
    """An error; what was stored stays, nothing is half-written."""
    async with SQLTrackerStore(db=str(tmp_path / "x.db")) as store:
        claim = await store.claim("a", 1, "x")
        await store.append(claim, [user("before", 1)])
        assert store._engine is not None
        await store._engine.run(lambda c: c.exec_driver_sql("PRAGMA max_page_count = 30"))
        with pytest.raises(TrackerStoreError, match="free some space") as error:
            await store.append(claim, [user("x" * 1000, n) for n in range(1000)])
        assert not isinstance(error.value, TrackerStoreConnectionError)
        assert await history(store) == [user("before", 1)]
        await store.append(claim, [user("after", 1)])


async def test_a_silent_server(postgres: Stores, tracker_sections: Any) -> None:
    """An error after `timeout` seconds, and afterwards all is well."""
    await postgres.open().connect()  # makes the database, which may take longer
    store = postgres.open(timeout=1)
    claim = await store.claim("a", 1, "x")
    blocker = postgres.open()
    await blocker.connect()
    async with blocker._engine.begin() as connection:  # somebody holds the row for ever
        await connection.exec_driver_sql("SELECT * FROM ticketlock_conversations FOR UPDATE")
        with pytest.raises(TrackerStoreConnectionError, match="no answer within 1 s"):
            await store.append(claim, [user("one", 1)])
    await store.append(claim, [user("one", 1)])
    assert await history(store) == [user("one", 1)]


async def test_a_restarted_server(server: Stores) -> None:
    """Pooled connections that the server has closed cost one more try, no error."""
    store = server.open()
    claim = await store.claim("a", 1, "x")
    kill = {
        "postgres": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
        "mariadb": "KILL USER test",
    }[server.backend]
    with pytest.raises(sa.exc.DBAPIError) if server.backend == "mariadb" else _nothing():
        other = create_async_engine(store.settings.url, isolation_level="AUTOCOMMIT")
        async with other.connect() as connection:
            await connection.exec_driver_sql(kill)
    await other.dispose()
    await store.append(claim, [user("one", 1)])
    assert await history(store) == [user("one", 1)]


def _nothing() -> Any:
    from contextlib import nullcontext

    return nullcontext()


@pytest.mark.parametrize("name", ["with-hyphen", 'qu"ote; DROP', "Upper Case", "per%cent", "ü"])
async def test_login_db_creates_any_database(postgres: Stores, name: str) -> None:
    """Names are quoted, and replicas may race for it (T22, T23)."""
    stores = [postgres.open(db=f"{name}{os.getpid()}") for _ in range(3)]
    await asyncio.gather(*(store.connect() for store in stores))
    await stores[0].claim("a", 3, "x")
    with pytest.raises(StaleFence):
        await stores[1].claim("a", 2, "x")


async def test_the_documented_variables(postgres: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """Schema, pool size and overflow hold for the database that login_db led to (T23)."""
    monkeypatch.setenv("POSTGRESQL_SCHEMA", "My schema")
    monkeypatch.setenv("SQL_POOL_SIZE", "3")
    monkeypatch.setenv("SQL_MAX_OVERFLOW", "1")
    store = postgres.open()
    with pytest.raises(ConfigurationError, match=r"POSTGRESQL_SCHEMA.*'My schema'"):
        await store.connect()
    monkeypatch.delenv("POSTGRESQL_SCHEMA")
    await execute(postgres, ('CREATE SCHEMA "My schema"', {}))
    monkeypatch.setenv("POSTGRESQL_SCHEMA", "My schema")
    store = postgres.open()
    await store.append(await store.claim("a", 1, "x"), [user("one", 1)])
    assert store._engine is not None
    assert store._engine.pool.size() == 3
    async with store._engine.connect() as connection:
        count = await connection.exec_driver_sql('SELECT count(*) FROM "My schema".events')
        assert count.scalar() == 1


WRITER = """
import asyncio, json, sys
from contract_events import user
from ticketlock.errors import StaleFence
from ticketlock.endpoints.registry import create_tracker_store

async def main():
    async with create_tracker_store(json.loads(sys.argv[1])) as store:
        claim = await store.claim("a", int(sys.argv[2]), "x")
        print("claimed", flush=True)
        while True:
            await store.append(claim, [user("x" * 200, claim.sequence + n) for n in range(100)])

try:
    asyncio.run(main())
except StaleFence as error:
    print("stale", error.stored, flush=True)
"""


def writer(stores: Stores, fence: int) -> subprocess.Popen[bytes]:
    """A process that appends 100 events at a time, for ever."""
    command = [sys.executable, "-c", WRITER, json.dumps(stores.section), str(fence)]
    env = {**os.environ, "PYTHONPATH": "tests"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=env)


@pytest.mark.slow
async def test_kill_in_the_middle_of_an_append(stores: Stores) -> None:
    """All of it or nothing; and the sequence agrees with the rows."""
    store = stores.open()
    await store.connect()
    times: list[float] = []
    for fence in range(1, 4):
        with writer(stores, fence) as process:
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == b"claimed\n"
            await asyncio.sleep(random.uniform(0.02, 0.2))
            process.send_signal(signal.SIGKILL)
        # A server may still finish what the dead one had sent: the claim waits for that.
        claim = await store.claim("a", fence, "x")
        times = [event["timestamp"] for event in await history(store)]
        assert times == list(range(claim.sequence))
        assert len(times) % 100 == 0
    assert times


@pytest.mark.slow
async def test_a_process_frozen_between_two_messages(tracker_sections: Any) -> None:
    """PostgreSQL's own limit does not see it; whoever waits for the row ends it."""
    stores = Stores("postgres", tracker_sections("postgres"))
    store = stores.open()
    await store.append(await store.claim("a", 1, "x"), [user("before", 0)])
    url = store.settings.url
    frozen = psycopg.connect(
        host=url.host, port=url.port, user=url.username, password=url.password, dbname=url.database
    )
    try:
        with frozen.pipeline() as pipeline:  # statements without a Sync behind them
            frozen.execute("BEGIN")
            frozen.execute("SELECT * FROM ticketlock_conversations FOR UPDATE")
            frozen.pgconn.send_flush_request()
            frozen.pgconn.flush()
            await asyncio.sleep(0.5)
            claim = await asyncio.wait_for(store.claim("a", 2, "successor"), 30)
            await store.append(claim, [user("after", 1)])
            frozen.pgconn.finish()
            del pipeline
    except psycopg.Error:
        pass  # it has been ended, as it should
    assert claim.sequence == 2
    await stores.close()


@pytest.mark.slow
async def test_a_frozen_process_in_the_middle_of_an_append(server: Stores) -> None:
    """Its successor goes on after seconds; what it does when it wakes up is refused."""
    store = server.open()
    await store.connect()
    with writer(server, 1) as process:
        try:
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == b"claimed\n"
            await asyncio.sleep(0.1)
            process.send_signal(signal.SIGSTOP)
            claim = await store.claim("a", 2, "successor")
            await store.append(claim, [user("mine", -1)])
            process.send_signal(signal.SIGCONT)
            assert await asyncio.to_thread(process.stdout.readline) == b"stale 2\n"
        finally:
            process.kill()
    times = [event["timestamp"] for event in await history(store)]
    assert times == [*range(claim.sequence - 1), -1]
    assert len(times) % 100 == 1


async def test_a_cancellation_at_any_step_leaves_no_transaction(
    tracker_sections: Any,
) -> None:
    """SQLite: cancelled at each statement, nothing holds up the next writer."""
    loop = asyncio.get_running_loop()
    stores = Stores("sqlite", tracker_sections("sqlite"))
    store = stores.open(timeout=10)
    await store.connect()
    left, fence = 0, 0

    async def turn() -> None:
        claim = await store.claim("a", fence, "cancelled")
        await store.append(claim, [user("a", 1)])

    def step(_: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            loop.call_soon_threadsafe(task.cancel)

    @sa.event.listens_for(store._engine._engine, "checkout")
    def trace(connection: Any, *_: Any) -> None:
        connection.set_trace_callback(step)

    for fence in range(1, 60):
        left, task = fence, asyncio.create_task(turn())
        await asyncio.wait([task])
        other = SQLTrackerStore(db=store.settings.url.database, timeout=60)
        async with other:
            claimed = asyncio.ensure_future(other.claim("a", fence, "cancelled"))
            await asyncio.wait([claimed], timeout=20)
            assert claimed.done(), f"step {fence} left its transaction open"
            await claimed
        if not task.cancelled():
            break
    assert 8 < fence < 59, "it was not cancelled at every step"
    await stores.close()
