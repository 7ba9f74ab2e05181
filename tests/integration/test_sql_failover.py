"""A failover that keeps connections: behind them is a server that takes no writes any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from contract_events import user
from servers import mariadb, postgres
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from ticketlock.brokers.sql.broker import SQLEventBroker
from ticketlock.stores.event_service.database import SQLEventDatabase
from ticketlock.stores.sql import SQLTrackerStore, schema

from ticketlock import InMemoryLockStore
from ticketlock.conversations import Conversations
from ticketlock.endpoints.registry import create_tracker_store
from ticketlock.errors import TrackerStoreConnectionError
from ticketlock.event_service.database import EventDatabaseError
from ticketlock.event_service.records import Received
from ticketlock.publishing.message import DELIVERED, BrokerMessage
from ticketlock.server import Settings, create_app
from ticketlock.settings.section import Section
from ticketlock.stress.proxy import Proxy

BACKENDS = {"postgres": postgres, "mariadb": mariadb}
#: An ordinary user: one who may do everything may also write to a MariaDB that is read-only.
LOGIN = {"username": "bot", "password": "only a bot"}


def section_of(backend: str, login: dict[str, Any]) -> dict[str, Any]:
    if backend == "postgres":
        return {"type": "sql", "dialect": "postgresql", "db": "postgres", **login}
    return {"type": "sql", "dialect": "mysql", "db": "bots", **login}


class Pair:
    """A primary with a second server of the same data, and a proxy that leads to one of them.

    Attributes:
        section: of a tracker store that goes through the proxy.
    """

    def __init__(self, backend: str, login: dict[str, Any]) -> None:
        self.backend = backend
        self._old = login
        self._new: dict[str, Any] | None = None
        self._stack = AsyncExitStack()
        self.proxy = Proxy(login["port"])

    async def __aenter__(self) -> Pair:
        if self.backend == "mariadb":
            await asyncio.to_thread(self._create, self._old)
        await self._run(self._old, *self._statements())
        await self._stack.enter_async_context(self.proxy)
        login = {**self._old, **LOGIN, "port": self.proxy.port}
        self.section = section_of(self.backend, login)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @staticmethod
    def _create(login: dict[str, Any]) -> None:
        asyncio.run(mariadb.create(login, "bots"))

    def _statements(self) -> list[str]:
        if self.backend == "postgres":
            return ["CREATE ROLE bot LOGIN PASSWORD 'only a bot'",
                    "GRANT ALL ON SCHEMA public TO bot"]  # fmt: skip
        return ["CREATE USER bot@'%%' IDENTIFIED BY 'only a bot'",
                "GRANT ALL ON bots.* TO bot@'%%'"]  # fmt: skip

    def _engine(self, login: dict[str, Any]) -> AsyncEngine:
        section = section_of(self.backend, login)
        del section["type"]
        url = SQLTrackerStore(**section).settings.url
        return create_async_engine(url, isolation_level="AUTOCOMMIT")

    async def _run(self, login: dict[str, Any], *statements: str) -> None:
        """Run statements of an administrator, each by itself."""
        engine = self._engine(login)
        async with engine.connect() as connection:
            for statement in statements:
                await connection.exec_driver_sql(statement)
        await engine.dispose()

    async def read_only(self, on: bool = True) -> None:
        """What happens to the primary; its connections live."""
        if self.backend == "postgres":
            await self._run(self._old, f"ALTER SYSTEM SET default_transaction_read_only = {on}")
            await asyncio.to_thread(postgres.reload, self._old)
        else:
            await self._run(self._old, f"SET GLOBAL read_only = {int(on)}")

    async def begin_second(self) -> None:
        """Start the server that is to take over, with the data."""
        if self.backend == "postgres":
            self._new = await asyncio.to_thread(
                self._stack.enter_context, postgres.standby(self._old)
            )
            return
        self._new = await asyncio.to_thread(self._stack.enter_context, mariadb.server())
        await asyncio.to_thread(self._create, self._new)
        await self._run(self._new, *self._statements())
        section = section_of("mariadb", self._new)
        del section["type"]
        async with SQLTrackerStore(**section):
            pass  # makes the tables
        old, new = self._engine(self._old), self._engine(self._new)
        async with old.connect() as there, new.connect() as here:
            for table in (schema.events, schema.conversations):
                for row in (await there.execute(sa.select(table))).mappings():
                    # The driver gives bytes that it does not take.
                    await here.execute(
                        sa.insert(table), {**row, "sender_id": schema.text(row["sender_id"])}
                    )
        await old.dispose()
        await new.dispose()

    async def fail_over(self) -> None:
        """Promote the second server; new connections lead there, the old ones live."""
        assert self._new is not None
        await self.read_only()
        if self.backend == "postgres":
            await self._run(self._new, "SELECT pg_promote()",
                            "ALTER SYSTEM RESET default_transaction_read_only")  # fmt: skip
            await asyncio.to_thread(postgres.reload, self._new)
        self.proxy.target = self._new["port"]


@pytest.fixture(params=list(BACKENDS))
def primary(request: pytest.FixtureRequest) -> Iterator[tuple[str, dict[str, Any]]]:
    """A server of its own: what is changed is global."""
    with BACKENDS[request.param].server() as login:
        yield request.param, login


async def turn(conversations: Conversations, sender_id: str, n: int) -> None:
    async with conversations.turn(sender_id) as one:
        one.add(user(f"{n}", n))


async def test_turns_go_on_after_a_failover(primary: tuple[str, dict[str, Any]]) -> None:
    """The connections live, and lead to a server that takes no writes: all are left."""
    async with Pair(*primary) as pair:
        async with Conversations(
            InMemoryLockStore(), create_tracker_store(pair.section)
        ) as conversations:
            senders = [f"{n}" for n in range(20)]
            # More than one connection of the pool is alive, and used by now.
            await asyncio.gather(*(turn(conversations, sender, 1) for sender in senders))
            await pair.begin_second()
            used = pair.proxy.accepted
            await pair.fail_over()
            for n in range(2, 5):
                await asyncio.gather(*(turn(conversations, sender, n) for sender in senders))
            assert pair.proxy.accepted > used
            for sender in senders:
                tracker = await conversations.tracker_store.retrieve_full_tracker(sender)
                assert [event.timestamp for event in tracker.events] == [1, 2, 3, 4]


async def test_ready_says_that_nothing_can_be_written(
    primary: tuple[str, dict[str, Any]],
) -> None:
    """While there is only a read-only server `/ready` is 503 and a turn an error of the
    connection, to be sent again; both are well again by themselves.
    """
    async with Pair(*primary) as pair:
        store = create_tracker_store(pair.section)
        async with Conversations(InMemoryLockStore(), store) as conversations:
            app = create_app(conversations, settings=Settings())
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://bot") as http:
                await turn(conversations, "a", 1)
                assert (await http.get("/ready")).status_code == 200
                await pair.read_only()
                await until_status(http, 503)
                found = (await http.get("/ready")).json()["problems"]
                assert found == {"tracker_store": "TrackerStoreConnectionError"}
                with pytest.raises(TrackerStoreConnectionError, match="new primary"):
                    await store.claim("a", 1000, "x")
                await pair.read_only(False)
                await until_status(http, 200)
                await turn(conversations, "a", 2)


async def until_status(http: httpx.AsyncClient, status: int) -> None:
    end = time.monotonic() + 20
    while (await http.get("/ready")).status_code != status:
        assert time.monotonic() < end, f"/ready does not become {status}"
        await asyncio.sleep(0.1)


async def test_a_store_that_starts_on_a_read_only_server(
    primary: tuple[str, dict[str, Any]],
) -> None:
    """It says so, and what to look at."""
    async with Pair(*primary) as pair:
        async with create_tracker_store(pair.section):
            pass  # makes the tables
        await pair.read_only()
        async with create_tracker_store(pair.section) as store:
            with pytest.raises(TrackerStoreConnectionError, match="new primary"):
                await store.check_ready()


async def test_the_broker_and_the_service_go_on(primary: tuple[str, dict[str, Any]]) -> None:
    """Their connections are left as well."""
    async with Pair(*primary) as pair:
        section = {key: value for key, value in pair.section.items() if key != "type"}
        broker = SQLEventBroker(**section)
        database = SQLEventDatabase(Section(dict(section), "event_service"))
        message = BrokerMessage.of_event({"sender_id": "a", **user("x", 1)})

        def event(n: int) -> Received:
            return Received("a", 1, n, "user", 1.0, "{}", "", "")

        assert await broker.deliver([message]) == [DELIVERED]
        await database.open()
        assert (await database.store([event(0)], [])).stored == 1
        await pair.read_only()
        (refused,) = await broker.deliver([message])
        assert refused.status == "retry"
        with pytest.raises(EventDatabaseError) as error:
            await database.store([event(1)], [])
        assert error.value.again
        used = pair.proxy.accepted
        await pair.read_only(False)
        assert await broker.deliver([message]) == [DELIVERED]
        assert (await database.store([event(1)], [])).stored == 1
        assert pair.proxy.accepted > used
        await broker.close()
        await database.close()
