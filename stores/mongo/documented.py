"""Documents of the documented format in `<collection>`: one a conversation, with all its events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from ticketlock.errors import UnreadableHistory
from ticketlock.events.codec import EncodedEvent, encode_events

from . import layout
from .database import Database, Document

_WITH_EVENTS: Document = {"events.0": {"$exists": True}}


class Documented:
    """What another program has stored, read and removed."""

    def __init__(self, db: Database) -> None:
        self._db = db

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
        """Whether a conversation has documents with events."""
        query = {**_query(sender_id), **_WITH_EVENTS}
        return await self._db.documented.find_one(query, {"_id": 1}) is not None

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
    # Old versions stored an id of digits as a number.
    ids: list[Any] = [sender_id]
    if sender_id.isascii() and sender_id.isdigit() and int(sender_id) < 2**63:
        ids.append(int(sender_id))
    return {"sender_id": {"$in": ids}}
