"""`MongoTrackerStore`: atomic turns without transactions, in documents that stay small.

A conversation is one document in `<collection>_current`: fence, owner, sequence, and the most
recent events inline. An append is one conditional update of that document. So the fence is checked
by the statement that writes, and a turn is written as a whole or not at all, on a standalone server
too. A claim returns the latest session in the same round trip, unless part of it is not inline.

When there are many inline events, or when a session starts, the oldest are copied to
`<collection>_history`, as documents with a bucket of events each, and then removed. A document per
event would need thousands of reads for a long conversation; one document per conversation would
reach MongoDB's limit of 16 MB. A `kill -9` between two writes can leave a bucket whose events are
also inline, which the next writer finds and uses, and buckets without a reference: those of a large
write that was not committed, or of events that were replaced. They are never read, and deleting the
conversation removes them.

The update that commits events also notes in the current document that they wait to be published.

Events are stored as JSON text: BSON has no integers over 64 bits and no keys with a NUL.

Documents of the documented format (`events` in `<collection>`) can be read, and the first claim or
write of their conversation converts them.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError, PyMongoError

from ticketlock.errors import EventsWaiting, StaleFence, UnreadableHistory
from ticketlock.events.codec import EncodedEvent
from ticketlock.settings.section import Section
from ticketlock.settings.store_keys import MongoKeys
from ticketlock.tracker.fenced import EventLog, FencedTrackerStore, Write
from ticketlock.tracker.outbox import now_ms
from ticketlock.tracker.store import PROBE
from ticketlock.tracker.stored import StoredEvents

from . import layout
from .database import Database, Document
from .documented import Documented
from .outbox import MongoOutbox, let_wait

if TYPE_CHECKING:
    from typing_extensions import Unpack

#: Attempts to read a conversation that changes meanwhile.
_READS = 20


class MongoTrackerStore(FencedTrackerStore):
    """Conversations in MongoDB 4.2 or newer, standalone or a replica set.

    Args:
        values: the keys of `MongoKeys`, see docs/reference/endpoints.md.
        where: how error messages name these settings.
    """

    max_event_bytes = layout.DOCUMENT_BYTES - 1024

    def __init__(
        self,
        domain: Any = None,
        event_broker: Any = None,
        *,
        where: str = "tracker_store",
        **values: Unpack[MongoKeys],
    ) -> None:
        super().__init__(domain, event_broker)
        section = Section(values, where)
        self._db = Database(section)
        section.finish()
        self._documented = Documented(self._db)
        self.outbox = MongoOutbox(self._db)

    @property
    def histories_at(self) -> str:
        return f"MongoDB at {self._db.place}"

    # -- the backend's part of the contract ------------------------------------------------------

    async def check_ready(self) -> None:
        """Update a document that does not exist: a secondary refuses that."""
        await self._running.finish(self._check())

    async def _check(self) -> None:
        async with self._db.translated_errors():
            await self._db.current.update_one({"_id": PROBE}, {"$set": {"fence": 0}})

    async def _do_claim(self, sender_id: str, fence: int, owner: str) -> EventLog:
        older = [{"fence": {"$lt": fence}}, {"fence": fence, "owner": owner}]
        async with self._db.translated_errors():
            await self._db.history()  # creates the index, before the first write
            while True:
                # At once, not one after the other: what another program writes meanwhile is
                # found by the next claim.
                head, beside = await asyncio.gather(
                    self._db.current.find_one_and_update(
                        {"_id": sender_id, "$or": older},
                        {"$set": {"fence": fence, "owner": owner}},
                        return_document=ReturnDocument.AFTER,
                    ),
                    self._documented.exists(sender_id),
                )
                if head is None and not beside:
                    head = await self._begin(sender_id, fence, owner)
                if head is not None:
                    return replace(await self._events(sender_id, head, False), beside=beside)
                fields = {"fence": 1, "owner": 1}
                held = await self._db.current.find_one({"_id": sender_id}, fields)
                if held is None:
                    await self._begin(sender_id)
                # Otherwise another process may have created it in between, with an earlier fence.
                elif held["fence"] > fence or (held["fence"] == fence and held["owner"] != owner):
                    raise StaleFence(sender_id, fence, held["fence"])

    async def _do_write(self, write: Write) -> int:
        async with self._db.translated_errors():
            return await self._replace(write) if write.replace else await self._append(write)

    async def _do_read(self, sender_id: str, full: bool) -> EventLog:
        async with self._db.translated_errors():
            for _ in range(2):  # another process may convert it in between
                head, beside = await asyncio.gather(
                    self._db.current.find_one({"_id": sender_id}),
                    self._documented.exists(sender_id),
                )
                if head is not None:
                    return replace(await self._events(sender_id, head, full), beside=beside)
                _, events = await self._documented.read(sender_id)
                if events:
                    start = 0 if full else layout.last_start(events) or 0
                    return EventLog([event.wire for event in events[start:]], len(events))
        return EventLog([], 0)

    async def _do_keys(self) -> list[str]:
        async with self._db.translated_errors():
            query: Document = {"latest": {"$ne": None}}
            found = {head["_id"] async for head in self._db.current.find(query, {"_id": 1})}
            async for document in self._documented.filled({"sender_id": 1}):
                found.add(str(document["sender_id"]))
        return list(found)

    async def _do_count(self, after_timestamp: float) -> int:
        async with self._db.translated_errors():
            query: Document = {"latest": {"$gte": after_timestamp}}
            found = {head["_id"] async for head in self._db.current.find(query, {"_id": 1})}
            fields = {"sender_id": 1, "events.timestamp": 1}
            async for document in self._documented.filled(fields):
                times = (layout.moment(event) for event in document["events"])
                if max(times) >= after_timestamp:
                    found.add(str(document["sender_id"]))
        return len(found)

    async def _do_delete(self, sender_id: str) -> bool:
        async with self._db.translated_errors():
            # The documented ones first: left alone, they would be converted again.
            old = await self._documented.delete(sender_id)
            head = await self._db.current.find_one_and_delete({"_id": sender_id})
            await (await self._db.history()).delete_many({"sender_id": sender_id})
        return old > 0 or (head is not None and head["latest"] is not None)

    async def _do_connect(self) -> None:
        async with self._db.translated_errors():
            await self._db.history()

    async def _do_close(self) -> None:
        await self._db.close()

    # -- writing -----------------------------------------------------------------------------------

    async def _append(self, write: Write) -> int:
        sender_id, events, expected = write.sender_id, write.events, write.sequence
        while True:
            after = await self._push(write, list(events), expected)
            if after is not None:
                await self._make_room(after)
                return int(after["sequence"])
            head = await self._checked_head(write)
            if head["sequence"] > write.sequence and head["sequence"] != expected:
                # A reply was lost, or another writer appended: compare with the stored events.
                beyond = await self._events_from(sender_id, write.sequence)
                events, expected = write.new_events(beyond.events), beyond.sequence
            elif head["sequence"] != expected:
                expected = head["sequence"]
            else:
                await self._spill(sender_id, keep=False)

    async def _push(
        self, write: Write, events: list[EncodedEvent], expected: int
    ) -> Document | None:
        """Append events as number `expected`; None if the current document has another one."""
        texts = [event.text for event in events]
        bytes_ = layout.size(texts)
        query: Document = {**_guarded(write), "sequence": expected}
        change: Document = {"$inc": {"sequence": len(texts)}, "$set": {}}
        if events:
            change["$max"] = {"latest": layout.latest(events)}
            if write.publish:
                let_wait(change, expected, write.publish)
        place = layout.last_start(events)
        if place is not None:
            change["$set"] = {"session": expected + place, "session_bucket": None}
        made: list[Document] = []
        if bytes_ <= layout.DOCUMENT_BYTES:
            query["tail_bytes"] = {"$lte": layout.DOCUMENT_BYTES - bytes_}
            change["$push"] = {"tail": {"$each": texts}}
            change["$inc"]["tail_bytes"] = bytes_
        else:
            run = layout.new_run()
            made = layout.buckets(write.sender_id, run, expected, texts)
            query["tail_first"] = expected  # no event may be inline before those in buckets
            change["$push"] = {"runs": run}
            change["$set"]["tail_first"] = expected + len(texts)
            if place is not None:
                change["$set"]["session_bucket"] = layout.bucket_of(made, expected + place)
        change["$set"].update({} if write.mark is None else {"mark": write.mark})
        if not change["$set"]:
            del change["$set"]
        return await self._commit(made, query, change)

    async def _replace(self, write: Write) -> int:
        while True:
            head = await self._checked_head(write)
            if "outbox" in head:
                raise EventsWaiting(write.sender_id)
            fields, made = layout.whole(write.sender_id, write.events, head["sequence"])
            query = {**_guarded(write), "sequence": head["sequence"], "outbox": {"$exists": False}}
            change: Document = {"$set": fields}
            fields.update({} if write.mark is None else {"mark": write.mark})
            if write.publish and write.events:
                let_wait(change, head["sequence"], write.publish)
            after = await self._commit(made, query, change)
            if after is not None:
                with contextlib.suppress(PyMongoError):  # committed; this is only cleaning up
                    stale = {"sender_id": write.sender_id, "run": {"$in": head["runs"]}}
                    await (await self._db.history()).delete_many(stale)
                await self._make_room(after)
                return int(after["sequence"])

    async def _commit(
        self, made: list[Document], query: Document, change: Document
    ) -> Document | None:
        """Write the buckets, then the current document, which refers to them."""
        if made:
            await (await self._db.history()).insert_many(made)
        after: Document | None = await self._db.current.find_one_and_update(
            query, change, {"tail": 0}, return_document=ReturnDocument.AFTER
        )
        if made and after is None:
            await self._discard(made)
        return after

    async def _discard(self, made: list[Document]) -> None:
        if made:
            unused = {"sender_id": made[0]["sender_id"], "run": made[0]["run"]}
            await (await self._db.history()).delete_many(unused)

    async def _checked_head(self, write: Write) -> Document:
        """The current document without its events, created if needed; raises StaleFence."""
        while True:
            head = await self._db.current.find_one({"_id": write.sender_id}, {"tail": 0})
            if write.guard is not None:
                held = (head["fence"], head["owner"]) if head else (0, "")
                if held != write.guard:
                    raise StaleFence(write.sender_id, write.guard[0], held[0])
            if head is not None:
                return head
            await self._begin(write.sender_id)

    # -- the tail and the buckets ------------------------------------------------------------------

    async def _make_room(self, head: Document) -> None:
        inline = head["sequence"] - head["tail_first"]
        large = inline >= layout.TAIL_EVENTS or head["tail_bytes"] >= layout.TAIL_BYTES
        # A claim reads all inline events, and does not need those of earlier sessions.
        if large or head["session"] > head["tail_first"]:
            with contextlib.suppress(PyMongoError):  # committed; the next write tries again
                await self._spill(head["_id"], keep=True)

    async def _spill(self, sender_id: str, keep: bool) -> None:
        """Copy inline events to buckets, then remove them, unless the document has changed."""
        head = await self._db.current.find_one({"_id": sender_id})
        if head is None:
            return
        tail, start, session = head["tail"], head["tail_first"], head["session"]
        end = max(start + layout.surplus(tail), session) if keep else start + len(tail)
        change: Document = {}
        history = await self._db.history()
        while start < end:
            piece = next(layout.cut(tail[start - head["tail_first"] : end - head["tail_first"]]))
            bucket = layout.buckets(sender_id, head["runs"][0], start, piece)[0]
            try:
                await history.insert_one(bucket)
            except DuplicateKeyError:  # another process has written the same events
                key = {name: bucket[name] for name in ("sender_id", "run", "first")}
                found = await history.find_one(key)
                if found is None:
                    return
                bucket = found
            if start <= session < start + len(bucket["events"]):
                change["session_bucket"] = start
            start += len(bucket["events"])
        kept = tail[start - head["tail_first"] :]
        change |= {"tail": kept, "tail_first": start, "tail_bytes": layout.size(kept)}
        same = {name: head[name] for name in ("_id", "sequence", "tail_first", "runs")}
        await self._db.current.update_one(same, {"$set": change})

    async def _events(self, sender_id: str, head: Document, full: bool) -> EventLog:
        """The events to which a current document refers."""
        for _ in range(_READS):
            start = head["first"] if full else head["session"]
            bucket = head["first"] if full else head["session_bucket"]
            if bucket is None:
                bucket = start  # the first event of a large write begins a bucket
            events = head["tail"]
            if start >= head["tail_first"]:
                events = events[start - head["tail_first"] :]
            else:
                older = await self._older(sender_id, head, bucket)
                events = None if older is None else older[start - bucket :] + events
            if events is not None:
                history, mark = head.get("born", 0), head.get("mark", "")
                return EventLog(StoredEvents(events), head["sequence"], history, mark=mark)
            # It was replaced or deleted between the two reads.
            found = await self._db.current.find_one({"_id": sender_id})
            if found is None:
                return EventLog([], 0)
            head = found
        raise UnreadableHistory(
            f"MongoDB at {self._db.where}: the history of conversation {sender_id!r} is incomplete: "
            f"{self._db.collection}_history lacks events before number {head['tail_first']}"
        )

    async def _older(self, sender_id: str, head: Document, first: int) -> list[str] | None:
        """Events from number `first`, which begins a bucket, to the inline ones; None if some
        are missing.
        """
        query = {"sender_id": sender_id, "run": {"$in": head["runs"]}}
        query["first"] = {"$gte": first, "$lt": head["tail_first"]}
        texts: list[str] = []
        async for bucket in (await self._db.history()).find(query).sort("first", 1):
            if bucket["first"] != first + len(texts):
                return None
            texts += bucket["events"]
        return texts if first + len(texts) == head["tail_first"] else None

    async def _events_from(self, sender_id: str, number: int) -> EventLog:
        head = await self._db.current.find_one({"_id": sender_id})
        if head is None:
            return EventLog([], 0)
        short = number >= head["session"]
        log = await self._events(sender_id, head, full=not short)
        return EventLog(log.events[max(0, number - log.first) :], log.sequence)

    # -- the documented format ---------------------------------------------------------------------

    async def _begin(self, sender_id: str, fence: int = 0, owner: str = "") -> Document | None:
        """Create the current document, from the documented ones if there are any.

        Returns:
            It; None if another process was faster.

        Args:
            fence, owner: the claim that it is created with, if there are no documented ones.
        """
        documents, events = ([], []) if fence else await self._documented.read(sender_id)
        fields, made = layout.whole(sender_id, events, 0)
        if made:
            await (await self._db.history()).insert_many(made)
        head = {"_id": sender_id, "fence": fence, "owner": owner, "born": now_ms(), **fields}
        try:
            await self._db.current.insert_one(head)
        except DuplicateKeyError:
            await self._discard(made)
            return None
        await self._documented.drop(documents)
        return head

    async def _do_beside(self, sender_id: str) -> tuple[list[EncodedEvent], list[Document]]:
        async with self._db.translated_errors():
            documents, events = await self._documented.read(sender_id)
        return events, documents

    async def _do_drop_beside(self, sender_id: str, seen: list[Document]) -> None:
        async with self._db.translated_errors():
            await self._documented.drop(seen)


def _guarded(write: Write) -> Document:
    query: Document = {"_id": write.sender_id}
    if write.guard is not None:
        query["fence"], query["owner"] = write.guard
    return query
