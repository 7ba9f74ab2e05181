"""Bare drivers that do a turn's writes: a claim and its commit, then the events and theirs.

No lock, no fence that anybody compares, no retry, no outbox: what the databases cost by themselves.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from itertools import count
from typing import Any

import aiosqlite
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


class SQL:
    """aiosqlite on one connection, psycopg on one for each task."""

    def __init__(self, section: Mapping[str, Any]) -> None:
        self._section = section
        self._postgres = section.get("dialect") == "postgresql"
        self._free: asyncio.LifoQueue[Any] = asyncio.LifoQueue()
        self._fences = count(1)

    async def open(self, tasks: int) -> None:
        for _ in range(tasks if self._postgres else 1):
            self._free.put_nowait(await self._connect())
        kind = "BIGSERIAL PRIMARY KEY" if self._postgres else "INTEGER PRIMARY KEY"
        for statement in TABLES:
            await self._run([(statement.replace("{id}", kind), ())])

    async def _connect(self) -> Any:
        login = self._section
        if not self._postgres:
            connection = await aiosqlite.connect(login["db"] + ".bare", isolation_level=None)
            await connection.execute("PRAGMA journal_mode = WAL")
            return connection
        return await psycopg.AsyncConnection.connect(
            host=login["url"], port=login["port"], user=login["username"],
            password=login["password"], dbname="postgres", autocommit=True,
        )  # fmt: skip

    async def _run(self, statements: list[tuple[str, tuple[Any, ...]]]) -> list[Any]:
        connection = await self._free.get()
        begin = "BEGIN" if self._postgres else "BEGIN IMMEDIATE"
        rows: list[Any] = []
        for text, values in [(begin, ()), *statements, ("COMMIT", ())]:
            text = text.replace("?", "%s") if self._postgres else text
            cursor = await connection.execute(text, values)
            if text.startswith("SELECT"):
                rows = await cursor.fetchall()
            await cursor.close()
        self._free.put_nowait(connection)
        return rows

    async def turn(self, sender_id: str, events: Events) -> None:
        fence = next(self._fences)
        rows = await self._run([(CLAIM, (sender_id, fence)), (READ, (sender_id,))])
        [json.loads(data) for (data,) in rows]
        inserts: list[tuple[str, tuple[Any, ...]]] = [
            (INSERT, (sender_id, e["event"], e["timestamp"], None, None, json.dumps(e)))
            for e in events
        ]
        await self._run([*inserts, (WRITE, (sender_id, fence))])

    async def close(self) -> None:
        while not self._free.empty():
            await self._free.get_nowait().close()


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
BARE: dict[str, Any] = {"sqlite": SQL, "postgres": SQL, "redis": Redis, "mongo": Mongo}
