"""Conversations in an SQL database: SQLite, PostgreSQL, MariaDB and MySQL, Oracle.

Needs the extra: pip install "ticketlock[sql]"; with it `postgresql`, `mysql` or `oracle`.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from ticketlock import process
from ticketlock.aio.backoff import Backoff
from ticketlock.aio.home import Home
from ticketlock.aio.running import within
from ticketlock.errors import EventsWaiting, StaleFence
from ticketlock.events import starts_session
from ticketlock.events.codec import EncodedEvent
from ticketlock.plain_json import weight
from ticketlock.settings.section import Section
from ticketlock.settings.store_keys import SQLStoreKeys
from ticketlock.tracker.fenced import EventLog, FencedTrackerStore, Write
from ticketlock.tracker.store import PROBE

from . import charset, errors, marks, packets, schema, together
from . import engine as engines
from .conversation import Append, Claim, Place, history
from .opening import doubt, opened, read, write
from .outbox import SQLOutbox
from .rows import events as stored_events
from .settings import SQLSettings
from .sqlite import SQLiteEngine
from .together import Turns
from .turns import SQLiteTurns

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .opening import Engine

T = TypeVar("T")
Row = Any  # sa.Row with the columns of a query

#: Attempts at an operation that lost a race or found a broken connection. Every operation may be
#: repeated safely.
TRIES = 4


class SQLTrackerStore(FencedTrackerStore):
    """The documented `events` table, and a row per conversation with its fence.

    Every change locks that row first, so the events of a conversation are numbered in the order
    of their rows.

    Args:
        values: the keys of `SQLStoreKeys`, see docs/reference/endpoints.md.
        where: how error messages name these settings.
    """

    def __init__(
        self,
        domain: Any = None,
        event_broker: Any = None,
        *,
        where: str = "tracker_store",
        **values: Unpack[SQLStoreKeys],
    ) -> None:
        super().__init__(domain, event_broker)
        self.settings = SQLSettings.read(Section(values, where), SQLStoreKeys)
        self._where = where
        self._dialect = self.settings.dialect
        self.shared = not self.settings.in_memory
        # SQLite's columns have no limit.
        self.max_id_length = None if self._dialect == "sqlite" else schema.MAX_NAME
        self.outbox = SQLOutbox(self._dialect, self._write, self._read_only)
        self._engine: Engine | None = None
        self._together: Turns | SQLiteTurns | None = None
        self._opening, self._home = asyncio.Lock(), Home()
        self._fit: Callable[[str], str] = charset.same
        self._looked_for_marks = False

    @property
    def histories_at(self) -> str:
        url = self.settings.url
        if self._dialect == "sqlite" and url.database:
            return f"SQLite file {os.path.abspath(url.database)}"
        return self.settings.address

    def spare_files(self) -> None:
        """Create no file when the store is used; for a check of settings."""
        self.settings = self.settings.sparing_files()

    def require_existing(self) -> None:
        """Create no database when the store is used. Raises ConfigurationError for a missing file."""
        self.settings = self.settings.existing(self._where)

    async def _do_connect(self) -> None:
        await self._translated(self._open())

    async def _do_close(self) -> None:
        self._follow_loop()
        engine = self._engine
        self._begin_anew()
        if engine is not None:
            await engine.dispose()

    def forked(self) -> None:
        super().forked()
        process.leave_to_parent(self._engine, self._together, self._opening)
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._engine = self._together = None
        self._opening, self._looked_for_marks = asyncio.Lock(), False

    def _follow_loop(self) -> None:
        """Begin anew if the loop of the connections is closed; SQLite has threads of its own."""
        if self._dialect != "sqlite" and self._home.left():
            engines.leave(self._engine)
            self._begin_anew()

    async def _open(self) -> Engine:
        """The engine; created, with the tables, at the first use."""
        if self._engine is not None:
            return self._engine
        async with self._opening:
            if self._engine is None:
                self._engine, self._fit = await opened(self.settings)
            return self._engine

    async def _look_for_marks(self) -> None:
        engine = await self._open()
        async with self._opening:
            if not self._looked_for_marks:
                self.keeps_marks &= await marks.prepare(engine, self.settings)
                self._together = together.turns(engine, self.settings, self.keeps_marks)
                self._looked_for_marks = True

    # -- transactions --------------------------------------------------------------------------

    async def _write(self, body: Callable[[sa.Connection], T], size: int = 0) -> T:
        """Run `body` in a transaction, and repeat it after errors that may pass.

        Args:
            size: about how many bytes it writes.
        """
        return await self._translated(self._repeated(lambda: self._alone(body, size)))

    async def _alone(self, body: Callable[[sa.Connection], T], size: int = 0) -> T:
        return await write(await self._open(), body, size)

    async def _read_only(self, body: Callable[[sa.Connection], T]) -> T:
        async def once() -> T:
            return await read(await self._open(), body)

        return await self._translated(self._repeated(once))

    async def _repeated(self, once: Callable[[], Awaitable[T]]) -> T:
        self._follow_loop()
        backoff = Backoff(0.01, 0.04)
        for _ in range(1, TRIES):
            try:
                return await once()
            except sa.exc.DBAPIError as error:
                if not errors.may_try_again(error):
                    raise
                engine = await self._open()
                if errors.waited_too_long(error) and not isinstance(engine, SQLiteEngine):
                    await engines.end_frozen(engine)
            await asyncio.sleep(backoff.next())
        return await once()

    async def _translated(self, operation: Coroutine[Any, Any, T]) -> T:
        try:
            return await within(self.settings.timeout, operation)
        except errors.TROUBLE as error:
            if isinstance(error, asyncio.TimeoutError):
                doubt(self._engine)
            raise errors.translate(error, self.settings) from error

    # -- the operations ----------------------------------------------------------------------------

    async def check_ready(self) -> None:
        """Update a row that does not exist: a server or user that is read-only refuses that."""
        values = {"conversation": PROBE, "sequence": 0}
        await self._running.finish(
            self._write(lambda connection: connection.execute(schema.note, values).rowcount)
        )

    async def _do_claim(self, sender_id: str, fence: int, owner: str) -> EventLog:
        def body(connection: sa.Connection) -> EventLog:
            values = {"conversation": sender_id, "claimed": fence, "claimant": owner}
            while (row := _claimed(connection, values, self.keeps_marks)) is None:
                held = self._lock(connection, sender_id)
                if held is None:
                    begun = schema.begun(sender_id)
                    connection.execute(schema.add_conversation(self._dialect), begun)
                elif held.fence > fence or (held.fence == fence and held.owner != owner):
                    raise StaleFence(sender_id, fence, held.fence)
            found = self._latest(connection, sender_id, row)
            if found != Place(row.sequence, row.last_id, row.session_id, found.log):
                self._note(connection, sender_id, found)
            return replace(found.log, mark=marks.text(row)) if self.keeps_marks else found.log

        async def once() -> EventLog:
            if self._together is not None:
                claim = Claim(sender_id, fence, owner)
                if (found := await self._together.claim(claim)) is not None:
                    return found.log(marks.text(found))
            return await self._alone(body)

        if not self._looked_for_marks:
            await self._translated(self._repeated(self._look_for_marks))
        return await self._translated(self._repeated(once))

    async def _do_write(self, write: Write) -> int:
        def body(connection: sa.Connection) -> int:
            row = self._lock(connection, write.sender_id)
            stored = (row.fence, row.owner) if row else (0, None)
            if write.guard is not None and write.guard != stored:
                raise StaleFence(write.sender_id, write.guard[0], stored[0])
            if row is None:
                connection.execute(
                    schema.add_conversation(self._dialect), schema.begun(write.sender_id)
                )
                row = self._lock(connection, write.sender_id)
            if write.replace and row.outbox is not None:
                raise EventsWaiting(write.sender_id)
            place = self._place(connection, write.sender_id, row)
            return self._change(connection, write, place, row.outbox is not None)

        async def once() -> int:
            if self._together is not None:
                rows = [self._values(write.sender_id, event) for event in write.events]
                append = Append(write.sender_id, write, rows)
                if (done := await self._together.write(append)) is not None:
                    return done
            return await self._alone(body, sum(len(event.text) for event in write.events))

        return await self._translated(self._repeated(once))

    def _change(self, connection: sa.Connection, write: Write, before: Place, waits: bool) -> int:
        """Insert the new events and update the conversation's row.

        Args:
            waits: whether earlier events wait to be published.
        """
        sender_id, new = write.sender_id, write.events
        if write.replace:
            connection.execute(schema.drop(self._dialect), {"conversation": sender_id})
            before = Place(before.sequence, 0, 0)  # SQLite may reuse the row numbers
        elif before.sequence > write.sequence:
            values = {"conversation": sender_id, "limit": before.sequence - write.sequence}
            rows = connection.execute(schema.latest(self._dialect), values)
            new = write.new_events(stored_events(rows.all()[::-1]))
        fresh = [self._values(sender_id, event) for event in new]
        for part in packets.split(connection.info, fresh):
            connection.execute(schema.add_events(self._dialect), part)
        after = self._counted(connection, sender_id, before)
        more: dict[str, Any] = {}
        if write.mark is not None and self.keeps_marks:
            more["mark"] = json.dumps(write.mark)
        if new and write.publish and not waits:
            more |= {"outbox": before.sequence, "outbox_id": before.last_id}
            more |= {"outbox_since": write.publish, "outbox_at": write.publish}
        self._note(connection, sender_id, after, **more)
        return after.sequence

    async def _do_read(self, sender_id: str, full: bool) -> EventLog:
        def body(connection: sa.Connection) -> EventLog:
            row = connection.execute(schema.row, {"conversation": sender_id}).first()
            while True:
                found, before = self._latest(connection, sender_id, row, full), row
                row = connection.execute(schema.row, {"conversation": sender_id}).first()
                # Otherwise the conversation was deleted and created again between the statements.
                if history(row) == history(before):
                    return found.log

        return await self._read_only(body)

    async def _do_keys(self) -> list[str]:
        def body(connection: sa.Connection) -> list[str]:
            column = schema.key_column(self._dialect)
            found = connection.scalars(sa.select(column).select_from(schema.events).distinct())
            return [schema.text(key) for key in found]

        return await self._read_only(body)

    async def _do_delete(self, sender_id: str) -> bool:
        def body(connection: sa.Connection) -> bool:
            self._lock(connection, sender_id)
            there = connection.scalar(
                schema.tail(sender_id, self._dialect).with_only_columns(sa.func.count())
            )
            connection.execute(schema.drop(self._dialect), {"conversation": sender_id})
            connection.execute(schema.forget, {"conversation": sender_id})
            return bool(there)

        return await self._write(body)

    async def _do_count(self, after_timestamp: float) -> int:
        def body(connection: sa.Connection) -> int:
            key = schema.key_column(self._dialect)
            since = sa.func.coalesce(schema.events.c.timestamp, 0.0) >= after_timestamp
            query = sa.select(sa.func.count(sa.distinct(key))).select_from(schema.events)
            return int(connection.scalar(query.where(since)) or 0)

        return await self._read_only(body)

    # -- parts of the operations ---------------------------------------------------------------------

    def _lock(self, connection: sa.Connection, sender_id: str) -> Row:
        return connection.execute(schema.locked, {"conversation": sender_id}).first()

    def _place(self, connection: sa.Connection, sender_id: str, row: Row) -> Place:
        """How far the events are counted; a new row has to count them first."""
        place = Place(row.sequence, row.last_id, row.session_id)
        return place if place.last_id else self._counted(connection, sender_id, place)

    def _counted(self, connection: sa.Connection, sender_id: str, place: Place) -> Place:
        """The place after all rows behind `place`; other programs may have written some."""
        values = {"conversation": sender_id, "row": place.last_id}
        more = connection.execute(schema.behind(self._dialect), values).one()
        session_id = more.session_id or place.session_id
        return Place(place.sequence + more.many, max(place.last_id, more.last_id), session_id)

    def _latest(
        self, connection: sa.Connection, sender_id: str, row: Row, full: bool = False
    ) -> Place:
        """The place after all rows, with the events of the latest session, or all of them."""
        place = Place(row.sequence, row.last_id, row.session_id) if row else Place(0, 0, 0)
        if not place.last_id and not full:
            place = self._counted(connection, sender_id, place)
        values = {"conversation": sender_id, "row": 0 if full else place.session_id}
        rows = connection.execute(schema.since(self._dialect), values).all()
        events = stored_events(rows)
        sequence = place.sequence + sum(row.id > place.last_id for row in rows)
        # Rows that another program added are not counted yet, and may begin a session.
        starts = [index for index, event in enumerate(events) if starts_session(event)]
        if starts and not full:
            events = events[starts[-1] :]
        session_id = rows[starts[-1]].id if starts else place.session_id
        last_id = max(place.last_id, rows[-1].id if rows else 0)
        size = weight(row.data for row in rows[len(rows) - len(events) :])
        log = EventLog(events, sequence, history(row), size)
        return Place(sequence, last_id, session_id, log)

    def _note(
        self, connection: sa.Connection, sender_id: str, place: Place, **columns: Any
    ) -> None:
        values = {"conversation": sender_id, "sequence": place.sequence}
        values |= {"last_id": place.last_id, "session_id": place.session_id, **columns}
        connection.execute(schema.note, values)

    def _values(self, sender_id: str, event: EncodedEvent) -> dict[str, Any]:
        return {
            "sender_id": sender_id,
            "type_name": self._cut(event.type_name),
            "timestamp": event.timestamp,
            "intent_name": self._cut(event.intent_name),
            "action_name": self._cut(event.action_name),
            "data": event.text,
        }

    def _cut(self, name: str | None) -> str | None:
        """A name as a column for searches can store it; the event itself is in `data`."""
        return name if name is None else self._fit(name.replace("\0", ""))[: schema.MAX_NAME]


def _claimed(connection: sa.Connection, values: dict[str, Any], marked: bool) -> Row | None:
    """Claim a conversation and return its row, locked until the transaction ends.

    None if a later turn has claimed it, or if it has no row.

    Args:
        marked: whether to read the mark too.
    """
    if connection.dialect.update_returning:
        claim = schema.claim_returning_marked if marked else schema.claim_returning
        return connection.execute(claim, values).first()
    if not connection.execute(schema.claim, values).rowcount:
        return None
    return connection.execute(schema.marked if marked else schema.row, values).one()
