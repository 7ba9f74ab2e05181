"""The outbox of a `MongoTrackerStore`: fields of the current document, changed with its events.

  outbox           number of the first waiting event; it and the next two are absent if none waits
  outbox_since     since when events have been waiting all the time
  outbox_at        time from which a relay may take the conversation
  relay            the relay that took it last; absent after it was released
  born             when the document was created: the `history` of the conversation

A relay reads the stored events, inline or in buckets. The name of a run is used once, so the buckets
always belong to the document that was taken.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import asdict

from pymongo import ReturnDocument

from ticketlock.errors import TrackerStoreError
from ticketlock.events.stored import StoredEvent
from ticketlock.tracker.outbox import (
    VOID_MS,
    Backlog,
    Batch,
    DeadLetter,
    Lease,
    Outbox,
    letter_order,
    now_ms,
)

from .database import Database, Document

#: Characters of JSON from which on no further event is added to a batch.
BATCH_TEXT = 1_000_000

#: Buckets in one answer of the server: 1 MB, unless single events are larger.
_BUCKETS = 8

#: Attempts to take a conversation that is deleted and created again while it is read.
_TAKES = 5

_EMPTIED = {"outbox": "", "outbox_since": "", "outbox_at": "", "relay": ""}


def let_wait(change: Document, number: int, now: int) -> None:
    """Extend an update of a current document: the events from `number` on wait."""
    # If events wait already, their number and time are lower, and a lease ends later.
    change.setdefault("$min", {}).update(outbox=number, outbox_since=now)
    change.setdefault("$max", {})["outbox_at"] = now


class MongoOutbox(Outbox):
    """The waiting events of one store."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def waiting(self, limit: int, before: int) -> list[str]:
        # A lease that ends that late is void: its conversation is free.
        free = [{"outbox_at": {"$lte": before}}, {"outbox_at": {"$gt": now_ms() + VOID_MS}}]
        async with self._db.translated_errors():
            heads = await self._db.indexed_current()
            found = heads.find({"$or": free}, {"_id": 1}).sort("outbox_at", 1).limit(limit)
            return [head["_id"] async for head in found]

    # -- relaying ------------------------------------------------------------------------------------

    async def take(self, sender_id: str, lease: Lease, limit: int) -> Batch | None:
        async with self._db.translated_errors():
            for _ in range(_TAKES):
                head = await self._leased(sender_id, lease)
                if head is None:
                    return None
                texts = await self._texts(head, limit)
                if texts:
                    events = [StoredEvent(text) for text in texts]
                    first, end = head["outbox"], head["sequence"]
                    return Batch(sender_id, head["born"], first, end, events)
        raise TrackerStoreError(
            f"MongoDB at {self._db.where}: conversation {sender_id!r} cannot be published: "
            f"{self._db.collection}_history lacks events that wait"
        )

    async def _leased(self, sender_id: str, lease: Lease) -> Document | None:
        """Lease the current document; None if no event waits or another relay has it."""
        free = [
            {"relay": {"$in": [None, lease.relay]}},
            {"outbox_at": {"$lte": lease.now}},
            {"outbox_at": {"$gt": lease.beyond}},
        ]
        head: Document | None = await self._db.current.find_one_and_update(
            {"_id": sender_id, "outbox": {"$exists": True}, "$or": free},
            {"$set": {"relay": lease.relay, "outbox_at": lease.until}},
            return_document=ReturnDocument.AFTER,
        )
        return head

    async def _texts(self, head: Document, limit: int) -> list[str]:
        """The first waiting events; empty if the conversation was deleted meanwhile."""
        place = head["outbox"] - head["tail_first"]
        if place >= 0:
            return list(_portion(head["tail"][place:], limit))
        texts: list[str] = []
        held = 0
        async with aclosing(self._buckets(head)) as buckets:
            async for bucket in buckets:
                skip = head["outbox"] + len(texts) - bucket["first"]
                if not 0 <= skip < len(bucket["events"]):
                    return []
                texts += bucket["events"][skip:]
                held += sum(len(text) for text in bucket["events"][skip:])
                if len(texts) >= limit or held >= BATCH_TEXT:
                    return list(_portion(texts, limit))
        if head["outbox"] + len(texts) != head["tail_first"]:
            return []
        return list(_portion(texts + head["tail"], limit))

    async def _buckets(self, head: Document) -> AsyncGenerator[Document, None]:
        """The bucket with the first waiting event, and those after it, up to the tail."""
        history = await self._db.history()
        query = {"sender_id": head["_id"], "run": {"$in": head["runs"]}}
        before = {**query, "first": {"$lte": head["outbox"]}}
        start = await history.find_one(before, sort=[("first", -1)])
        if start is None:
            return
        yield start
        query["first"] = {"$gt": start["first"], "$lt": head["tail_first"]}
        async with history.find(query).sort("first", 1).batch_size(_BUCKETS) as found:
            async for bucket in found:
                yield bucket

    async def advance(self, batch: Batch, lease: Lease, to: int) -> bool:
        ours = {
            "_id": batch.sender_id,
            "born": batch.history,
            "relay": lease.relay,
            "outbox": batch.first,
        }
        async with self._db.translated_errors():
            if to >= batch.sequence:
                emptied = await self._db.current.update_one(
                    {**ours, "sequence": to}, {"$unset": _EMPTIED}
                )
                if emptied.matched_count:
                    return False
            moved = await self._db.current.update_one(
                ours, {"$set": {"outbox": to, "outbox_at": lease.until}}
            )
            return moved.matched_count > 0

    async def release(self, sender_id: str, relay: str) -> None:
        async with self._db.translated_errors():
            await self._db.current.update_one(
                {"_id": sender_id, "relay": relay},
                {"$unset": {"relay": ""}, "$set": {"outbox_at": now_ms()}},
            )

    async def backlog(self) -> Backlog:
        stages: list[Document] = [
            {"$match": {"outbox_at": {"$gt": 0}}},
            {
                "$group": {
                    "_id": None,
                    "conversations": {"$sum": 1},
                    "events": {"$sum": {"$subtract": ["$sequence", "$outbox"]}},
                    "since": {"$min": "$outbox_since"},
                }
            },
        ]
        async with self._db.translated_errors():
            cursor = await (await self._db.indexed_current()).aggregate(stages)
            found = await cursor.to_list()
        if not found:
            return Backlog()
        return Backlog(found[0]["conversations"], found[0]["events"], found[0]["since"])

    # -- dead letters --------------------------------------------------------------------------------

    async def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        async with self._db.translated_errors():
            for letter in letters:
                # As JSON text: BSON cannot store every value of an event.
                document = {**asdict(letter), "event": json.dumps(dict(letter.event))}
                key = {"_id": _key(letter)}
                await self._db.dead_letters.replace_one(key, {**key, **document}, upsert=True)

    async def dead_letters(self, limit: int = 1000) -> list[DeadLetter]:
        async with self._db.translated_errors():
            found = self._db.dead_letters.find({}, {"_id": 0}).sort("_id", 1).limit(limit)
            letters = [
                DeadLetter(**{**document, "event": json.loads(document["event"])})
                async for document in found
            ]
        return sorted(letters, key=letter_order)

    async def remove_dead_letter(self, letter: DeadLetter) -> bool:
        async with self._db.translated_errors():
            gone = await self._db.dead_letters.delete_one({"_id": _key(letter)})
        return gone.deleted_count > 0


def _key(letter: DeadLetter) -> Document:
    # MongoDB compares such a key field by field, in this order.
    names = ("sender_id", "history", "sequence")
    return dict(zip(names, letter_order(letter), strict=True))


def _portion(texts: Sequence[str], limit: int) -> Iterator[str]:
    """The texts that fit a batch, at least one."""
    held = 0
    for place, text in enumerate(texts[:limit]):
        held += len(text)
        if place and held > BATCH_TEXT:
            return
        yield text
