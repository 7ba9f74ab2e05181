"""Bare drivers that do a turn's writes: a claim, a read, two events, and the new state.

No lock, no fence that anybody compares, no retry, no outbox: what the databases cost by themselves.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Mapping
from itertools import count
from typing import Any

import aiomysql
import psycopg
import redis.asyncio
from pymongo import AsyncMongoClient

Events = list[dict[str, Any]]
TABLES = (
    """CREATE TABLE IF NOT EXISTS bare_events (
        id {id}, sender_id VARCHAR(255) NOT NULL, type_name VARCHAR(255), timestamp FLOAT,
        intent_name VARCHAR(255), action_name VARCHAR(255), data TEXT)""",
    "CREATE INDEX IF NOT EXISTS bare_by_sender ON bare_events (sender_id, id)",
    """CREATE TABLE IF NOT EXISTS bare_conversations (
        sender_id VARCHAR(255) PRIMARY KEY, fence BIGINT, sequence BIGINT)""",
)
CLAIM = (
    "INSERT INTO bare_conversations VALUES (?, ?, 0)"
    " ON CONFLICT (sender_id) DO UPDATE SET fence = excluded.fence"
)
READ = "SELECT data FROM bare_events WHERE sender_id = ? ORDER BY id"
INSERT = (
    "INSERT INTO bare_events (sender_id, type_name, timestamp, intent_name, action_name, data)"
    " VALUES (?, ?, ?, ?, ?, ?)"
)
WRITE = "UPDATE bare_conversations SET sequence = sequence + 2 WHERE sender_id = ? AND fence = ?"


class SQLite:
    """sqlite3, called in one thread: a commit for the claim, and one for the write."""

    def __init__(self, section: Mapping[str, Any]) -> None:
        self._connection = sqlite3.connect(section["db"] + ".bare", isolation_level=None)
        self._fences = count(1)

    async def open(self, tasks: int) -> None:
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        for statement in TABLES:
            self._connection.execute(statement.replace("{id}", "INTEGER PRIMARY KEY"))

    async def turn(self, sender_id: str, events: Events) -> None:
        run, fence = self._connection.execute, next(self._fences)
        run("BEGIN IMMEDIATE")
        run(CLAIM, (sender_id, fence))
        [json.loads(data) for (data,) in run(READ, (sender_id,))]
        run("COMMIT")
        run("BEGIN IMMEDIATE")
        for event in events:
            run(INSERT, _row(sender_id, event))
        run(WRITE, (sender_id, fence))
        run("COMMIT")

    async def close(self) -> None:
        self._connection.close()


class Server:
    """A connection for each task, and one transaction for the whole turn."""

    #: Where they differ from SQLite's.
    id, claim = "", CLAIM

    def __init__(self, section: Mapping[str, Any]) -> None:
        self._section = section
        self._free: asyncio.LifoQueue[Any] = asyncio.LifoQueue()
        self._fences = count(1)

    async def open(self, tasks: int) -> None:
        for _ in range(tasks):
            self._free.put_nowait(await self._connect())
        connection = await self._free.get()
        for statement in TABLES:
            await self._run(connection, statement.replace("{id}", self.id))
        self._free.put_nowait(connection)

    async def turn(self, sender_id: str, events: Events) -> None:
        connection, fence = await self._free.get(), next(self._fences)
        await self._run(connection, "BEGIN")
        await self._run(connection, self.claim, (sender_id, fence))
        [json.loads(data) for (data,) in await self._run(connection, READ, (sender_id,))]
        for event in events:
            await self._run(connection, INSERT, _row(sender_id, event))
        await self._run(connection, WRITE, (sender_id, fence))
        await self._run(connection, "COMMIT")
        self._free.put_nowait(connection)

    async def close(self) -> None:
        while not self._free.empty():
            await self._end(self._free.get_nowait())

    async def _connect(self) -> Any:
        raise NotImplementedError

    async def _run(self, connection: Any, text: str, values: tuple[Any, ...] = ()) -> Any:
        """Execute a statement, and return its rows if it has some."""
        raise NotImplementedError

    async def _end(self, connection: Any) -> None:
        raise NotImplementedError


class PostgreSQL(Server):
    """psycopg, which prepares what it repeats."""

    id = "BIGSERIAL PRIMARY KEY"

    async def _connect(self) -> Any:
        login = self._section
        return await psycopg.AsyncConnection.connect(
            host=login["url"], port=login["port"], user=login["username"],
            password=login["password"], dbname="postgres", autocommit=True,
        )  # fmt: skip

    async def _run(self, connection: Any, text: str, values: tuple[Any, ...] = ()) -> Any:
        cursor = await connection.execute(text.replace("?", "%s"), values)
        return await cursor.fetchall() if cursor.description else []

    async def _end(self, connection: Any) -> None:
        await connection.close()


class MariaDB(Server):
    """aiomysql."""

    id = "BIGINT AUTO_INCREMENT PRIMARY KEY"
    claim = "INSERT INTO bare_conversations VALUES (?, ?, 0) ON DUPLICATE KEY UPDATE fence = VALUES(fence)"

    async def _connect(self) -> Any:
        login = self._section
        return await aiomysql.connect(
            host=login["url"], port=login["port"], user=login["username"],
            password=login["password"], db=login["db"], autocommit=True,
        )  # fmt: skip

    async def _run(self, connection: Any, text: str, values: tuple[Any, ...] = ()) -> Any:
        cursor = await connection.cursor()
        await cursor.execute(text.replace("?", "%s"), values)
        return await cursor.fetchall()

    async def _end(self, connection: Any) -> None:
        connection.close()


def _row(sender_id: str, event: dict[str, Any]) -> tuple[Any, ...]:
    return (sender_id, event["event"], event["timestamp"], None, None, json.dumps(event))


class Redis:
    """redis-py's pipelines of two: the claim and the read, then the write."""

    def __init__(self, section: Mapping[str, Any]) -> None:
        self._client = redis.asyncio.Redis(port=section["port"], max_connections=1000)
        self._fences = count(1)
        self._sequences: dict[str, int] = {}

    async def open(self, tasks: int) -> None:
        await self._client.ping()

    async def turn(self, sender_id: str, events: Events) -> None:
        key, first = f"bare:{sender_id}", self._sequences.get(sender_id, 0)
        async with self._client.pipeline() as pipe:
            pipe.hset(key, mapping={"fence": next(self._fences), "owner": "bench"})
            pipe.hmget(key, *range(first) or ["none"])
            _, found = await pipe.execute()
        [json.loads(data) for data in found if data]
        fields: dict[Any, Any] = {
            str(first + i): json.dumps(event) for i, event in enumerate(events)
        }
        self._sequences[sender_id] = first + len(events)
        await self._client.hset(key, mapping={**fields, "sequence": str(first + len(events))})

    async def close(self) -> None:
        await self._client.aclose()


class Mongo:
    """PyMongo: find and update for the claim, an update that pushes for the write."""

    def __init__(self, section: Mapping[str, Any]) -> None:
        self._client: Any = AsyncMongoClient(section["url"])
        self._conversations = self._client["bare"]["conversations"]
        self._fences = count(1)

    async def open(self, tasks: int) -> None:
        await self._conversations.create_index("sender_id", unique=True)

    async def turn(self, sender_id: str, events: Events) -> None:
        one, fence = {"sender_id": sender_id}, next(self._fences)
        await self._conversations.find_one_and_update(one, {"$set": {"fence": fence}}, upsert=True)
        write = {"$push": {"events": {"$each": events}}, "$inc": {"sequence": len(events)}}
        await self._conversations.update_one({**one, "fence": fence}, write)

    async def close(self) -> None:
        await self._client.close()


#: As in tests/servers/tracker_stores.py.
BARE: dict[str, Any] = {
    "sqlite": SQLite, "postgres": PostgreSQL, "mariadb": MariaDB, "redis": Redis, "mongo": Mongo
}  # fmt: skip
