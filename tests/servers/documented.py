"""Conversations as the documented system stores them, written with the plain drivers.

Each function takes a section of the contract's backend, a conversation id and event
dictionaries; `leftovers` says how much of the documented format is left.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import Any, NamedTuple

import boto3
from pymongo import MongoClient
from redis import Redis, RedisCluster

Section = Mapping[str, Any]
Events = Sequence[Mapping[str, Any]]


class Format(NamedTuple):
    """How to write and to count documented conversations of a backend."""

    write: Callable[[Section, Any, Events], None]
    leftovers: Callable[[Section], int]


@contextmanager
def _redis(section: Section) -> Iterator[Any]:
    if section.get("deployment_mode") == "cluster":
        host, port = section["endpoints"][0].split(":")
        client: Any = RedisCluster(host=host, port=int(port))
    else:
        client = Redis(port=section["port"], db=0)
    try:
        yield client
    finally:
        client.close()


def _write_redis(section: Section, sender_id: Any, events: Events) -> None:
    with _redis(section) as client:
        value = json.dumps({"events": events, "name": sender_id})
        client.set(f"{section['key_prefix']}:tracker:{sender_id}", value)


def _left_in_redis(section: Section) -> int:
    with _redis(section) as client:
        found = client.scan_iter(match=f"{section['key_prefix']}:tracker:*", _type="string")
        return len(list(found))


def _write_mongo(section: Section, sender_id: Any, events: Events) -> None:
    with MongoClient[dict[str, Any]](section["url"]) as client:
        client[section["db"]]["conversations"].insert_one(
            {
                "sender_id": sender_id, "slots": {"a": None}, "latest_message": {}, "paused": False,
                "latest_event_time": 1.0, "followup_action": None, "latest_input_channel": None,
                "active_loop": {}, "latest_action": {}, "latest_action_name": None,
                "events": list(events),
            }
        )  # fmt: skip


def _left_in_mongo(section: Section) -> int:
    with MongoClient[dict[str, Any]](section["url"]) as client:
        return client[section["db"]]["conversations"].count_documents({})


@contextmanager
def _table(section: Section) -> Iterator[Any]:
    dynamo = boto3.Session().resource(
        "dynamodb", region_name="us-east-1", endpoint_url=section["endpoint_url"]
    )
    try:
        yield dynamo.Table(section["table_name"])
    finally:
        dynamo.meta.client.close()


def _write_dynamo(section: Section, sender_id: Any, events: Events) -> None:
    with _table(section) as table:
        client = table.meta.client
        with suppress(client.exceptions.ResourceInUseException):  # another call has made it
            client.create_table(
                TableName=section["table_name"],
                KeySchema=[{"AttributeName": "sender_id", "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": "sender_id", "AttributeType": "S"}],
                ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 5},
            )
        exact = json.loads(json.dumps(list(events)), parse_float=Decimal)
        table.put_item(Item={"sender_id": sender_id, "name": sender_id, "events": exact})


def _left_in_dynamo(section: Section) -> int:
    with _table(section) as table:
        return sum("events" in item for item in table.scan()["Items"])


FORMATS = {
    "redis": Format(_write_redis, _left_in_redis),
    "redis-cluster": Format(_write_redis, _left_in_redis),
    "mongo": Format(_write_mongo, _left_in_mongo),
    "dynamo": Format(_write_dynamo, _left_in_dynamo),
}
