"""The conversations of a `DynamoTrackerStore`; these calls block, in threads."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from boto3.dynamodb.types import TypeDeserializer
from botocore.exceptions import BotoCoreError, ClientError

from ticketlock.aio.backoff import Backoff
from ticketlock.errors import EventsWaiting, StaleFence, TrackerStoreError, UnreadableHistory
from ticketlock.events.codec import EncodedEvent, encode_events
from ticketlock.plain_json import plain
from ticketlock.tracker.fenced import EventLog, Write
from ticketlock.tracker.outbox import now_ms
from ticketlock.tracker.stored import StoredEvents

from . import expressions, layout
from .client import DynamoClient, collided, condition_failed, failed_at
from .expressions import fence_of, number_of
from .layout import Chunk, Item

#: Attempts to read a conversation that changes meanwhile.
_READS = 20

#: Attempts at a write that collides with others.
_TRIES = 30


class Conversations:
    """The operations of `DynamoTrackerStore` in a thread. Raises boto3's errors and our own."""

    def __init__(self, client: DynamoClient) -> None:
        self._client = client

    # -- claiming ------------------------------------------------------------------------------------

    def claim(self, sender_id: str, fence: int, owner: str) -> EventLog:
        values = {":fence": fence, ":owner": owner, ":zero": 0, ":now": now_ms()}
        change = (
            "SET #fence = :fence, #owner = :owner, #sequence = if_not_exists(#sequence, :zero),"
            " #first = if_not_exists(#first, :zero), #session = if_not_exists(#session, :zero),"
            " #session_chunk = if_not_exists(#session_chunk, :zero),"
            " #born = if_not_exists(#born, :now)"
        )
        condition = (
            "(attribute_exists(#sequence) OR attribute_not_exists(#events)) AND"
            " (attribute_not_exists(#fence) OR #fence < :fence"
            " OR (#fence = :fence AND #owner = :owner))"
        )
        update = self._request(sender_id, change, condition, values)
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
                if fence_of(head) > (fence, "") and fence_of(head) != (fence, owner):
                    raise StaleFence(sender_id, fence, fence_of(head)[0])
            else:
                self._begin(sender_id, head)

    # -- writing -------------------------------------------------------------------------------------

    def write(self, write: Write) -> int:
        events, expected = write.events, write.sequence
        head: Item | None = None  # usually not read: the condition checks it
        backoff = Backoff(0.002, 0.16, jitter=1.0)
        for attempt in range(_TRIES):
            if write.replace or attempt:
                head = self._checked_head(write)
                stored = number_of(head, "sequence")
                if write.replace or stored <= write.sequence:
                    expected = stored
                elif stored != expected:
                    # A reply was lost, or another writer appended: compare with the stored events.
                    beyond = self._beyond(write.sender_id, head, write.sequence)
                    events, expected = write.new_events(beyond.events), beyond.sequence
            made = layout.chunks(write.sender_id, events, expected)
            batches = layout.batches(made)
            if self._commit(write, events, made, batches, expected, head):
                if write.replace:
                    self._tidy(write.sender_id, expected)
                return expected + len(events)
            # A staged write takes longer, so it needs longer pauses between the attempts.
            time.sleep(backoff.next() * (50 if len(batches) > 1 else 1))
        raise TrackerStoreError(
            f"DynamoDB at {self._client.where}: conversation {write.sender_id!r}: too many "
            f"writers at a time: gave up after {_TRIES} tries, nothing written"
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
        """Store events from number `expected` on; False if the head has another sequence.

        Args:
            head: the head as last read; None: not read. Then timestamps are assumed to increase.
        """
        change, condition, values = expressions.commit(write, events, made, expected, head)
        entry = expressions.entry(self._client.outbox, write, expected, len(events))
        try:
            if len(batches) > 1:
                token = {":token": str(uuid.uuid4())}
                self._stage(write, expected, batches, token)
                condition += " AND #writer = :token"
                values |= token
                batches = [[]]
            update = self._request(write.sender_id, change, condition, values)
            self._transact(update, batches[0], entry)
        except ClientError as error:
            if write.replace and failed_at(error) == 1:  # the entry's place in the transaction
                raise EventsWaiting(write.sender_id) from error
            if condition_failed(error) or collided(error):
                return False
            raise
        return True

    def _stage(
        self, write: Write, expected: int, batches: Sequence[Sequence[Item]], token: dict[str, Any]
    ) -> None:
        """Put events behind the head's sequence, where they are not read yet.

        A writer that stages events later replaces the token, so this one can no longer commit.
        """
        if write.replace and self._item(self._client.outbox, write.sender_id):
            raise EventsWaiting(write.sender_id)  # before staging a large write in vain
        condition, values = expressions.guard(write, expected)
        begin = "SET #writer = :token"
        self._transact(self._request(write.sender_id, begin, condition, {**values, **token}), [])
        condition = "#sequence = :expected AND #writer = :token"
        check = self._request(write.sender_id, None, condition, {":expected": expected, **token})
        for batch in batches:
            self._transact(check, batch)

    def _transact(
        self, head: dict[str, Any], items: Sequence[Item], entry: dict[str, Any] | None = None
    ) -> None:
        """Change or check the head and its entry in the outbox, and put items, atomically."""
        if not items and entry is None:
            self._client.call("update_item", **head)
            return
        kind = "Update" if "UpdateExpression" in head else "ConditionCheck"
        parts = [{kind: head}, *([entry] if entry else ())]
        parts += [{"Put": {"TableName": self._client.events, "Item": item}} for item in items]
        self._client.call("transact_write_items", TransactItems=parts)

    def _request(
        self, sender_id: str, change: str | None, condition: str, values: dict[str, Any]
    ) -> dict[str, Any]:
        return expressions.request(self._client.heads, sender_id, change, condition, values)

    def _checked_head(self, write: Write) -> Item:
        """The head, created if needed; raises StaleFence."""
        while True:
            head = self._head(write.sender_id)
            if write.guard is not None:
                held = fence_of(head or {})
                if held != write.guard:
                    raise StaleFence(write.sender_id, write.guard[0], held[0])
            if head and "sequence" in head:
                return head
            self._begin(write.sender_id, head)

    def _tidy(self, sender_id: str, before: int) -> None:
        """Remove replaced events. The write is committed, so errors are ignored."""
        try:
            self._remove_events(sender_id, before)
        except (ClientError, BotoCoreError):
            return

    # -- reading -------------------------------------------------------------------------------------

    def _head(self, sender_id: str) -> Item | None:
        return self._item(self._client.heads, sender_id)

    def _item(self, table: str, sender_id: str) -> Item | None:
        key = {"sender_id": {"S": sender_id}}
        answer = self._client.call("get_item", TableName=table, Key=key, ConsistentRead=True)
        found: Item | None = answer.get("Item")
        return found

    def read(self, sender_id: str, full: bool) -> EventLog:
        head = self._head(sender_id)
        if head is None or "sequence" in head:
            return EventLog([], 0) if head is None else self._events(sender_id, head, full)
        self._check_replaced(sender_id)
        events = self._documented(sender_id, head)
        start = 0 if full else layout.last_start(events) or 0
        return EventLog([event.wire for event in events[start:]], len(events))

    def _events(self, sender_id: str, head: Item, full: bool) -> EventLog:
        """The events to which a head refers."""
        for _ in range(_READS):
            end = number_of(head, "sequence")
            start = number_of(head, "first" if full else "session")
            chunk = start if full else number_of(head, "session_chunk")
            items = self._query(sender_id, chunk, end) if start < end else ()
            texts = layout.assemble(items, chunk, end) if start < end else []
            found = head if texts is not None and not full else self._head(sender_id)
            if found is None:
                return EventLog([], 0)
            # The conversation may have been deleted and created again between the reads.
            if texts is not None and found.get("born") == head.get("born"):
                texts, history = texts[start - chunk :], number_of(head, "born")
                mark = head.get("mark", {}).get("S", "")
                return EventLog(StoredEvents(texts), end, history, mark=mark)
            head = found  # it was replaced or deleted between the reads
        raise UnreadableHistory(
            f"DynamoDB at {self._client.where}: the history of conversation {sender_id!r} is "
            f"incomplete: {self._client.events} lacks events before number {end}"
        )

    def _beyond(self, sender_id: str, head: Item, number: int) -> EventLog:
        log = self._events(sender_id, head, full=number < number_of(head, "session"))
        return EventLog(log.events[max(0, number - log.first) :], log.sequence)

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
            ExpressionAttributeNames=expressions.names_in(text),
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
            latest = item["latest"]["N"] if "sequence" in item else self._latest(item)
            count += float(latest) >= after_timestamp
        return count

    def _latest(self, item: Item) -> str:
        """The greatest timestamp of a documented item; 0 if the item cannot be read."""
        try:
            return layout.latest(self._documented(item["sender_id"]["S"], item)) or "-inf"
        except UnreadableHistory:
            return "0"

    def delete(self, sender_id: str) -> bool:
        head = self._head(sender_id) or {}
        # With its entry in one transaction: later, the entry might belong to a new conversation.
        there = self._request(sender_id, None, "attribute_exists(#sender_id)", {})
        key = {"sender_id": {"S": sender_id}}
        entry = {"TableName": self._client.outbox, "Key": key}
        try:
            parts = [{"Delete": there}, {"Delete": entry}]
            self._client.settle("transact_write_items", TransactItems=parts)
        except ClientError as error:
            if not condition_failed(error):
                raise
            head = {}
        self._remove_events(sender_id)
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
            some, requests = requests[:25], requests[25:]  # DynamoDB's limit
            self._client.delete_all(some)

    # -- the documented format -------------------------------------------------------------------------

    def _begin(self, sender_id: str, old: Item | None) -> None:
        """Create the head, from the documented item if there is one, unless it exists."""
        if old:
            self._check_replaced(sender_id)
        events = self._documented(sender_id, old or {})
        made = layout.chunks(sender_id, events, 0)
        session = layout.last_start(events) or 0
        values: dict[str, Any] = {
            ":count": len(events), ":zero": 0, ":session": session, ":chunk": expressions.holding(made, session), ":now": now_ms(),
        }  # fmt: skip
        change = (
            "SET #sequence = :count, #first = :zero, #session = :session, #session_chunk = :chunk,"
            " #born = :now"
        )
        if events:
            values[":latest"] = float(layout.latest(events) or 0)
            change += ", #latest = :latest"
        condition = (
            "attribute_not_exists(#sequence) AND"
            " (attribute_not_exists(#events) OR size(#events) = :count)"
        )
        update = self._request(sender_id, f"{change} REMOVE #events", condition, values)
        try:
            self._transact(update, [item for chunk in made for item in chunk.items])
        except ClientError as error:
            if not (condition_failed(error) or collided(error)):
                raise

    def _check_replaced(self, sender_id: str) -> None:
        """Raise UnreadableHistory if a documented item has taken the place of a head."""
        if next(self._query(sender_id, 0, 10**15), None) is None:
            return
        head = self._head(sender_id)
        if head is None or "sequence" in head:
            return  # another process has converted it between the reads
        raise UnreadableHistory(
            f"DynamoDB at {self._client.where}: another program has replaced the item of "
            f"{sender_id!r} in {self._client.heads}, which referred to earlier events in "
            f"{self._client.events}: stop that program, and restore the item from a backup; or "
            f"remove the conversation's items from {self._client.events} to go on without them"
        )

    def _documented(self, sender_id: str, item: Item) -> list[EncodedEvent]:
        decode = TypeDeserializer().deserialize
        try:
            events = decode(item["events"]) if "events" in item else ()
            return encode_events(plain(event) for event in events)
        except (ValueError, TypeError) as error:
            raise UnreadableHistory(
                f"DynamoDB at {self._client.where}: the documented item of {sender_id!r} cannot be "
                f"converted: {error}; repair it in {self._client.heads}"
            ) from error
