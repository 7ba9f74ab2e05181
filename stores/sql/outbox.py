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
    """See `Outbox`. The place of an event is its row number.

    One transaction notes and takes many conversations. A row that a turn has locked it skips, and
    waits for it in a transaction of its own: so no other conversation waits with it.
    """

    parallel = 16

    def __init__(self, dialect: str, write: Transaction, read_only: Transaction) -> None:
        self._dialect, self._write, self._read_only = dialect, write, read_only

    async def waiting(self, limit: int, before: int) -> list[str]:
        query = sa.select(_rows.sender_id).where(_free(before)).order_by(_rows.outbox_at)

        def body(connection: sa.Connection) -> list[str]:
            return [schema.text(key) for key in connection.scalars(query.limit(limit))]

        return await self._read_only(body)

    async def take(self, sender_id: str, lease: Lease, limit: int) -> Batch | None:
        return (await self._write(lambda it: self._take(it, [sender_id], lease, limit)))[sender_id]

    async def take_each(
        self, sender_ids: Sequence[str], lease: Lease, limit: int
    ) -> list[Batch | None]:
        return (await self.exchange([], sender_ids, lease, limit))[1]

    async def advance(self, batch: Batch, lease: Lease, to: int) -> bool:
        return (await self._write(lambda it: self._advance(it, [(batch, to)], lease)))[
            batch.sender_id
        ]

    async def advance_each(self, reached: Sequence[tuple[Batch, int]], lease: Lease) -> list[bool]:
        return (await self.exchange(reached, [], lease, 0))[0]

    async def exchange(
        self,
        reached: Sequence[tuple[Batch, int]],
        sender_ids: Sequence[str],
        lease: Lease,
        limit: int,
    ) -> tuple[list[bool], list[Batch | None]]:
        moving = {batch.sender_id for batch, _ in reached}

        def body(connection: sa.Connection) -> tuple[dict[str, bool], dict[str, Batch | None]]:
            skip = _skips_locked(connection.dialect)
            moved = self._advance(connection, reached, lease, skip) if reached else {}
            names = [name for name in sender_ids if name in moved or name not in moving]
            return moved, self._take(connection, names, lease, limit, skip) if names else {}

        moved, taken = await self._write(body)
        for batch, to in reached:
            if batch.sender_id not in moved:
                moved[batch.sender_id] = await self.advance(batch, lease, to)
        for name in sender_ids:
            if name not in taken:
                taken[name] = await self.take(name, lease, limit)
        return [moved[batch.sender_id] for batch, _ in reached], [taken[n] for n in sender_ids]

    # -- in a transaction; with `skip` the answers lack the conversations of locked rows -----------

    def _take(
        self,
        connection: sa.Connection,
        names: Sequence[str],
        lease: Lease,
        limit: int,
        skip: bool = False,
    ) -> dict[str, Batch | None]:
        free = _free(lease.now) | (_rows.relay == lease.relay)
        waits = _rows.sender_id.in_(names) & _rows.outbox.is_not(None) & free
        rows = connection.execute(_locked(waits, skip)).all()
        found: dict[str, Batch | None] = dict.fromkeys(names)
        if rows:
            keys = [schema.text(row.sender_id) for row in rows]
            mine = sa.update(schema.conversations).where(_rows.sender_id.in_(keys))
            connection.execute(mine.values(relay=lease.relay, outbox_at=lease.until))
            found |= self._read(connection, rows, limit)
        missing = [name for name in names if found[name] is None]
        for name in self._ids(connection, waits) if skip and missing else ():
            if found[name] is None:
                del found[name]
        return found

    def _ids(self, connection: sa.Connection, condition: sa.ColumnElement[bool]) -> list[str]:
        found = connection.scalars(sa.select(_rows.sender_id).where(condition))
        return [schema.text(key) for key in found]

    def _read(self, connection: sa.Connection, rows: Sequence[Any], limit: int) -> dict[str, Batch]:
        """The waiting events of conversations with these rows, up to the last counted one."""
        batches = {}
        few = [row for row in rows if row.sequence - row.outbox <= limit]
        if self._dialect in ("mysql", "mariadb"):  # no index compares both ids
            few = []
        found = {id(row): list[Any]() for row in few}
        if few:
            by_name = {schema.text(row.sender_id): found[id(row)] for row in few}
            for event in connection.execute(_events_of(list(by_name))):
                by_name[schema.text(event.sender_id)].append(event)
        for row in rows:
            name = schema.text(row.sender_id)
            if id(row) not in found:
                ids = schema.events.c.id
                query = schema.tail(name, self._dialect).order_by(ids).limit(limit)
                query = query.where(ids > row.outbox_id, ids <= row.last_id)
                found[id(row)] = list(connection.execute(query))
            batches[name] = _batch(name, row, found[id(row)])
        return batches

    def _advance(
        self,
        connection: sa.Connection,
        reached: Sequence[tuple[Batch, int]],
        lease: Lease,
        skip: bool = False,
    ) -> dict[str, bool]:
        names = [batch.sender_id for batch, _ in reached]
        ours = _rows.sender_id.in_(names) & (_rows.relay == lease.relay)
        rows = {schema.text(row.sender_id): row for row in connection.execute(_locked(ours, skip))}
        moved = dict.fromkeys(names, False)
        drained = []
        for batch, to in reached:
            row = rows.get(batch.sender_id)
            if row is None or (row.outbox, row.born) != (batch.first, batch.history):
                continue
            if row.sequence <= to:
                drained.append(batch.sender_id)
                continue
            rest: dict[str, Any] = {"outbox": to, "outbox_at": lease.until}
            if batch.places[: to - batch.first]:
                rest["outbox_id"] = batch.places[to - batch.first - 1]
            change = sa.update(schema.conversations).where(_rows.sender_id == batch.sender_id)
            connection.execute(change.values(**rest))
            moved[batch.sender_id] = True
        if drained:
            change = sa.update(schema.conversations).where(_rows.sender_id.in_(drained))
            connection.execute(change.values(**_NOTHING))
        for name in self._ids(connection, ours) if skip and len(rows) < len(names) else ():
            if name not in rows:
                del moved[name]
        return moved

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


def _skips_locked(dialect: Any) -> bool:
    """Whether the server knows SKIP LOCKED. SQLite needs none: its transactions do not overlap."""
    if dialect.name in ("mysql", "mariadb"):
        return bool(dialect.server_version_info >= ((10, 6) if dialect.is_mariadb else (8, 0, 1)))
    return bool(dialect.name != "sqlite")


def _locked(condition: sa.ColumnElement[bool], skip: bool) -> sa.Select[Any]:
    """The rows, locked in one order, so that two relays cannot wait for each other."""
    ordered = schema.unmarked.where(condition).order_by(_rows.sender_id)
    return ordered.with_for_update(skip_locked=skip)


def _events_of(keys: Sequence[str]) -> sa.Select[Any]:
    """All waiting events of conversations, in order."""
    events = schema.events.c
    waits = (events.id > _rows.outbox_id) & (events.id <= _rows.last_id)
    query = sa.select(_rows.sender_id, events.id, events.data).where(_rows.sender_id.in_(keys))
    return query.where(events.sender_id == _rows.sender_id, waits).order_by(events.id)


def _batch(name: str, row: Any, found: Sequence[Any]) -> Batch:
    """The first of the events, as far as they fit a batch."""
    events, places, size = [], [], 0
    for event in found:
        events.append(StoredEvent(event.data))
        places.append(event.id)
        size += len(event.data)
        if size > _BATCH_TEXT:
            break
    return Batch(name, row.born, row.outbox, row.sequence, events, places)


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
