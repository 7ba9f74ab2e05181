"""PostgreSQL behind pgbouncer in transaction mode: each transaction has another connection.

No prepared statement, no session setting and no startup option survives there; the Debian
package's 1.18 refuses the last two before anything works.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from contract_events import user
from servers import pgbouncer
from servers.tracker_stores import Stores
from ticketlock.brokers.sql.broker import SQLEventBroker
from ticketlock.stores.event_service.database import SQLEventDatabase

from ticketlock.errors import ConfigurationError, TrackerStoreConnectionError, TrackerStoreError
from ticketlock.event_service.records import Received, Reject
from ticketlock.publishing.message import DELIVERED, BrokerMessage
from ticketlock.settings.section import Section

#: More than pgbouncer has connections to the server.
WRITERS = 4 * pgbouncer.SERVER_CONNECTIONS
TURNS = 12  # psycopg prepares a statement when it is used the fifth time


@pytest.fixture(params=["refuses options", "ignores options"])
def pooled(request: pytest.FixtureRequest, tracker_sections: Any) -> Iterator[dict[str, Any]]:
    """The section of a new database, with the pooler's port."""
    section = tracker_sections("postgres")
    ignored = "options,extra_float_digits" if "ignores" in request.param else ""
    settings = {"ignore_startup_parameters": ignored} if ignored else {}
    with pgbouncer.in_front_of(section, **settings) as found:
        yield found


@pytest.fixture
def stores(pooled: dict[str, Any]) -> Stores:
    return Stores("postgres", pooled)


def plain_connection(url: Any) -> psycopg.Connection[Any]:
    return psycopg.connect(
        host=url.host, port=url.port, user=url.username, password=url.password,
        dbname=url.database, prepare_threshold=None,
    )  # fmt: skip


async def test_turns_of_many_conversations(stores: Stores) -> None:
    """Out of the box: what two replicas write is all there, and in order."""
    replicas = [stores.open(), stores.open()]
    for replica in replicas:
        await replica.connect()

    async def talk(sender_id: str) -> None:
        for turn in range(1, TURNS + 1):
            replica = replicas[turn % 2]
            claim = await replica.claim(sender_id, turn, "x")
            assert claim.sequence == turn - 1
            await replica.append(claim, [user(f"{turn}", turn)])

    await asyncio.gather(*(talk(f"{n}") for n in range(WRITERS)))
    assert sorted(await replicas[0].keys()) == sorted(f"{n}" for n in range(WRITERS))
    for n in range(WRITERS):
        tracker = await replicas[0].retrieve_full_tracker(f"{n}")
        times = [event.timestamp for event in tracker.events]
        assert times == list(range(1, TURNS + 1))


async def test_time_limits_hold_in_each_transaction_and_nowhere_else(stores: Stores) -> None:
    """The server's connections are shared: another program's sessions keep their settings."""
    store = stores.open()
    await store.connect()
    query = "SELECT current_setting('lock_timeout'), current_setting('application_name')"

    def limit(connection: sa.Connection) -> Any:
        return connection.exec_driver_sql(query).one()[0]

    assert await asyncio.gather(*(store._write(limit) for _ in range(20))) == ["12s"] * 20
    with plain_connection(store.settings.url) as other:
        for _ in range(10):
            assert other.execute("SHOW lock_timeout").fetchone() == ("0",)
            other.commit()


async def test_a_transaction_that_is_left_open_is_ended(stores: Stores) -> None:
    """A frozen process holds up its successor for seconds, as without a pooler."""
    store = stores.open()
    await store.append(await store.claim("a", 1, "x"), [user("before", 0)])
    frozen = await store._engine.connect()
    await frozen.exec_driver_sql("SELECT * FROM ticketlock_conversations FOR UPDATE")
    claim = await asyncio.wait_for(stores.open().claim("a", 2, "successor"), 40)
    assert claim.sequence == 1
    await frozen.invalidate()


