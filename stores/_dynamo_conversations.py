"""The conversations of a `DynamoTrackerStore`: blocking, for many threads."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from boto3.dynamodb.types import TypeDeserializer
from botocore.exceptions import BotoCoreError, ClientError

from ticketlock.errors import StaleFence, TrackerStoreError
from ticketlock.event_codec import EncodedEvent, encode_events
from ticketlock.fenced_store import History, Write

from . import _dynamo_layout as layout
from ._dynamo_client import Client, collided, condition_failed
from ._dynamo_layout import Chunk, Item

#: Every attribute of a head gets a placeholder: some of the names are reserved words.
_NAMES = (
    "sender_id", "fence", "owner", "sequence", "first", "session", "session_chunk", "latest",
    "writer", "events",
)  # fmt: skip

#: How often a history that changes under its reader is read again.
_READS = 20

#: How often a write that collides with others is tried.
_TRIES = 30


class Conversations:
    """What `DynamoTrackerStore` does in a thread. Raises boto3's errors and the library's."""

    def __init__(self, client: Client) -> None:
        self._client = client

    # -- claiming ------------------------------------------------------------------------------------

    def claim(self, sender_id: str, fence: int, owner: str) -> History:
        values = {":fence": fence, ":owner": owner, ":zero": 0}
        change = (
            "SET #fence = :fence, #owner = :owner, #sequence = if_not_exists(#sequence, :zero),"
            " #first = if_not_exists(#first, :zero), #session = if_not_exists(#session, :zero),"
            " #session_chunk = if_not_exists(#session_chunk, :zero)"
        )
        condition = (
            "(attribute_exists(#sequence) OR attribute_not_exists(#events)) AND"
            " (attribute_not_exists(#fence) OR #fence < :fence"
            " OR (#fence = :fence AND #owner = :owner))"
        )
        update = self._update(sender_id, change, condition, values)
        while True:
            try:
                answer = self._client.call("update_item", ReturnValues="ALL_NEW", **update)
                return self._events(sender_id, answer["Attributes"], full=False)
            except ClientError as error:
                if collided(error):
                    time.sleep(random.uniform(0.005, 0.02))
                    continue
                if not condition_failed(error):
                    raise
            head = self._head(sender_id)
            if head and "sequence" in head:
                if _fence(head) > (fence, "") and _fence(head) != (fence, owner):
                    raise StaleFence(sender_id, fence, _fence(head)[0])
            else:
                self._begin(sender_id, head)

    # -- writing -------------------------------------------------------------------------------------

    def write(self, write: Write) -> int:
        events, expected = write.events, write.sequence
        head: Item | None = None  # usually not needed: the condition says what is expected
        for attempt in range(_TRIES):
            if write.replace or attempt:
                head = self._checked_head(write)
                stored = _number(head, "sequence")
                if write.replace or stored <= write.sequence:
                    expected = stored
                elif stored != expected:
                    # A reply was lost or somebody else appended: what is stored decides what is new.
                    beyond = self._beyond(write.sender_id, head, write.sequence)
                    events, expected = write.new_events(beyond.events), beyond.sequence
            made = layout.chunks(write.sender_id, events, expected)
            batches = layout.batches(made)
            if self._commit(write, events, made, batches, expected, head):
                if write.replace:
                    self._tidy(write.sender_id, expected)
                return expected + len(events)
            # The longer a try takes, the more room it needs between those of others.
            pause = 0.1 if len(batches) > 1 else 0.002
            time.sleep(random.uniform(0, min(80 * pause, pause * 2**attempt)))
        raise TrackerStoreError(
            f"DynamoDB at {self._client.where}: conversation {write.sender_id!r} is written to by "
            f"too many at a time: gave up after {_TRIES} tries, nothing written"
        )

    def _commit(
        self,
        write: Write,
        events: Sequence[EncodedEvent],
        made: Sequence[Chunk],
        batches: Sequence[Sequence[Item]],
        expected: int,
        head: Item | None,
    ) -> bool:
        """Store events from number `expected` on; False if the head is not so.

        Args:
            head: as it was last seen; None: not yet, then time is taken to go forward.
        """
        change, condition, values = _change(write, events, made, expected, head)
        try:
            if len(batches) > 1:
                token = {":token": str(uuid.uuid4())}
                self._stage(write, expected, batches, token)
                condition += " AND #writer = :token"
                values |= token
                batches = [[]]
            self._transact(self._update(write.sender_id, change, condition, values), batches[0])
        except ClientError as error:
            if condition_failed(error) or collided(error):
                return False
            raise
        return True

    def _stage(
        self, write: Write, expected: int, batches: Sequence[Sequence[Item]], token: dict[str, Any]
    ) -> None:
        """Put events where nobody reads yet. Whoever begins to do so later shuts us out."""
        condition, values = _guard(write, expected)
        begin = "SET #writer = :token"
        self._transact(self._update(write.sender_id, begin, condition, {**values, **token}), [])
        condition = "#sequence = :expected AND #writer = :token"
        check = self._update(write.sender_id, None, condition, {":expected": expected, **token})
        for batch in batches:
            self._transact(check, batch)

    def _transact(self, head: dict[str, Any], items: Sequence[Item]) -> None:
        if not items:
            self._client.call("update_item", **head)
            return
        kind = "Update" if "UpdateExpression" in head else "ConditionCheck"
        puts = [{"Put": {"TableName": self._client.events, "Item": item}} for item in items]
        self._client.call("transact_write_items", TransactItems=[{kind: head}, *puts])

    def _update(
        self, sender_id: str, change: str | None, condition: str, values: dict[str, Any]
    ) -> dict[str, Any]:
        text = f"{change} {condition}"
        update = {
            "TableName": self._client.heads,
            "Key": {"sender_id": {"S": sender_id}},
            "ConditionExpression": condition,
            "ExpressionAttributeNames": {f"#{n}": n for n in _NAMES if layout.used(f"#{n}", text)},
            "ExpressionAttributeValues": {
                name: {"S": value} if isinstance(value, str) else {"N": str(value)}
                for name, value in values.items()
                if layout.used(name, text)
            },
        }
        return update if change is None else {**update, "UpdateExpression": change}

    def _checked_head(self, write: Write) -> Item:
        """The head, begun if need be; raises StaleFence."""
        while True:
            head = self._head(write.sender_id)
            if write.guard is not None:
                held = _fence(head or {})
                if held != write.guard:
                    raise StaleFence(write.sender_id, write.guard[0], held[0])
            if head and "sequence" in head:
                return head
            self._begin(write.sender_id, head)

    def _tidy(self, sender_id: str, before: int) -> None:
        """Remove what is not history any more. It is committed: a failure here is none."""
        try:
            self._remove_events(sender_id, before)
        except (ClientError, BotoCoreError):
            return

    # -- reading -------------------------------------------------------------------------------------

    def _head(self, sender_id: str) -> Item | None:
        answer = self._client.call(
            "get_item",
            TableName=self._client.heads,
            Key={"sender_id": {"S": sender_id}},
            ConsistentRead=True,
        )
        head: Item | None = answer.get("Item")
        return head

    def read(self, sender_id: str, full: bool) -> History:
        head = self._head(sender_id)
        if head is None or "sequence" in head:
            return History([], 0) if head is None else self._events(sender_id, head, full)
        events = self._documented(sender_id, head)
        start = 0 if full else layout.last_start(events) or 0
        return History([event.wire for event in events[start:]], len(events))

    def _events(self, sender_id: str, head: Item, full: bool) -> History:
        """The events that a head stands for."""
        for _ in range(_READS):
            end = _number(head, "sequence")
            start = _number(head, "first" if full else "session")
            chunk = start if full else _number(head, "session_chunk")
            items = self._query(sender_id, chunk, end) if start < end else ()
            events = layout.assemble(items, chunk, end) if start < end else []
            if events is not None:
                return History(events[start - chunk :] if events else [], end)
            found = self._head(sender_id)  # it was replaced, or deleted, between the two reads
            if found is None:
                return History([], 0)
            head = found
        raise TrackerStoreError(
            f"DynamoDB at {self._client.where}: the history of conversation {sender_id!r} is "
            f"incomplete: {self._client.events} lacks events before number {end}"
        )

    def _beyond(self, sender_id: str, head: Item, number: int) -> History:
        history = self._events(sender_id, head, full=number < _number(head, "session"))
        return History(history.events[max(0, number - history.first) :], history.sequence)

    def _query(self, sender_id: str, start: int, end: int) -> Iterator[Item]:
        return self._client.pages(
            "query",
            TableName=self._client.events,
            KeyConditionExpression="#sender_id = :id AND #position BETWEEN :start AND :end",
            ExpressionAttributeNames={"#sender_id": "sender_id", "#position": "position"},
            ExpressionAttributeValues={
                ":id": {"S": sender_id},
                ":start": {"S": layout.position(start)},
                ":end": {"S": layout.position(end - 1, 999)},
            },
            ConsistentRead=True,
        )

    # -- all conversations -----------------------------------------------------------------------------

    def _scan(self, condition: str, values: dict[str, Any]) -> Any:
        fields = "#sender_id, #latest, #sequence, #events"
        text = f"{fields} {condition}"
        return self._client.pages(
            "scan",
            TableName=self._client.heads,
            ProjectionExpression=fields,
            FilterExpression=condition,
            ExpressionAttributeNames={f"#{n}": n for n in _NAMES if layout.used(f"#{n}", text)},
            ConsistentRead=True,
            **({"ExpressionAttributeValues": values} if values else {}),
        )

    def keys(self) -> list[str]:
        condition = (
            "attribute_exists(#latest) OR (attribute_exists(#events) AND size(#events) > :none)"
        )
        found = self._scan(condition, {":none": {"N": "0"}})
        return [item["sender_id"]["S"] for item in found]

    def count(self, after_timestamp: float) -> int:
        count = 0
        for item in self._scan("attribute_exists(#latest) OR attribute_exists(#events)", {}):
            if "sequence" in item:
                latest = item["latest"]["N"]
            else:
                latest = layout.latest(self._documented(item["sender_id"]["S"], item)) or "-inf"
            count += float(latest) >= after_timestamp
        return count

    def delete(self, sender_id: str) -> bool:
        answer = self._client.call(
            "delete_item",
            TableName=self._client.heads,
            Key={"sender_id": {"S": sender_id}},
            ReturnValues="ALL_OLD",
        )
        self._remove_events(sender_id)
        head: Item = answer.get("Attributes", {})
        return "latest" in head or bool(head.get("events", {}).get("L"))

    def _remove_events(self, sender_id: str, before: int | None = None) -> None:
        end = layout.position(before) if before is not None else "~"
        keys = self._client.pages(
            "query",
            TableName=self._client.events,
            KeyConditionExpression="#sender_id = :id AND #position < :end",
            ExpressionAttributeNames={"#sender_id": "sender_id", "#position": "position"},
            ExpressionAttributeValues={":id": {"S": sender_id}, ":end": {"S": end}},
            ProjectionExpression="#sender_id, #position",
            ConsistentRead=True,
        )
        requests = [{"DeleteRequest": {"Key": key}} for key in keys]
        while requests:
            some, requests = requests[:25], requests[25:]  # DynamoDB takes no more at a time
            answer = self._client.call("batch_write_item", RequestItems={self._client.events: some})
            left = answer.get("UnprocessedItems", {}).get(self._client.events, [])
            if left:
                time.sleep(random.uniform(0.02, 0.1))
            requests += left

    # -- the documented format -------------------------------------------------------------------------

    def _begin(self, sender_id: str, old: Item | None) -> None:
        """Make the head, from the documented item if there is one; or somebody else did."""
        events = self._documented(sender_id, old or {})
        made = layout.chunks(sender_id, events, 0)
        session = layout.last_start(events) or 0
        values: dict[str, Any] = {
            ":count": len(events), ":zero": 0, ":session": session, ":chunk": _holding(made, session),
        }  # fmt: skip
        change = (
            "SET #sequence = :count, #first = :zero, #session = :session, #session_chunk = :chunk"
        )
        if events:
            values[":latest"] = float(layout.latest(events) or 0)
            change += ", #latest = :latest"
        condition = (
            "attribute_not_exists(#sequence) AND"
            " (attribute_not_exists(#events) OR size(#events) = :count)"
        )
        update = self._update(sender_id, f"{change} REMOVE #events", condition, values)
        try:
            self._transact(update, [item for chunk in made for item in chunk.items])
        except ClientError as error:
            if not (condition_failed(error) or collided(error)):
                raise

    def _documented(self, sender_id: str, item: Item) -> list[EncodedEvent]:
        decode = TypeDeserializer().deserialize
        try:
            return encode_events(layout.plain(decode(item["events"])) if "events" in item else ())
        except (ValueError, TypeError) as error:
            raise TrackerStoreError(
                f"DynamoDB at {self._client.where}: the documented item of {sender_id!r} cannot be "
                f"carried over: {error}; repair it in {self._client.heads}"
            ) from error


def _change(
    write: Write,
    events: Sequence[EncodedEvent],
    made: Sequence[Chunk],
    expected: int,
    head: Item | None,
) -> tuple[str, str, dict[str, Any]]:
    """Expression, condition and values of the update of a head that commits events."""
    condition, values = _guard(write, expected)
    values[":end"] = expected + len(events)
    change, remove = "SET #sequence = :end", " REMOVE #writer"
    place = layout.last_start(events)
    if place is not None or write.replace:
        session = expected + (place or 0)
        values |= {":session": session, ":chunk": _holding(made, session) or expected}
        change += ", #session = :session, #session_chunk = :chunk"
    if write.replace:
        change += ", #first = :expected"
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


def _guard(write: Write, expected: int) -> tuple[str, dict[str, Any]]:
    condition = "#sequence = :expected"
    values: dict[str, Any] = {":expected": expected}
    if write.guard is not None:
        condition += " AND #fence = :fence AND #owner = :owner"
        values |= {":fence": write.guard[0], ":owner": write.guard[1]}
    return condition, values


def _holding(made: Sequence[Chunk], number: int) -> int:
    """Where the chunk with an event begins; 0 if none of these has it."""
    return next((c.first for c in made if c.first <= number < c.following), 0)


def _fence(head: Item) -> tuple[int, str]:
    return _number(head, "fence"), head.get("owner", {}).get("S", "")


def _number(head: Item, name: str) -> int:
    return int(head.get(name, {}).get("N", 0))
