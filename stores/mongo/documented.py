"""Documents of the documented format in `<collection>`: one a conversation, with all its events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from ticketlock.errors import UnreadableHistory
from ticketlock.events.codec import EncodedEvent, encode_events

from . import layout
from .database import Database, Document

#: Conversations that one request asks for.
LOOKUPS = 500

_WITH_EVENTS: Document = {"events.0": {"$exists": True}}


class Documented:
    """What another program has stored, read and removed."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked: list[tuple[str, asyncio.Future[bool]]] = []
        self._looking: asyncio.Task[None] | None = None

    async def read(self, sender_id: str) -> tuple[list[Document], list[EncodedEvent]]:
        """The documents of a conversation (races create several) and all events."""
        query = {**_query(sender_id), **_WITH_EVENTS}
        documents = await self._db.documented.find(query, {"events": 1}).sort("_id", 1).to_list()
        try:
            return documents, encode_events(
                layout.plain_event(event) for document in documents for event in document["events"]
            )
        except (ValueError, TypeError) as error:
            raise UnreadableHistory(
                f"MongoDB at {self._db.where}: the documented tracker of {sender_id!r} cannot be "
                f"converted: {error}; repair it in {self._db.collection}"
            ) from error

    async def exists(self, sender_id: str) -> bool:
        """Whether a conversation has documents with events.

        Those who ask in one round of the event loop, or while a request is under way, share the
        next request.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._asked, self._looking = loop, [], None
        answer: asyncio.Future[bool] = loop.create_future()
        self._asked.append((sender_id, answer))
        if self._looking is None:
            self._looking = loop.create_task(self._look())
        return await answer

    async def _look(self) -> None:
        try:
            while self._asked:
                some, self._asked = self._asked[:LOOKUPS], self._asked[LOOKUPS:]
                await self._answer(some)
        finally:
            self._looking = None

    async def _answer(self, asked: Sequence[tuple[str, asyncio.Future[bool]]]) -> None:
        ids = [one for sender_id, _ in asked for one in _ids(sender_id)]
        query = {"sender_id": {"$in": ids}, **_WITH_EVENTS}
        error: Exception | None = None
        found: set[str] = set()
        try:
            cursor = self._db.documented.find(query, {"sender_id": 1})
            found = {str(document["sender_id"]) async for document in cursor}
        except Exception as failed:  # noqa: BLE001  # it is raised by those who asked
            error = failed
        for sender_id, answer in asked:
            if answer.done():  # who asked was cancelled
                continue
            if error is None:
                answer.set_result(sender_id in found)
            else:
                answer.set_exception(error)

    def filled(self, fields: Document) -> AsyncIterator[Document]:
        """These fields of all documents with events."""
        types = {"sender_id": {"$type": ["string", "int", "long", "double"]}}
        return self._db.documented.find({**_WITH_EVENTS, **types}, fields)

    async def drop(self, documents: list[Document]) -> None:
        """Remove documents, but not one to which another program has appended meanwhile."""
        for document in documents:
            size = {"$size": len(document["events"])}
            await self._db.documented.delete_one({"_id": document["_id"], "events": size})

    async def delete(self, sender_id: str) -> int:
        """Remove all documents of a conversation; how many there were."""
        return (await self._db.documented.delete_many(_query(sender_id))).deleted_count


def _query(sender_id: str) -> Document:
    return {"sender_id": {"$in": _ids(sender_id)}}


def _ids(sender_id: str) -> list[Any]:
    # Old versions stored an id of digits as a number.
    if sender_id.isascii() and sender_id.isdigit() and int(sender_id) < 2**63:
        return [sender_id, int(sender_id)]
    return [sender_id]
