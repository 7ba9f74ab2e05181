"""Events as older programs have stored them, put where each backend keeps them.

Each line of `PLANT` takes a section, a conversation id and events; what is no text is stored as
the driver stores it. `TEAR` leaves something there that is no history.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import sqlalchemy as sa
from boto3.dynamodb.types import Binary
from bson import Decimal128, ObjectId, Regex
from pymongo import MongoClient

from servers.documented import _redis, _table, _write_dynamo, _write_mongo
from ticketlock.endpoints.registry import create_tracker_store

Section = Mapping[str, Any]

USER = {"event": "user", "timestamp": 1.0, "text": "hello", "metadata": {}, "parse_data": {}}

#: JSON as Python's `json` writes and reads it, though JSON has none of it; and what others write.
TEXTS = [
    json.dumps({**USER, "parse_data": {"intent": {"name": "greet", "confidence": float("nan")}}}),
    json.dumps({"event": "slot", "timestamp": float("inf"), "name": "n", "value": float("-inf")}),
    json.dumps({"event": "bot", "timestamp": 2.0, "text": "half \ud83d of it", "data": {}}),
    json.dumps({"event": "slot", "timestamp": 3.0, "name": "\udc00", "value": {"\ud800": 1}}),
    '{"event": "slot", "timestamp": 4.0, "name": "deep", "value": ' + "[" * 960 + "]" * 960 + "}",
    '{"event": "slot", "timestamp": 4.0, "name": "d", "value": ' + '{"a":' * 5000 + '"[{"' + "}" * 5001,
    '{"event": "slot", "timestamp": 1e999, "name": "large", "value": [-1e999, 1e400]}',
    '{"event": "slot", "timestamp": 5.0, "name": "long", "value": ' + "9" * 5000 + "}",
    '{"event": "slot", "timestamp": 6.0, "name": ["no", "name"], "value": 1}',
    '{"event": "entities", "timestamp": 7.0, "entities": 5}',
    '{"event": "user", "timestamp": 8.0, "text": 5, "parse_data": {"entities": 5, "intent": 7}}',
    '{"event": "bot", "timestamp": 9.0, "text": ["not", "text"], "data": 3, "metadata": []}',
    '{"event": "action", "timestamp": 9.5, "name": {"no": "name"}}',
]  # fmt: skip

#: The same for BSON, which has types of its own.
DOCUMENTS: list[dict[str, Any]] = [
    {**USER, "timestamp": datetime(2020, 1, 2, 3, 4, 5, tzinfo=timezone.utc)},
    {"event": "slot", "timestamp": 2.0, "name": "n", "value": [float("nan"), float("inf")]},
    {"event": "slot", "timestamp": 3.0, "name": "id", "value": ObjectId(b"0" * 12)},
    {"event": "slot", "timestamp": 3.0, "name": "price", "value": Decimal128("1.10")},
    {"event": "slot", "timestamp": 3.0, "name": "nan", "value": Decimal128("NaN")},
    {"event": "slot", "timestamp": 3.0, "name": "blob", "value": {"x": b"\x00\xff"}},
    {"event": "slot", "timestamp": 3.0, "name": "regex", "value": Regex("a.*")},
]
ITEMS: list[dict[str, Any]] = [
    USER,
    {"event": "slot", "timestamp": 3.0, "name": "blob", "value": [Binary(b"\x00\xff")]},
    {"event": "slot", "timestamp": 3.0, "name": "set", "value": {"a"}},
    {"event": "slot", "timestamp": 3.0, "name": ["no", "name"], "value": 1},
]


#: What SQLite keeps as text besides: bytes that are no UTF-8.
NO_UTF8 = {"sender": b"\xff", "data": b'{"event": "slot", "name": "\xff", "value": 1}'}


def plant_no_utf8(section: Section) -> None:
    """One such conversation, and one with such an event."""
    statement = (
        "INSERT INTO events (sender_id, type_name, timestamp, data) VALUES "
        "(CAST(:sender AS TEXT), 'slot', 1, '{\"event\": \"x\"}'),"
        "('old', 'slot', 1, CAST(:data AS TEXT))"
    )
    asyncio.run(_execute(section, statement, [NO_UTF8]))


async def _execute(section: Section, statement: str, rows: Sequence[Mapping[str, Any]]) -> None:
    async with create_tracker_store(dict(section)) as store:
        store.connect  # noqa: B018  # the tables are made on entering
        await store._write(lambda connection: connection.execute(sa.text(statement), rows))  # type: ignore[attr-defined]


def _rows(section: Section, sender_id: str, texts: Sequence[str]) -> None:
    statement = "INSERT INTO events (sender_id, type_name, timestamp, data) VALUES (:sender, 'user', 1, :data)"
    rows = [{"sender": sender_id, "data": text} for text in texts]
    asyncio.run(_execute(section, statement, rows))


def _value(section: Section, sender_id: str, texts: Sequence[str]) -> None:
    with _redis(section) as client:
        value = f'{{"name": "{sender_id}", "events": [{", ".join(texts)}]}}'
        client.set(f"{section['key_prefix']}:tracker:{sender_id}", value)


def _hash(section: Section, sender_id: str) -> None:
    """A hash of ours that has lost a field."""
    with _redis(section) as client:
        key = f"{section['key_prefix']}:tracker:{{{sender_id}}}:events"
        fields = {"sequence": 2, "first": 0, "session": 0, "fence": 0, "owner": "", "born": 1}
        client.hset(key, mapping={**fields, "latest": "1.0", "0": json.dumps(USER)})


def _document(section: Section, sender_id: str) -> None:
    with MongoClient[dict[str, Any]](section["url"]) as client:
        head = {"_id": sender_id, "latest": 1.0, "fence": 0, "owner": ""}
        client[section["db"]]["conversations_current"].insert_one(head)


def _item(section: Section, sender_id: str) -> None:
    _write_dynamo(section, sender_id, [])
    with _table(section) as table:
        table.put_item(Item={"sender_id": sender_id, "events": ["no event"]})


def _native_items(section: Section, sender_id: str, events: Sequence[Any]) -> None:
    _write_dynamo(section, sender_id, [])
    exact = [
        json.loads(json.dumps(e, default=_mark), object_hook=_unmark, parse_float=_number)
        for e in events
    ]
    with _table(section) as table:
        table.put_item(Item={"sender_id": sender_id, "name": sender_id, "events": exact})


def _mark(value: Any) -> Any:
    return {"!set": sorted(value)} if isinstance(value, set) else {"!bytes": value.value.hex()}


def _unmark(value: dict[str, Any]) -> Any:
    if "!set" in value:
        return set(value["!set"])
    return bytes.fromhex(value["!bytes"]) if "!bytes" in value else value


def _number(text: str) -> Any:
    from decimal import Decimal

    return Decimal(text)


PLANT: dict[str, tuple[Callable[[Section, str, Any], None], Sequence[Any]]] = {
    "sqlite": (_rows, TEXTS),
    "postgres": (_rows, TEXTS),
    "mariadb": (_rows, TEXTS),
    "redis": (_value, TEXTS),
    "redis-cluster": (_value, TEXTS),
    "mongo": (_write_mongo, DOCUMENTS),
    "dynamo": (_native_items, ITEMS),
}
TEAR: dict[str, Callable[[Section, str], None]] = {
    "sqlite": lambda section, sender_id: _rows(section, sender_id, ['{"event": "us']),
    "postgres": lambda section, sender_id: _rows(section, sender_id, ["[]"]),
    "mariadb": lambda section, sender_id: _rows(section, sender_id, [""]),
    "redis": lambda section, sender_id: _value(section, sender_id, ['{"event": "us']),
    "redis-cluster": _hash,
    "mongo": _document,
    "dynamo": _item,
}
