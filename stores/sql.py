"""Conversations in an SQL database: SQLite, PostgreSQL, MariaDB and MySQL, Oracle.

Needs the extra: pip install "ticketlock[sql]"; with it `postgresql`, `mysql` or `oracle`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ticketlock.errors import EventsWaiting, StaleFence, TrackerStoreError
from ticketlock.event_codec import EncodedEvent
from ticketlock.events import starts_session
from ticketlock.fenced_store import FencedTrackerStore, History, Write
from ticketlock.settings import Section

from . import _sql_engine as engines
from . import _sql_errors as errors
from . import _sql_schema as schema
from ._sql_outbox import SQLOutbox
from ._sql_settings import SQLSettings

T = TypeVar("T")
Row = Any  # sa.Row with the columns of a query

#: How often an operation is begun, the first time included, when it lost a race or its
#: connection was an old, broken one. All of them may be repeated without harm.
TRIES = 4


class SQLTrackerStore(FencedTrackerStore):
    """The documented `events` table, and one row a conversation that holds its fence.

    Every change first locks that row, so the order of a conversation's rows is the order of
    appending, and its n-th row has sequence number n.
    """

    def __init__(
        self,
        domain: Any = None,
        event_broker: Any = None,
        *,
        where: str = "tracker_store",
        **values: Any,
    ) -> None:
        super().__init__(domain, event_broker)
        self.settings = SQLSettings.read(Section(values, where))
        self._dialect = self.settings.dialect
        # SQLite has no limit of its own; what MySQL takes in one packet is its limit.
        self.max_id_length = None if self._dialect == "sqlite" else schema.MAX_NAME
        self.outbox = SQLOutbox(self)
        self._engine: AsyncEngine | None = None
        self._opening = asyncio.Lock()
        # One writer at a time is all that SQLite can do: better to queue than to poll.
        self._writing: Any = asyncio.Lock() if self._dialect == "sqlite" else nullcontext()

    async def _do_connect(self) -> None:
        await self._translated(self._open())

    async def _do_close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dispose()

    async def _open(self) -> AsyncEngine:
        """The engine; made, with the tables, when it is first wanted."""
        async with self._opening:
            if self._engine is None:
                if self.settings.login_db:
                    await engines.create_database(self.settings)
                engine = engines.make_engine(self.settings)
                try:
                    await engines.prepare(engine, self.settings)
                except BaseException:
                    await engine.dispose()
                    raise
                self._engine = engine
            return self._engine

    # -- running something ---------------------------------------------------------------------

    async def _write(self, body: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run `body` in a transaction, again where that helps."""

        async def once() -> T:
            engine = await self._open()
            async with self._writing, engine.begin() as connection:
                return await body(connection)

        return await self._translated(self._repeated(once))

    async def _read_only(self, body: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        async def once() -> T:
            engine = await self._open()
            async with engine.connect() as connection:
                await connection.execution_options(ticketlock_read=True)
                return await body(connection)

        return await self._translated(self._repeated(once))

    async def _repeated(self, once: Callable[[], Awaitable[T]]) -> T:
        for turn in range(1, TRIES):
            try:
                return await once()
            except sa.exc.DBAPIError as error:
                if not errors.may_try_again(error):
                    raise
                if errors.waited_too_long(error):
                    await engines.end_frozen(await self._open())
            await asyncio.sleep(0.01 * turn)
        return await once()

    async def _translated(self, operation: Coroutine[Any, Any, T]) -> T:
        if self._dialect == "sqlite":
            # Stopped half way, a statement keeps its transaction open behind a closed
            # connection. All that it waits for has a limit: it ends by itself.
            operation = self._running.finish(operation)
        try:
            return await asyncio.wait_for(operation, self.settings.timeout)
        except (sa.exc.DBAPIError, sa.exc.TimeoutError, OSError, asyncio.TimeoutError) as error:
            raise errors.translate(error, self.settings) from error

    # -- the operations ----------------------------------------------------------------------------

    async def _do_claim(self, sender_id: str, fence: int, owner: str) -> History:
        async def body(connection: AsyncConnection) -> History:
            row = await self._lock(connection, sender_id)
            if row is None:
                await connection.execute(schema.add_conversation(sender_id, self._dialect))
                row = await self._lock(connection, sender_id)
            if row.fence > fence or (row.fence == fence and row.owner != owner):
                raise StaleFence(sender_id, fence, row.fence)
            found = await self._latest(connection, sender_id, row)
            await self._note(connection, sender_id, found, fence=fence, owner=owner)
            return found.history

        return await self._write(body)

    async def _do_write(self, write: Write) -> int:
        async def body(connection: AsyncConnection) -> int:
            row = await self._lock(connection, write.sender_id)
            stored = (row.fence, row.owner) if row else (0, None)
            if write.guard is not None and write.guard != stored:
                raise StaleFence(write.sender_id, write.guard[0], stored[0])
            if row is None:
                await connection.execute(schema.add_conversation(write.sender_id, self._dialect))
                row = await self._lock(connection, write.sender_id)
            if write.replace and row.outbox is not None:
                raise EventsWaiting(write.sender_id)
            place = await self._place(connection, write.sender_id, row)
            return await self._change(connection, write, place, row.outbox is not None)

        return await self._write(body)

    async def _change(
        self, connection: AsyncConnection, write: Write, before: Place, waits: bool
    ) -> int:
        """Insert what is new, and count it; the only place that writes events.

        Args:
            waits: earlier events wait to be published.
        """
        sender_id, new = write.sender_id, write.events
        if write.replace:
            await connection.execute(
                sa.delete(schema.events).where(schema.of(sender_id, self._dialect))
            )
            before = Place(before.sequence, 0, 0)  # SQLite may use the row numbers again
        elif before.sequence > write.sequence:
            query = schema.tail(sender_id, self._dialect).order_by(schema.events.c.id.desc())
            rows = await connection.execute(query.limit(before.sequence - write.sequence))
            new = write.new_events([_event(row) for row in reversed(rows.all())])
        if new:
            await connection.execute(
                schema.add_events(self._dialect), [_values(sender_id, event) for event in new]
            )
        after = await self._counted(connection, sender_id, before)
        outbox = {}
        if new and write.publish and not waits:
            outbox = {"outbox": before.sequence, "outbox_id": before.last_id}
            outbox |= {"outbox_since": write.publish, "outbox_at": write.publish}
        await self._note(connection, sender_id, after, **outbox)
        return after.sequence

    async def _do_read(self, sender_id: str, full: bool) -> History:
        async def body(connection: AsyncConnection) -> History:
            mine = schema.conversations.c.sender_id == sender_id
            query = sa.select(schema.conversations).where(mine)
            row = (await connection.execute(query)).first()
            while True:
                found = await self._latest(connection, sender_id, row, full)
                before, row = row, (await connection.execute(query)).first()
                # Else these events may be of a life that began between the statements.
                if _born(row) == _born(before):
                    return found.history

        return await self._read_only(body)

    async def _do_keys(self) -> list[str]:
        async def body(connection: AsyncConnection) -> list[str]:
            column = schema.key_column(self._dialect)
            query = sa.select(column).select_from(schema.events).distinct()
            found = await connection.scalars(query)
            return [schema.text(key) for key in found]

        return await self._read_only(body)

    async def _do_delete(self, sender_id: str) -> bool:
        async def body(connection: AsyncConnection) -> bool:
            await self._lock(connection, sender_id)
            there = await connection.scalar(
                schema.tail(sender_id, self._dialect).with_only_columns(sa.func.count())
            )
            await connection.execute(
                sa.delete(schema.events).where(schema.of(sender_id, self._dialect))
            )
            mine = schema.conversations.c.sender_id == sender_id
            await connection.execute(sa.delete(schema.conversations).where(mine))
            return bool(there)

        return await self._write(body)

    async def _do_count(self, after_timestamp: float) -> int:
        async def body(connection: AsyncConnection) -> int:
            key = schema.key_column(self._dialect)
            since = sa.func.coalesce(schema.events.c.timestamp, 0.0) >= after_timestamp
            query = sa.select(sa.func.count(sa.distinct(key))).select_from(schema.events)
            return int(await connection.scalar(query.where(since)) or 0)

        return await self._read_only(body)

    # -- their parts ---------------------------------------------------------------------------------

    async def _lock(self, connection: AsyncConnection, sender_id: str) -> Row:
        return (await connection.execute(schema.locked(sender_id))).first()

    async def _place(self, connection: AsyncConnection, sender_id: str, row: Row) -> Place:
        """Where our count ends; a row that has just been made knows nothing yet."""
        place = Place(row.sequence, row.last_id, row.session_id)
        if place.last_id:
            return place
        return await self._counted(connection, sender_id, place)

    async def _counted(self, connection: AsyncConnection, sender_id: str, place: Place) -> Place:
        """The place after the rows behind `place`, whoever wrote them."""
        query = schema.behind(sender_id, place.last_id, self._dialect)
        more = (await connection.execute(query)).one()
        return Place(
            place.sequence + more.count,
            max(place.last_id, more.last_id),
            more.session_id or place.session_id,
        )

    async def _latest(
        self, connection: AsyncConnection, sender_id: str, row: Row, full: bool = False
    ) -> Place:
        """The place after all rows there are, with the events of the latest session, or all."""
        place = Place(row.sequence, row.last_id, row.session_id) if row else Place(0, 0, 0)
        if not place.last_id and not full:
            place = await self._counted(connection, sender_id, place)
        query = schema.tail(sender_id, self._dialect).order_by(schema.events.c.id)
        first = 0 if full else place.session_id
        rows = (await connection.execute(query.where(schema.events.c.id >= first))).all()
        events = [_event(row) for row in rows]
        sequence = place.sequence + sum(row.id > place.last_id for row in rows)
        # A session that another program has begun meanwhile is behind our count.
        starts = [index for index, event in enumerate(events) if starts_session(event)]
        if starts and not full:
            events = events[starts[-1] :]
        session_id = rows[starts[-1]].id if starts else place.session_id
        last_id = max(place.last_id, rows[-1].id if rows else 0)
        return Place(sequence, last_id, session_id, History(events, sequence, _born(row)))

    async def _note(
        self, connection: AsyncConnection, sender_id: str, place: Place, **columns: Any
    ) -> None:
        await connection.execute(
            sa.update(schema.conversations)
            .where(schema.conversations.c.sender_id == sender_id)
            .values(
                sequence=place.sequence,
                last_id=place.last_id,
                session_id=place.session_id,
                **columns,
            )
        )


@dataclass(frozen=True)
class Place:
    """Up to where a conversation has been counted; the columns of its row, and maybe events."""

    sequence: int
    last_id: int
    session_id: int
    history: History = field(default_factory=lambda: History((), 0))


def _born(row: Row) -> int:
    """When a conversation's row was made; 0 while there is none."""
    return int(row.born) if row else 0


def _event(row: Row) -> Mapping[str, Any]:
    """The event of a row; a row that holds none is an error that names it."""
    try:
        event = json.loads(row.data)
    except (TypeError, ValueError) as error:
        raise TrackerStoreError(f"table events, id {row.id}: data is not JSON: {error}") from error
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        raise TrackerStoreError(f"table events, id {row.id}: data is not an event: {row.data:.100}")
    return event


def _values(sender_id: str, event: EncodedEvent) -> dict[str, Any]:
    return {
        "sender_id": sender_id,
        "type_name": _cut(event.type_name),
        "timestamp": event.timestamp,
        "intent_name": _cut(event.intent_name),
        "action_name": _cut(event.action_name),
        "data": event.text,
    }


def _cut(name: str | None) -> str | None:
    """What a column for searching holds of a name; the event itself is in `data`."""
    return name if name is None else name.replace("\0", "")[: schema.MAX_NAME]
