"""The outbox of a `DynamoTrackerStore`: `<table_name>_outbox`, an item per waiting conversation.

DynamoDB cannot find items by an attribute without reading all of them. So waiting conversations
have a table of their own, which is only as large as the backlog. An entry (HASH `sender_id`):
  first, chunk     number of the first waiting event, and of the first event in its chunk
  sequence         number after the last waiting event
  at               time from which a relay may take the conversation
  relay            the relay that took it last; absent after it was released
  since            since when events have been waiting all the time
The transaction that commits a turn creates or changes the entry, and the one that deletes a
conversation deletes it, so it exists exactly while events wait. Relays change only entries.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from botocore.exceptions import ClientError

from ticketlock.errors import TrackerStoreError
from ticketlock.events.stored import StoredEvent
from ticketlock.tracker.outbox import VOID_MS, Backlog, Batch, DeadLetter, Lease, Outbox, now_ms

from . import expressions, layout
from .client import DynamoClient, condition_failed
from .expressions import number_of
from .layout import Item
from .letters import DynamoDeadLetters

T = TypeVar("T")

#: Characters of JSON from which on no further event is added to a batch.
BATCH_TEXT = 1_000_000

#: OutboxEntries on a page that `waiting` reads, and pages that it reads in one call.
_PAGE, _PAGES = 1000, 10

#: Attempts to take a conversation that is deleted and created again while it is read.
_TAKES = 5

_OURS = "#relay = :relay AND #first = :first AND #since = :since"


class Run(Protocol):
    """Runs a blocking function in a thread, and translates boto3's errors."""

    def __call__(self, work: Callable[..., T], *args: Any) -> Awaitable[T]: ...


class DynamoOutbox(Outbox):
    """The waiting events of one store."""

    def __init__(self, client: DynamoClient, run: Run) -> None:
        self._entries, self._letters, self._run = (
            OutboxEntries(client),
            DynamoDeadLetters(client),
            run,
        )

    async def waiting(self, limit: int, before: int) -> list[str]:
        return await self._run(self._entries.waiting, limit, before)

    async def take(self, sender_id: str, lease: Lease, limit: int) -> Batch | None:
        return await self._run(self._entries.take, sender_id, lease, limit)

    async def advance(self, batch: Batch, lease: Lease, to: int) -> bool:
        return await self._run(self._entries.advance, batch, lease, to)

    async def release(self, sender_id: str, relay: str) -> None:
        await self._run(self._entries.release, sender_id, relay)

    async def backlog(self) -> Backlog:
        return await self._run(self._entries.backlog)

    async def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        await self._run(self._letters.add_dead_letters, letters)

    async def dead_letters(self, limit: int = 1000) -> list[DeadLetter]:
        return await self._run(self._letters.read, limit)

    async def remove_dead_letter(self, letter: DeadLetter) -> bool:
        return await self._run(self._letters.remove_dead_letter, letter)


@dataclass(frozen=True)
class _Portion:
    """Events that were read, the chunk of each, and last the chunk of the next event."""

    events: list[Any]
    chunks: list[int]


