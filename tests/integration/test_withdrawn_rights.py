"""A right that is taken away from the store's user: no waiting brings it back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from contract_events import user
from redis import Redis
from sqlalchemy.ext.asyncio import create_async_engine

from ticketlock import InMemoryLockStore
from ticketlock.conversations import Conversations
from ticketlock.endpoints.registry import create_tracker_store
from ticketlock.errors import TrackerStoreConnectionError, TrackerStoreError
from ticketlock.server.errors import headers

Order = Callable[[str], None]
PASSWORD = "only-a-bot"


def redis_user(section: dict[str, Any]) -> tuple[dict[str, Any], Order, str]:
    def order(words: str) -> None:
        with Redis(port=section["port"]) as admin:
            admin.execute_command(*words.split())

    order(f"ACL SETUSER bot on >{PASSWORD} ~* &* +@all")
    return {**section, "username": "bot", "password": PASSWORD}, order, "ACL SETUSER bot -evalsha"


def sql_user(section: dict[str, Any]) -> tuple[dict[str, Any], Order, str]:
    postgres = section["dialect"] == "postgresql"
    table = "events" if postgres else f"`{section['db']}`.events"
    who = "bot" if postgres else "bot@'%%'"
    admin = create_tracker_store(section)

    async def run(statement: str) -> None:
        engine = create_async_engine(admin.settings.url, isolation_level="AUTOCOMMIT")
        async with engine.connect() as connection:
            await connection.exec_driver_sql(statement)
        await engine.dispose()

    def order(statement: str) -> None:
        asyncio.run(run(statement))

    async def make() -> None:
        async with admin:
            pass  # makes the tables

    asyncio.run(make())
    if postgres:
        order("DROP ROLE IF EXISTS bot")
        order(f"CREATE ROLE bot LOGIN PASSWORD '{PASSWORD}'")
        order("GRANT ALL ON ALL TABLES IN SCHEMA public TO bot")
        order("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO bot")
    else:
        order(f"CREATE OR REPLACE USER {who} IDENTIFIED BY '{PASSWORD}'")
        for name in ("events", "ticketlock_conversations", "ticketlock_dead_letters"):
            order(f"GRANT ALL ON `{section['db']}`.{name} TO {who}")
    login = {**section, "username": "bot", "password": PASSWORD}
    login.pop("login_db", None)
    return login, order, f"REVOKE INSERT ON {table} FROM {who}"


@pytest.mark.parametrize("backend", ["redis", "postgres", "mariadb"])
def test_a_right_that_is_taken_away(
    tracker_sections: Any, run: Callable[..., None], backend: str
) -> None:
    """An error at once, in words; not answered as an outage; and the conversation is free."""
    make = redis_user if backend == "redis" else sql_user
    section, order, revoke = make(tracker_sections(backend))

    async def body() -> None:
        store = create_tracker_store(section)
        async with Conversations(InMemoryLockStore(), store) as conversations:
            async with conversations.turn("a") as turn:
                turn.add(user("one", 1))
            for _ in range(2):
                with pytest.raises(TrackerStoreError, match=r"rights|let the user") as error:
                    async with conversations.turn("a", 60) as turn:
                        turn.add(user("two", 2))
                        await asyncio.to_thread(order, revoke)
                assert not isinstance(error.value, TrackerStoreConnectionError)
                assert "retry-after" not in headers(error.value)

    run(body())
    if backend == "postgres":
        order("DROP OWNED BY bot")
        order("DROP ROLE bot")
