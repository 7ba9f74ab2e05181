"""The column of marks: in tables of older versions, without rights, and in one transaction."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
import sqlalchemy as sa
from contract_events import user
from integration.sql_stores import empty, execute
from servers.tracker_stores import Stores
from ticketlock.stores.sql import schema

from ticketlock.errors import TrackerStoreError

TABLE = schema.conversations.name
PASSWORD = "only-a-bot"


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def stores(request: pytest.FixtureRequest, tracker_sections: Any) -> Stores:
    return Stores(request.param, tracker_sections(request.param))


async def older(stores: Stores) -> None:
    """Make the tables as versions before 0.5.0 do, with a conversation of two events."""
    store = stores.open()
    claim = await store.claim("a", 1, "old")
    await store.append(claim, [user("one", 1), user("two", 2)])
    await execute(stores, f"ALTER TABLE {TABLE} DROP COLUMN mark")
    await stores.close()


async def has_column(stores: Stores) -> bool:
    store: Any = stores.open()

    def look(connection: sa.Connection) -> bool:
        return any(c["name"] == "mark" for c in sa.inspect(connection).get_columns(TABLE))

    return bool(await store._read_only(look))


async def test_the_first_claim_adds_the_column(stores: Stores) -> None:
    """Of many replicas that claim at once; none is refused, and no event is touched."""
    await older(stores)
    replicas = [stores.open() for _ in range(5)]
    claims = await asyncio.gather(
        *(replica.claim("ab"[i % 2], 2 + i, f"{i}") for i, replica in enumerate(replicas)),
        return_exceptions=True,
    )
    assert [c.mark for c in claims if not isinstance(c, Exception)].count("") >= 2
    claim = await replicas[0].claim("a", 9, "x")
    assert (claim.mark, claim.sequence) == ("", 2)
    await replicas[0].append(claim, [], "first")
    assert (await replicas[1].claim("a", 10, "x")).mark == "first"
    await stores.close()


async def test_who_only_reads_changes_no_table(stores: Stores) -> None:
    await older(stores)
    store = stores.open()
    assert await store.keys() == ["a"]
    assert len((await store.retrieve("a")).events) == 2  # type: ignore[union-attr]  # it is there
    assert not await has_column(stores)
    await stores.close()


@pytest.mark.parametrize("backend", ["postgres", "mariadb"])
async def test_a_user_who_may_not_add_it(
    backend: str, tracker_sections: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It goes on without marks, loses no event, and a WARNING has the statement to run."""
    stores = await empty(tracker_sections, backend)
    section = stores.section
    await older(stores)
    who = "marker" if backend == "postgres" else "marker@'%%'"
    if backend == "postgres":
        grants = [
            f"DROP ROLE IF EXISTS {who}", f"CREATE ROLE {who} LOGIN PASSWORD '{PASSWORD}'",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {who}",
            f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {who}",
        ]  # fmt: skip
    else:
        grants = [
            f"CREATE OR REPLACE USER {who} IDENTIFIED BY '{PASSWORD}'",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON `{section['db']}`.* TO {who}",
        ]
    await execute(stores, *grants)
    login = {**section, "username": "marker", "password": PASSWORD}
    login.pop("login_db", None)
    limited = Stores(backend, login)
    store = limited.open()
    with caplog.at_level(logging.WARNING, "ticketlock"):
        for fence in (2, 3):
            claim = await store.claim("a", fence, "x")
            assert claim.mark is None
            await store.append(claim, [user("more", fence)], "a mark")
    (said,) = [r.getMessage() for r in caplog.records if "marks" in r.getMessage()]
    (statement,) = [part for part in said.split("'") if part.startswith("ALTER TABLE")]
    assert PASSWORD not in said
    assert (await store.claim("a", 4, "x")).sequence == 4
    await limited.close()
    # The owner does as it says: then there are marks.
    await execute(stores, statement)
    store = limited.open()
    claim = await store.claim("a", 5, "x")
    assert claim.mark == ""
    await store.append(claim, [], "a mark")
    assert (await store.claim("a", 6, "x")).mark == "a mark"
    await limited.close()
    if backend == "postgres":
        await execute(stores, f"DROP OWNED BY {who}", f"DROP ROLE {who}")
    await stores.close()


#: What refuses an event, or a mark, in the database itself.
REFUSALS = {
    "event": {
        "sqlite": "CREATE TRIGGER no BEFORE INSERT ON events WHEN NEW.intent_name = 'refused' "
        "BEGIN SELECT RAISE(ABORT, 'refused'); END",
        "other": "ALTER TABLE events ADD CHECK (intent_name <> 'refused')",
    },
    "mark": {
        "sqlite": f"CREATE TRIGGER no BEFORE UPDATE ON {TABLE} WHEN NEW.mark = '\"refused\"' "
        "BEGIN SELECT RAISE(ABORT, 'refused'); END",
        "other": f"ALTER TABLE {TABLE} ADD CHECK (mark <> '\"refused\"')",
    },
}


@pytest.mark.parametrize("what", REFUSALS)
async def test_events_and_mark_are_one_transaction(stores: Stores, what: str) -> None:
    """If the database refuses either, neither is stored."""
    store = stores.open()
    claim = await store.claim("a", 1, "x")
    await store.append(claim, [user("one", 1)], "first")
    await execute(stores, REFUSALS[what].get(stores.backend) or REFUSALS[what]["other"])
    bad = user("two", 2)
    bad["parse_data"] = {"intent": {"name": "refused" if what == "event" else "greet"}}
    for _ in range(2):
        with pytest.raises(TrackerStoreError):
            await store.append(claim, [user("good", 2), bad], "refused")
    found = await store.claim("a", 2, "x")
    assert (found.mark, found.sequence, len(found.tracker.events)) == ("first", 1, 1)
    await store.append(found, [user("good", 2)], "second")
    found = await store.claim("a", 3, "x")
    assert (found.mark, found.sequence) == ("second", 2)
    await stores.close()


async def test_a_mark_costs_no_statement(tracker_sections: Any) -> None:
    """Those of `test_what_a_turn_costs`, with a mark in them; a claim's commit does not wait for
    the disk, which a PRAGMA says where the connection was used otherwise before.
    """
    stores = Stores("sqlite", tracker_sections("sqlite"))
    store: Any = stores.open()
    claim = await store.claim("a", 1, "x")
    await store.append(claim, [user("one", 1)])
    said: list[str] = []

    @sa.event.listens_for(store._engine._engine, "checkout")
    def trace(connection: Any, *_: Any) -> None:
        connection.set_trace_callback(lambda text: said.append(text.split()[0]))

    claim = await store.claim("a", 2, "x")
    assert said == ["PRAGMA", "BEGIN", "INSERT", "SELECT", "COMMIT"]
    said.clear()
    await store.append(claim, [user("two", 2)], "a mark")
    assert said == ["PRAGMA", "BEGIN", "INSERT", "UPDATE", "COMMIT"]
    said.clear()
    assert (await store.claim("a", 3, "x")).mark == "a mark"
    assert said == ["PRAGMA", "BEGIN", "INSERT", "SELECT", "COMMIT"]
    await stores.close()
