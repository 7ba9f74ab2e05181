"""The outbox of the SQL store: some columns in the row of each conversation."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa

from ticketlock.events.stored import StoredEvent
from ticketlock.tracker.outbox import VOID_MS, Backlog, Batch, DeadLetter, Lease, Outbox, now_ms

from . import schema

T = TypeVar("T")

_rows = schema.conversations.c
_letters = schema.dead_letters.c

#: Characters of JSON from which on no further event is added to a batch.
_BATCH_TEXT = 1_000_000

#: Columns that are all NULL if no event waits.
_NOTHING: dict[str, Any] = dict.fromkeys(
    ("outbox", "outbox_id", "outbox_since", "outbox_at", "relay")
)


class Transaction(Protocol):
    """Runs a function in a transaction, and translates the driver's errors."""

    def __call__(self, body: Callable[[sa.Connection], T]) -> Awaitable[T]: ...


class SQLOutbox(Outbox):
    """See `Outbox`. The place of an event is its row number."""

    def __init__(self, dialect: str, write: Transaction, read_only: Transaction) -> None:
        self._dialect, self._write, self._read_only = dialect, write, read_only
        # SQLite has one writer at a time, and turns come first.
        self.parallel = 1 if dialect == "sqlite" else 4

    async def waiting(self, limit: int, before: int) -> list[str]:
        query = sa.select(_rows.sender_id).where(_free(before)).order_by(_rows.outbox_at)

        def body(connection: sa.Connection) -> list[str]:
            return [schema.text(key) for key in connection.scalars(query.limit(limit))]

        return await self._read_only(body)

    async def take(self, sender_id: str, lease: Lease, limit: int) -> Batch | None:
        mine = (_rows.sender_id == sender_id) & _rows.outbox.is_not(None)
        change = (
            sa.update(schema.conversations)
            .where(mine, _free(lease.now) | (_rows.relay == lease.relay))
            .values(relay=lease.relay, outbox_at=lease.until)
        )

        def body(connection: sa.Connection) -> Batch | None:
            if not connection.execute(change).rowcount:
                return None
            row = connection.execute(sa.select(schema.conversations).where(mine)).one()
            return self._read(connection, sender_id, row, limit)

        return await self._write(body)

    def _read(self, connection: sa.Connection, sender_id: str, row: Any, limit: int) -> Batch:
        """The waiting events of the conversation with this row, up to the last counted one."""
        ids = schema.events.c.id
        query = schema.tail(sender_id, self._dialect).order_by(ids).limit(limit)
        query = query.where(ids > row.outbox_id, ids <= row.last_id)
        events, places, size = [], [], 0
        for found in connection.execute(query):
            events.append(StoredEvent(found.data))
            places.append(found.id)
            size += len(found.data)
            if size > _BATCH_TEXT:
                break
        return Batch(sender_id, row.born, row.outbox, row.sequence, events, places)

    async def advance(self, batch: Batch, lease: Lease, to: int) -> bool:
        ours = sa.update(schema.conversations).where(
            _rows.sender_id == batch.sender_id,
            _rows.relay == lease.relay,
            _rows.outbox == batch.first,
            _rows.born == batch.history,
        )
        rest: dict[str, Any] = {"outbox": to, "outbox_at": lease.until}
        if batch.places[: to - batch.first]:
            rest["outbox_id"] = batch.places[to - batch.first - 1]

        def body(connection: sa.Connection) -> bool:
            drained = ours.where(_rows.sequence <= to).values(**_NOTHING)
            if connection.execute(drained).rowcount:
                return False
            return bool(connection.execute(ours.values(**rest)).rowcount)

        return await self._write(body)

    async def release(self, sender_id: str, relay: str) -> None:
        change = (
            sa.update(schema.conversations)
            .where(_rows.sender_id == sender_id, _rows.relay == relay)
            .values(relay=None, outbox_at=now_ms())
        )

        def body(connection: sa.Connection) -> None:
            connection.execute(change)

        await self._write(body)

    async def backlog(self) -> Backlog:
        query = sa.select(
            sa.func.count(),
            sa.func.coalesce(sa.func.sum(_rows.sequence - _rows.outbox), 0),
            sa.func.min(_rows.outbox_since),
        ).where(_rows.outbox_at.is_not(None))  # the column that has an index

        def body(connection: sa.Connection) -> Backlog:
            count, events, since = connection.execute(query).one()
            return Backlog(int(count), int(events), since)

        return await self._read_only(body)

    async def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        def body(connection: sa.Connection) -> None:
            for letter in letters:
                connection.execute(sa.delete(schema.dead_letters).where(_named(letter)))
                connection.execute(sa.insert(schema.dead_letters).values(_values(letter)))

        await self._write(body)

    async def dead_letters(self, limit: int = 1000) -> list[DeadLetter]:
        order = (_letters.sender_id, _letters.history, _letters.sequence)
        query = sa.select(schema.dead_letters).order_by(*order).limit(limit)

        def body(connection: sa.Connection) -> list[DeadLetter]:
            return [
                DeadLetter(
                    schema.text(row.sender_id), row.history, row.sequence,
                    json.loads(row.data), json.loads(row.reason), row.at,
                )
                for row in connection.execute(query)
            ]  # fmt: skip

        return await self._read_only(body)

    async def remove_dead_letter(self, letter: DeadLetter) -> bool:
        def body(connection: sa.Connection) -> bool:
            gone = connection.execute(sa.delete(schema.dead_letters).where(_named(letter)))
            return bool(gone.rowcount)

        return await self._write(body)


def _free(before: int) -> sa.ColumnElement[bool]:
    """The condition that no relay has a valid lease."""
    return (_rows.outbox_at <= before) | (_rows.outbox_at > now_ms() + VOID_MS)


def _named(letter: DeadLetter) -> sa.ColumnElement[bool]:
    return (
        (_letters.sender_id == letter.sender_id)
        & (_letters.history == letter.history)
        & (_letters.sequence == letter.sequence)
    )


def _values(letter: DeadLetter) -> dict[str, Any]:
    return {
        "sender_id": letter.sender_id, "history": letter.history, "sequence": letter.sequence,
        # JSON in ASCII, as for events: safe in any character set of a database.
        "data": json.dumps(dict(letter.event)), "reason": json.dumps(letter.reason), "at": letter.at,
    }  # fmt: skip
