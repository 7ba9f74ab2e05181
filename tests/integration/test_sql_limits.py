"""What a database cannot take, and cannot take now: which of them is worth trying again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from contract_events import user
from integration.sql_stores import empty, engine_of, execute
from servers import mariadb, postgres
from servers.tracker_stores import Stores
from sqlalchemy.ext.asyncio import create_async_engine
from ticketlock.brokers.sql.broker import SQLEventBroker
from ticketlock.stores.event_service.database import SQLEventDatabase

from ticketlock import InMemoryLockStore
from ticketlock.conversations import Conversations
from ticketlock.errors import InvalidEvent, TrackerStoreConnectionError, TrackerStoreError
from ticketlock.event_service.records import Received, Reject
from ticketlock.publishing.message import DELIVERED, BrokerMessage
from ticketlock.server import Settings, create_app
from ticketlock.server.errors import headers
from ticketlock.settings.section import Section

PACKET = 1024 * 1024


@pytest.fixture
def small_packets() -> Any:
    """Stores on a MariaDB of its own, which takes 1 MiB at once."""
    with mariadb.server() as login:
        asyncio.run(mariadb.create(login, "bots"))
        stores = Stores("mariadb", {"type": "sql", "dialect": "mysql", "db": "bots", **login})
        asyncio.run(execute(stores, f"SET GLOBAL max_allowed_packet = {PACKET}"))
        yield stores


async def test_an_event_that_is_larger_than_a_packet(small_packets: Stores) -> None:
    """It fails at once, in words, is not answered as an outage, and the conversation is free."""
    store = small_packets.open()
    seen: list[Any] = []
    async with Conversations(InMemoryLockStore(), store) as conversations:
        async with conversations.turn("a") as turn:
            turn.add(user("before", 1))
        sa.event.listen(store._engine.sync_engine, "connect", lambda *call: seen.append(call))
        with pytest.raises(InvalidEvent, match="max_allowed_packet") as error:
            async with conversations.turn("a", 60) as turn:
                turn.add(user("x" * PACKET, 2))
        assert "retry-after" not in headers(error.value)
        async with conversations.turn("a") as turn:
            assert turn.sequence == 1
            turn.add(user("after", 3))
        assert seen == []  # no connection was lost over it
        tracker = await store.retrieve_full_tracker("a")
        assert [event.timestamp for event in tracker.events] == [1, 3]


@pytest.mark.parametrize("text", ["x", '"', "ü", "🙂", "\\"], ids=ascii)
async def test_events_that_together_are_larger_than_a_packet(
    small_packets: Stores, text: str
) -> None:
    """They are stored in one transaction, in as many statements as it takes."""
    store = small_packets.open()
    events = [user(text * 20_000, n) for n in range(60)]
    await store.append(await store.claim("a", 1, "x"), events)
    tracker = await store.retrieve_full_tracker("a")
    assert [event.as_dict() for event in tracker.events] == events


async def test_the_largest_event_that_fits(small_packets: Stores) -> None:
    """What is refused beforehand would not have fitted, or nearly so."""
    store = small_packets.open()
    claim = await store.claim("a", 1, "x")
    low, high = PACKET // 2, PACKET
    while high - low > 500:
        middle = (low + high) // 2
        try:
            await store.append(claim, [user("x" * middle, 1)])
            low = middle
        except InvalidEvent:
            high = middle
    assert low > PACKET - 5000


async def test_a_limit_that_is_lowered_meanwhile(small_packets: Stores) -> None:
    """Each connection has its own: an event that is too large for a new one is refused there."""
    store = small_packets.open()
    claim = await store.claim("a", 1, "x")
    await store.append(claim, [user("x" * 500_000, 1)])
    await execute(small_packets, "SET GLOBAL max_allowed_packet = 65536")
    await store._engine.dispose()
    with pytest.raises(InvalidEvent, match="max_allowed_packet of the server is 65536"):
        await store.append(claim, [user("x" * 500_000, 2)])
    await store.append(claim, [user("x" * 30_000, n) for n in range(9)])


async def test_packets_of_the_broker(small_packets: Stores) -> None:
    """What is too large is a dead letter at once; what comes with it is stored."""
    section = {key: value for key, value in small_packets.section.items() if key != "type"}
    broker = SQLEventBroker(**section)

    def message(text: str) -> BrokerMessage:
        return BrokerMessage.of_event({"sender_id": "a", **user(text, 1)})

    many = [message("x" * 100_000)] * 30
    outcomes = await broker.deliver([*many, message("x" * PACKET), message("after")])
    assert [outcome.status for outcome in outcomes] == [
        *(["delivered"] * 30), "poisoned", "delivered",
    ]  # fmt: skip
    assert "max_allowed_packet" in str(outcomes[30].reason)
    await broker.close()


async def test_packets_of_the_event_service(small_packets: Stores) -> None:
    """A batch of many large events is stored; one that is too large is kept with the rejects."""
    section = {key: value for key, value in small_packets.section.items() if key != "type"}
    database = SQLEventDatabase(Section(section, "event_service"))
    await database.open()

    def event(n: int, size: int) -> Received:
        return Received("a", 1, n, "user", 1.0, f'{{"text": "{"x" * size}"}}', "", "")

    done = await database.store([event(n, 100_000) for n in range(30)], [])
    assert done.stored == 30
    await execute(small_packets, "SET GLOBAL max_allowed_packet = 65536")
    await database._engine.dispose()  # type: ignore[union-attr]  # it is open
    done = await database.store([event(30, 20_000), event(31, 100_000)], [])
    assert (done.stored, done.rejected) == (1, 1)
    rejects = [Reject("no event", b"\xff" * 100_000, "digest", "queue q")]
    assert (await database.store([], rejects)).rejected == 1
    await database.close()


async def test_row_numbers_that_are_used_up(tracker_sections: Any) -> None:
    """An old table has 32 bits: an error at once that says what to change; it then goes on."""
    stores = await empty(tracker_sections, "postgres")
    store = stores.open()
    await store.connect()
    await execute(
        stores,
        "ALTER TABLE events ALTER id TYPE INTEGER",
        "ALTER SEQUENCE events_id_seq AS INTEGER RESTART WITH 2147483647",
    )
    claim = await store.claim("a", 1, "x")
    await store.append(claim, [user("last", 1)])
    with pytest.raises(TrackerStoreError, match="BIGINT") as error:
        await store.append(claim, [user("too late", 2)])
    assert not isinstance(error.value, TrackerStoreConnectionError)
    await execute(
        stores,
        "ALTER TABLE events ALTER id TYPE BIGINT",
        "ALTER SEQUENCE events_id_seq AS BIGINT MAXVALUE 9223372036854775807",
    )
    await store.append(claim, [user("again", 3)])  # also what was prepared before
    await stores.close()


@pytest.mark.parametrize("backend", ["postgres", "mariadb"])
async def test_a_changed_table_under_living_connections(
    tracker_sections: Any, backend: str
) -> None:
    """PostgreSQL refuses what was prepared before, on that connection for ever."""
    stores = await empty(tracker_sections, backend)
    store = stores.open()
    for n in range(1, 12):
        await store.append(await store.claim("a", n, "x"), [user("one", n)])
    await execute(
        stores,
        "ALTER TABLE ticketlock_conversations ADD COLUMN note TEXT",
        "ALTER TABLE events ADD COLUMN note TEXT",
    )
    if backend == "postgres":
        await execute(stores, "ALTER TABLE ticketlock_conversations ALTER fence TYPE NUMERIC")
    for n in range(12, 24):
        await store.append(await store.claim("a", n, "x"), [user("two", n)])
    assert len((await store.retrieve_full_tracker("a")).events) == 23
    await stores.close()


@pytest.mark.parametrize("module", [postgres, mariadb], ids=["postgres", "mariadb"])
def test_a_server_that_takes_no_more_connections(
    module: Any, run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so, and what to change; it is worth trying again."""

    async def body(section: dict[str, Any]) -> None:
        stores = Stores("x", section)
        async with stores.open() as store:
            await store.claim("a", 1, "x")
        few = stores.open()
        others = await take_all(stores)
        with pytest.raises(TrackerStoreConnectionError, match="takes no more connections") as error:
            await few.claim("a", 2, "x")
        assert "check url" not in str(error.value)
        for other in others:
            await other.dispose()
        await few.claim("a", 2, "x")
        await stores.close()

    with module.server() as login:
        if module is postgres:
            section = {"dialect": "postgresql", "db": "postgres"}
        else:
            asyncio.run(mariadb.create(login, "bots"))
            section = {"dialect": "mysql", "db": "bots"}
        run(body({"type": "sql", **section, **login}))


