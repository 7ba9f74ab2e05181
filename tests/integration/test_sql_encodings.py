"""Characters that a column, a table or a whole database cannot hold."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from contract_events import slot, user
from integration.sql_stores import empty, execute
from servers.tracker_stores import Stores

from ticketlock import InMemoryLockStore
from ticketlock.conversations import Conversations
from ticketlock.errors import TrackerStoreConnectionError, TrackerStoreError
from ticketlock.server.errors import headers

#: Tables of another program, by their character sets.
NARROW = ("latin1", "utf8mb3")

TABLE = """CREATE TABLE events (id INTEGER NOT NULL AUTO_INCREMENT PRIMARY KEY,
 sender_id VARCHAR(255) NOT NULL, type_name VARCHAR(255) NOT NULL, timestamp FLOAT,
 intent_name VARCHAR(255), action_name VARCHAR(255), data LONGTEXT) CHARACTER SET {}"""


@pytest.mark.parametrize("charset", NARROW)
async def test_characters_that_a_column_for_searching_lacks(
    tracker_sections: Any, charset: str
) -> None:
    """The event is stored as it is; the column has what it can hold of the name."""
    stores = await empty(tracker_sections, "mariadb")
    await execute(stores, TABLE.format(charset))
    store = stores.open()
    events = [slot("mood 🙂", "🙂"), slot("größe", 1)]
    await store.append(await store.claim("a", 1, "x"), events)
    tracker = await store.retrieve_full_tracker("a")
    assert [event.as_dict() for event in tracker.events] == events
    async with store._engine.connect() as connection:
        names = await connection.exec_driver_sql("SELECT action_name FROM events ORDER BY id")
        assert list(names.scalars()) == ["mood ?", "größe"]
    await stores.close()


def encoded(section: dict[str, Any], encoding: str) -> Stores:
    """Stores on a new PostgreSQL database with another encoding than UTF8."""
    name = f"{section['db']}-{encoding}"
    with psycopg.connect(
        host=section["url"], port=section["port"], user=section["username"],
        password=section["password"], dbname="postgres", autocommit=True,
    ) as connection:  # fmt: skip
        connection.execute(
            f"CREATE DATABASE \"{name}\" ENCODING {encoding} LOCALE 'C' TEMPLATE template0".encode()
        )
    return Stores("postgres", {**section, "db": name})


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "EUC_JP"])
async def test_characters_that_a_postgresql_lacks(tracker_sections: Any, encoding: str) -> None:
    """The same where the whole database has another encoding."""
    stores = encoded(tracker_sections("postgres"), encoding)
    store = stores.open()
    events = [slot("mood 🙂", "🙂"), slot("größe", 1)]
    await store.append(await store.claim("a", 1, "x"), events)
    tracker = await store.retrieve_full_tracker("a")
    assert [event.as_dict() for event in tracker.events] == events
    await stores.close()


async def test_an_id_that_a_postgresql_lacks(tracker_sections: Any) -> None:
    """An error at once that says what to change; other conversations go on."""
    stores = encoded(tracker_sections("postgres"), "LATIN1")
    store = stores.open()
    with pytest.raises(TrackerStoreError, match="encoding UTF8") as error:
        await store.claim("anna 🙂", 1, "x")
    assert not isinstance(error.value, TrackerStoreConnectionError)
    await store.append(await store.claim("größe", 1, "x"), [user("one", 1)])
    assert await store.keys() == ["größe"]
    await stores.close()


@pytest.mark.parametrize("charset", NARROW)
async def test_an_id_that_the_table_cannot_hold(tracker_sections: Any, charset: str) -> None:
    """There is no way to store it: an error at once that says what to change."""
    stores = await empty(tracker_sections, "mariadb")
    await execute(stores, TABLE.format(charset))
    store = stores.open()
    async with Conversations(InMemoryLockStore(), store) as conversations:
        for _ in range(2):
            with pytest.raises(TrackerStoreError, match="utf8mb4") as error:
                async with conversations.turn("anna 🙂", 60) as turn:
                    turn.add(user("one", 1))
            assert not isinstance(error.value, TrackerStoreConnectionError)
            assert "retry-after" not in headers(error.value)
    await stores.close()