class OutboxEntries:
    """The operations of `DynamoOutbox` in a thread. Raises boto3's errors and our own."""

    def __init__(self, client: DynamoClient) -> None:
        self._client = client
        self._place: Item | None = None  # where the next `waiting` continues

    def waiting(self, limit: int, before: int) -> list[str]:
        """See `Outbox.waiting`. Each call reads a limited part of a long backlog, in turn."""
        found: dict[str, int] = {}
        start, last_round = self._place, self._place is None
        for _ in range(_PAGES):
            page = self._client.call("scan", **self._free(before, start))
            found |= {item["sender_id"]["S"]: number_of(item, "at") for item in page["Items"]}
            start = page.get("LastEvaluatedKey")
            if start is None:
                if last_round:
                    break
                last_round = True
        self._place = start
        return sorted(found, key=lambda name: (found[name], name))[:limit]

    def _free(self, before: int, start: Item | None) -> dict[str, Any]:
        # A lease that ends that late is void: its conversation is free.
        condition, fields = "#at <= :before OR #at > :void", "#sender_id, #at"
        values = {":before": before, ":void": now_ms() + VOID_MS}
        request = {
            "TableName": self._client.outbox,
            "Limit": _PAGE,
            "FilterExpression": condition,
            "ProjectionExpression": fields,
            "ExpressionAttributeNames": expressions.names_in(f"{condition} {fields}"),
            "ConsistentRead": True,
            **expressions.valued(values, condition),
        }
        return {**request, "ExclusiveStartKey": start} if start else request

    # -- taking --------------------------------------------------------------------------------------

    def take(self, sender_id: str, lease: Lease, limit: int) -> Batch | None:
        for _ in range(_TAKES):
            entry = self._leased(sender_id, lease)
            if entry is None:
                return None
            portion = self._read(sender_id, entry, limit)
            history = self._history(sender_id, entry)
            if history is None:
                continue  # deleted, and perhaps created again, while it was read
            if portion is None:
                break
            first, end = number_of(entry, "first"), number_of(entry, "sequence")
            places = (number_of(entry, "since"), *portion.chunks)
            return Batch(sender_id, history, first, end, portion.events, places)
        raise TrackerStoreError(
            f"DynamoDB at {self._client.where}: conversation {sender_id!r} cannot be published: "
            f"{self._client.events} lacks events that wait"
        )

    def _leased(self, sender_id: str, lease: Lease) -> Item | None:
        """Lease the entry; None if no event waits or another relay has it."""
        condition = (
            "attribute_exists(#first) AND (attribute_not_exists(#relay) OR #relay = :relay"
            " OR #at <= :now OR #at > :beyond)"
        )
        values = {
            ":relay": lease.relay, ":now": lease.now, ":until": lease.until, ":beyond": lease.beyond,
        }  # fmt: skip
        change = "SET #relay = :relay, #at = :until"
        return self._change(sender_id, change, condition, values)

    def _read(self, sender_id: str, entry: Item, limit: int) -> _Portion | None:
        """Waiting events, chunk by chunk; None if some are missing."""
        first, end = number_of(entry, "first"), number_of(entry, "sequence")
        found, held = _Portion([], []), 0
        for chunk, lines in layout.walk(
            self._items(sender_id, entry, limit), number_of(entry, "chunk")
        ):
            for line in lines[max(0, first - chunk) :]:
                held += len(line)
                found.chunks.append(chunk)
                if len(found.events) == limit or (found.events and held > BATCH_TEXT):
                    return found
                found.events.append(StoredEvent(line))
        found.chunks.append(end)  # where the next write begins a chunk
        return found if first + len(found.events) == end else None

    def _items(self, sender_id: str, entry: Item, limit: int) -> Iterator[Item]:
        names = ("sender_id", "position")
        return self._client.pages(
            "query",
            TableName=self._client.events,
            KeyConditionExpression="#sender_id = :id AND #position BETWEEN :start AND :end",
            ExpressionAttributeNames={f"#{name}": name for name in names},
            ExpressionAttributeValues={
                ":id": {"S": sender_id},
                ":start": {"S": layout.position(number_of(entry, "chunk"))},
                ":end": {"S": layout.position(number_of(entry, "sequence") - 1, 999)},
            },
            Limit=limit + 1,  # a chunk has at least one event
            ConsistentRead=True,
        )

    def _history(self, sender_id: str, entry: Item) -> int | None:
        """When the conversation was created; None if the entry has changed.

        Both are read in one transaction after the events, so all three belong together.
        """
        key = {"sender_id": {"S": sender_id}}
        gets = [
            {"Get": {"TableName": t, "Key": key}} for t in (self._client.outbox, self._client.heads)
        ]
        answer = self._client.settle("transact_get_items", TransactItems=gets)
        now, head = (response.get("Item", {}) for response in answer["Responses"])
        same = all(now.get(name) == entry[name] for name in ("relay", "first", "since"))
        return number_of(head, "born") if same else None

    # -- moving on -----------------------------------------------------------------------------------

    def advance(self, batch: Batch, lease: Lease, to: int) -> bool:
        since, *chunks = batch.places
        ours = {":relay": lease.relay, ":first": batch.first, ":since": since, ":to": to}
        if to >= batch.sequence:
            condition = f"{_OURS} AND #sequence = :to"
            entry = expressions.request(self._client.outbox, batch.sender_id, None, condition, ours)
            try:
                self._client.settle("delete_item", **entry)
                return False
            except ClientError as error:
                if not condition_failed(error):
                    raise
        change = "SET #first = :to, #chunk = :chunk, #at = :until"
        values = {**ours, ":chunk": chunks[to - batch.first], ":until": lease.until}
        return self._change(batch.sender_id, change, _OURS, values) is not None

    def release(self, sender_id: str, relay: str) -> None:
        values = {":relay": relay, ":now": now_ms()}
        self._change(sender_id, "SET #at = :now REMOVE #relay", "#relay = :relay", values)

    def _change(
        self, sender_id: str, change: str, condition: str, values: dict[str, Any]
    ) -> Item | None:
        """The entry after the change; None if the condition was not met."""
        update = expressions.request(self._client.outbox, sender_id, change, condition, values)
        try:
            answer = self._client.settle("update_item", ReturnValues="ALL_NEW", **update)
        except ClientError as error:
            if condition_failed(error):
                return None
            raise
        found: Item = answer["Attributes"]
        return found

    def backlog(self) -> Backlog:
        fields = "#first, #sequence, #since"
        entries = self._client.pages(
            "scan",
            TableName=self._client.outbox,
            ProjectionExpression=fields,
            ExpressionAttributeNames=expressions.names_in(fields),
            ConsistentRead=True,
        )
        conversations = events = 0
        since: int | None = None
        for entry in entries:
            conversations += 1
            events += number_of(entry, "sequence") - number_of(entry, "first")
            waits = number_of(entry, "since")
            since = waits if since is None else min(since, waits)
        return Backlog(conversations, events, since)
