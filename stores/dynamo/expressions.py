"""Expressions of the requests of a `DynamoTrackerStore`: changes and their conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ticketlock.events.codec import EncodedEvent
from ticketlock.tracker.fenced import Write

from . import layout
from .layout import Chunk, Item

#: Attributes, each with a placeholder: some of the names are reserved in DynamoDB.
NAMES = (
    "sender_id", "fence", "owner", "sequence", "first", "session", "session_chunk", "latest",
    "writer", "born", "mark", "events",
    # of an outbox entry
    "at", "since", "chunk", "relay",
)  # fmt: skip


def request(
    table: str, sender_id: str, change: str | None, condition: str, values: Mapping[str, Any]
) -> dict[str, Any]:
    """Arguments of boto3 for a conditional update of an item, or for a check without `change`."""
    text = f"{change} {condition}"
    found: dict[str, Any] = {
        "TableName": table,
        "Key": {"sender_id": {"S": sender_id}},
        "ExpressionAttributeNames": names_in(text),
        **valued(values, text),
    }
    if condition:
        found["ConditionExpression"] = condition
    return found if change is None else {**found, "UpdateExpression": change}


def names_in(text: str) -> dict[str, str]:
    """The placeholders of names that occur in `text`: DynamoDB refuses unused ones."""
    return {f"#{name}": name for name in NAMES if layout.used(f"#{name}", text)}


def valued(values: Mapping[str, Any], text: str) -> dict[str, Any]:
    """The values that occur in `text`, as a keyword argument; DynamoDB refuses an empty one."""
    found = {
        name: {"S": value} if isinstance(value, str) else {"N": str(value)}
        for name, value in values.items()
        if layout.used(name, text)
    }
    return {"ExpressionAttributeValues": found} if found else {}


def commit(
    write: Write,
    events: Sequence[EncodedEvent],
    made: Sequence[Chunk],
    expected: int,
    head: Item | None,
) -> tuple[str, str, dict[str, Any]]:
    """Expression, condition and values of the update that commits events to a head."""
    condition, values = guard(write, expected)
    values[":end"] = expected + len(events)
    change, remove = "SET #sequence = :end", " REMOVE #writer"
    place = layout.last_start(events)
    if place is not None or write.replace:
        session = expected + (place or 0)
        values |= {":session": session, ":chunk": holding(made, session) or expected}
        change += ", #session = :session, #session_chunk = :chunk"
    if write.replace:
        change += ", #first = :expected"
    if write.mark is not None:
        values[":mark"] = write.mark
        change += ", #mark = :mark"
    latest = layout.latest(events)
    if latest is None:
        remove += ", #latest" if write.replace else ""
    else:
        values[":latest"] = float(latest)
        known = float(head["latest"]["N"]) if head and "latest" in head else None
        if write.replace or known is None or known <= float(latest):
            change += ", #latest = :latest"
            if not write.replace:
                condition += " AND (attribute_not_exists(#latest) OR #latest <= :latest)"
        else:
            condition += " AND #latest > :latest"
    return change + remove, condition, values


def entry(table: str, write: Write, expected: int, count: int) -> dict[str, Any] | None:
    """The change of the outbox's entry in the transaction that commits `count` events."""
    # A replacement drops events, so none of them may wait.
    condition = "attribute_not_exists(#sender_id)" if write.replace else ""
    if not (write.publish and count):
        check = request(table, write.sender_id, None, condition, {})
        return {"ConditionCheck": check} if condition else None
    change = (
        "SET #sequence = :end, #first = if_not_exists(#first, :expected),"
        " #chunk = if_not_exists(#chunk, :expected), #at = if_not_exists(#at, :now),"
        " #since = if_not_exists(#since, :now)"
    )
    values = {":expected": expected, ":end": expected + count, ":now": write.publish}
    return {"Update": request(table, write.sender_id, change, condition, values)}


def guard(write: Write, expected: int) -> tuple[str, dict[str, Any]]:
    condition = "#sequence = :expected"
    values: dict[str, Any] = {":expected": expected}
    if write.guard is not None:
        condition += " AND #fence = :fence AND #owner = :owner"
        values |= {":fence": write.guard[0], ":owner": write.guard[1]}
    return condition, values


def holding(made: Sequence[Chunk], number: int) -> int:
    """Number of the first event in the chunk with an event; 0 if these chunks lack it."""
    return next((c.first for c in made if c.first <= number < c.following), 0)


def fence_of(head: Item) -> tuple[int, str]:
    return number_of(head, "fence"), head.get("owner", {}).get("S", "")


def number_of(head: Item, name: str) -> int:
    return int(head.get(name, {}).get("N", 0))