async def test_the_schema_of_the_variable(
    pooled: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """POSTGRESQL_SCHEMA is a session setting too."""
    first = Stores("postgres", pooled)
    plain = first.open()
    await plain.connect()
    async with plain._engine.begin() as connection:
        await connection.exec_driver_sql('CREATE SCHEMA "My schema"')
    monkeypatch.setenv("POSTGRESQL_SCHEMA", "My schema")
    store = first.open()

    async def turn(name: str) -> None:
        await store.append(await store.claim(name, 1, "x"), [user(name, 1)])

    await asyncio.gather(*(turn(f"{n}") for n in range(WRITERS)))
    count = 'SELECT count(*) FROM "My schema".events'
    async with plain._engine.connect() as connection:
        assert (await connection.exec_driver_sql(count)).scalar() == WRITERS
    assert await plain.keys() == []
    await first.close()


def message(n: int) -> BrokerMessage:
    return BrokerMessage.of_event({"sender_id": "a", **user(f"{n}", n)})


async def test_the_event_broker(pooled: dict[str, Any]) -> None:
    """Each batch is delivered, well beyond the fifth."""
    store = Stores("postgres", pooled).open()
    await store.connect()  # makes the database
    await store.close()
    section = {key: value for key, value in pooled.items() if key not in ("type", "login_db")}
    with plain_connection(store.settings.url) as connection:
        connection.execute("DROP TABLE events")  # the broker has one of its own kind
    brokers = [SQLEventBroker(**section) for _ in range(6)]
    for n in range(TURNS):
        outcomes = await asyncio.gather(*(b.deliver([message(n), message(n)]) for b in brokers))
        assert {outcome for each in outcomes for outcome in each} == {DELIVERED}
    for broker in brokers:
        await broker.close()


async def test_the_event_service(pooled: dict[str, Any]) -> None:
    """Batches of events and of rejects, well beyond the fifth."""
    section = {key: value for key, value in pooled.items() if key != "type"}
    databases = [SQLEventDatabase(Section(section, "event_service")) for _ in range(6)]
    for database in databases:
        await database.open()

    def event(sender_id: str, n: int) -> Received:
        data = json.dumps({"sender_id": sender_id, **user(f"{n}", n)})
        return Received(sender_id, 1, n, "user", float(n), data, "", "")

    def reject(sender_id: str, n: int) -> Reject:
        return Reject("no event", b"\x00\xff", f"{sender_id}/{n}", "queue q")

    stored = rejected = 0
    for n in range(TURNS):
        batches = (
            database.store(
                [event(f"{i}", 2 * n), event(f"{i}", 2 * n + 1)],
                [reject(f"{i}", 2 * n), reject(f"{i}", 2 * n + 1)],
            )
            for i, database in enumerate(databases)
        )
        for done in await asyncio.gather(*batches):
            stored, rejected = stored + done.stored, rejected + done.rejected
    assert (stored, rejected) == (2 * TURNS * 6, 2 * TURNS * 6)
    assert await databases[0].gaps() == []
    for database in databases:
        await database.close()


@pytest.mark.parametrize("threshold", ["0", "7", "none", ""])
async def test_the_threshold_of_prepared_statements(tracker_sections: Any, threshold: str) -> None:
    """`query` reaches the driver in the type that it wants."""
    stores = Stores("postgres", tracker_sections("postgres"))
    store = stores.open(query={"prepare_threshold": threshold})
    await store.append(await store.claim("a", 1, "x"), [user("one", 1)])
    await stores.close()


@pytest.mark.parametrize("query", [{"prepare_threshold": "often"}, {"no_such_key": "1"}], ids=str)
async def test_a_parameter_that_the_driver_does_not_take(
    tracker_sections: Any, query: dict[str, str]
) -> None:
    """An error of the configuration that names the key, and no traceback."""
    stores = Stores("postgres", tracker_sections("postgres"))
    with pytest.raises((ConfigurationError, TrackerStoreError), match=next(iter(query))) as error:
        await stores.open(query=query, login_db=None, db="postgres").connect()
    assert "query" in str(error.value)
    await stores.close()


async def test_a_pooler_that_is_restarted(tracker_sections: Any) -> None:
    """Its clients connect anew; what was in the middle of a turn is repeated."""
    section = tracker_sections("postgres")
    with pgbouncer.in_front_of(section) as first:
        stores = Stores("postgres", first)
        store = stores.open()
        claim = await store.claim("a", 1, "x")
    with pytest.raises(TrackerStoreConnectionError, match="check url and port"):
        await store.append(claim, [user("one", 1)])
    with pgbouncer.in_front_of(section, listen_port=first["port"]):
        await store.append(claim, [user("one", 1)])
        assert len((await store.retrieve("a")).events) == 1
        await stores.close()