async def take_all(stores: Stores) -> list[Any]:
    """Open connections until the server has none left, also for administrators."""
    from sqlalchemy.pool import NullPool

    url = stores.open().settings.url
    engine = create_async_engine(url, poolclass=NullPool)
    taken: list[Any] = []
    while True:
        connection = engine.connect()
        try:
            await connection.start()
        except sa.exc.OperationalError:
            break
        taken.append(connection)

    class All:
        async def dispose(self) -> None:
            for one in taken:
                await one.close()

    return [All()]


async def test_more_turns_than_connections(tracker_sections: Any) -> None:
    """They wait for one; 150 at once are no trouble for two replicas and PostgreSQL's 100."""
    stores = await empty(tracker_sections, "postgres")
    replicas = [stores.open(), stores.open()]
    sizes = [replica.settings.pool_size + replica.settings.max_overflow for replica in replicas]
    assert 3 * sizes[0] <= 97  # so does a third replica, which is to replace one of them

    async def turn(n: int) -> None:
        replica = replicas[n % 2]
        await replica.append(await replica.claim(f"{n}", 1, "x"), [user("one", 1)])

    await asyncio.gather(*(turn(n) for n in range(150)))
    assert len(await replicas[0].keys()) == 150
    await stores.close()


async def test_a_pool_that_stays_empty(tracker_sections: Any) -> None:
    """The waiting ends after `pool_timeout`, in words that name what was waited for."""
    stores = await empty(tracker_sections, "postgres")
    store = stores.open(pool_size=1, max_overflow=1, pool_timeout=0.3)
    await store.connect()
    held = [await store._engine.connect() for _ in range(2)]
    with pytest.raises(TrackerStoreConnectionError, match="all connections of this process"):
        await store.claim("a", 1, "x")
    waiting = asyncio.create_task(stores.open(pool_size=1).claim("a", 1, "x"))
    for connection in held:
        await connection.close()
    await waiting
    await store.claim("a", 2, "x")
    await stores.close()


async def test_new_tables_count_in_64_bits(tracker_sections: Any) -> None:
    """2,147,483,647 events are not many for a table that is never emptied."""
    for backend, query in {
        "postgres": "SELECT data_type FROM information_schema.columns"
        " WHERE table_name = 'events' AND column_name = 'id'",
        "mariadb": "SELECT data_type FROM information_schema.columns WHERE table_schema ="
        " DATABASE() AND table_name = 'events' AND column_name = 'id'",
        "sqlite": "SELECT lower(type) FROM pragma_table_info('events') WHERE name = 'id'",
    }.items():
        stores = await empty(tracker_sections, backend)
        store = stores.open()
        await store.connect()
        kind = await store._read_only(lambda c, q=query: c.exec_driver_sql(q).scalar())
        assert kind == ("integer" if backend == "sqlite" else "bigint")
        await store.append(await store.claim("a", 1, "x"), [user("one", 1)])
        if backend == "sqlite":
            await store._write(lambda c: c.exec_driver_sql("UPDATE events SET id = 5000000000"))
            await store.append(await store.claim("b", 1, "x"), [user("one", 1)])
            found = await store._read_only(
                lambda c: c.exec_driver_sql("SELECT max(id) FROM events").scalar()
            )
            assert found == 5000000001
        await stores.close()


async def test_new_tables_of_the_broker(tracker_sections: Any) -> None:
    """64 bits too; and MySQL's TEXT, of 64 KiB, is not theirs."""
    for backend in ("postgres", "mariadb", "sqlite"):
        section = (await empty(tracker_sections, backend)).section
        broker = SQLEventBroker(**{k: v for k, v in section.items() if k != "type"})
        large = BrokerMessage.of_event({"sender_id": "a 🙂", **user("x" * 100_000 + "🙂", 1)})
        assert await broker.deliver([large]) == [DELIVERED]
        engine = engine_of(broker.settings.url)
        async with engine.connect() as connection:
            kinds = await connection.run_sync(
                lambda c: {x["name"]: x["type"] for x in sa.inspect(c).get_columns("events")}
            )
        await engine.dispose()
        assert isinstance(kinds["id"], sa.INTEGER if backend == "sqlite" else sa.BIGINT)
        await broker.close()


async def test_an_error_that_never_heals_over_http(small_packets: Stores) -> None:
    """The client is not told to send it again, and the next message is answered."""

    async def bot(turn: Any, message: Any) -> Any:
        if message.text == "large":
            turn.add(user("x" * PACKET, 2))
        yield "done"

    async with Conversations(InMemoryLockStore(), small_packets.open()) as conversations:
        app = create_app(conversations, bot=bot, settings=Settings())
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://bot") as http:

            async def send(text: str) -> httpx.Response:
                body = {"sender": "a", "message": text}
                return await http.post("/webhooks/rest/webhook", json=body)

            refused = await send("large")
            assert refused.status_code == 500
            assert "retry-after" not in refused.headers
            assert (await send("small")).json()[0]["text"] == "done"
