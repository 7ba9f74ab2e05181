"""The event service's tables in SQLite, PostgreSQL, MariaDB or MySQL.

Needs the extra: pip install "ticketlock[sql]"; with it `postgresql` or `mysql`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from hashlib import sha256
from typing import Any, TypeVar

import sqlalchemy as sa

from ticketlock import process
from ticketlock.aio.backoff import Backoff
from ticketlock.errors import (
    ConfigurationError,
    InvalidEvent,
    TrackerStoreConnectionError,
)
from ticketlock.event_service.database import (
    EventDatabase,
    EventDatabaseError,
    Gap,
    HistoryKey,
    StoreResult,
)
from ticketlock.event_service.ledger import Ledger
from ticketlock.event_service.records import Limits, Received, Reject
from ticketlock.settings.broker_keys import SQLEventKeys
from ticketlock.settings.section import Section

from ..sql import errors, opening, packets
from ..sql.schema import MAX_NAME
from ..sql.settings import SQLSettings
from ..sql.sqlite import SQLiteEngine
from . import schema

T = TypeVar("T")

#: Attempts at a batch that lost a race or found a broken connection.
TRIES = 4

#: Values in one condition, of which databases limit the number.
CHUNK = 500


class SQLEventDatabase(EventDatabase):
    """Stores each batch in one transaction, which locks the ledgers of the batch's conversations,
    drops duplicates, and writes the rest. The keys are those of the SQL tracker store.
    """

    def __init__(self, section: Section, where: str = "event_service") -> None:
        self.settings = SQLSettings.read(section, SQLEventKeys)
        self.address = self.settings.address
        self._where = where
        self._dialect = self.settings.dialect
        if self._dialect not in schema.DIALECTS:
            raise ConfigurationError(
                f"{where}: dialect: {self._dialect!r} is not one of " + ", ".join(schema.DIALECTS)
            )
        self._engine: opening.Engine | None = None
        process.tell_of_forks(self)

    def spare_files(self) -> None:
        """Create no file when the database is used; for a check of settings."""
        self.settings = self.settings.sparing_files()

    def require_existing(self) -> None:
        """Create no database at the first use. Raises ConfigurationError for a missing file."""
        self.settings = self.settings.existing(self._where)

    async def open(self) -> None:
        await self._translated(self._open())

    async def _open(self) -> opening.Engine:
        if self._engine is not None:
            return self._engine
        try:
            engine = opening.made(self.settings)
        except ModuleNotFoundError as error:
            extra = {"sqlite": "sql", "mariadb": "mysql"}.get(self._dialect, self._dialect)
            raise ConfigurationError(
                f"{self._where}: {self.settings.url.drivername} needs {error.name}: "
                f'pip install "ticketlock[{extra}]"'
            ) from error
        try:
            await opening.prepare(engine, self.settings, schema.missing)
            self.limits = await self._find_limits(engine)
        except BaseException:
            await engine.dispose()
            raise
        if self._engine is not None:  # another first use was faster
            await engine.dispose()
            return self._engine
        self._engine = engine
        return engine

    async def _find_limits(self, engine: opening.Engine) -> Limits:
        if isinstance(engine, SQLiteEngine):
            return Limits()
        if self._dialect == "postgresql":
            return Limits(MAX_NAME, nul=False)
        async with engine.connect() as connection:
            packet = await connection.scalar(sa.text("SELECT @@max_allowed_packet"))
        # Escaping may double the size of a message, and its statement has other text too.
        return Limits(MAX_NAME, size=int(packet) // 2 - 10_000)

    async def close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dispose()

    def forked(self) -> None:
        """In a forked child: what is connected is the parent's."""
        process.leave_to_parent(self._engine)
        self._engine = None

    # -- transactions ------------------------------------------------------------------------

    async def _run(self, body: Callable[[sa.Connection], T]) -> T:
        """Run `body` in a transaction, and repeat it after errors that may pass."""

        async def once() -> T:
            return await opening.write(await self._open(), body)

        async def repeated() -> T:
            backoff = Backoff(0.02, 0.08)
            for _ in range(1, TRIES):
                try:
                    return await once()
                except sa.exc.DBAPIError as error:
                    if not errors.may_try_again(error):
                        raise
                await asyncio.sleep(backoff.next())
            return await once()

        return await self._translated(repeated())

    async def _translated(self, operation: Awaitable[T]) -> T:
        try:
            return await asyncio.wait_for(operation, self.settings.timeout)
        except (sa.exc.StatementError, *errors.TROUBLE) as error:
            if isinstance(error, asyncio.TimeoutError):
                opening.doubt(self._engine)
            if errors.is_the_rows_fault(error):
                raise
            found = errors.translate(error, self.settings)
            again = isinstance(found, TrackerStoreConnectionError)
            raise EventDatabaseError(str(found), again and not errors.is_hopeless(found)) from error

    # -- storing -----------------------------------------------------------------------------

    async def store(self, events: Sequence[Received], rejects: Sequence[Reject]) -> StoreResult:
        try:
            return await self._run(lambda c: self._store(c, events, rejects))
        except (sa.exc.StatementError, InvalidEvent) as error:
            if len(events) + len(rejects) > 1:
                return await self._one_by_one(events, rejects)
            return await self._refused(events, rejects, error)

    async def _one_by_one(
        self, events: Sequence[Received], rejects: Sequence[Reject]
    ) -> StoreResult:
        """Store rows one by one, to find the one that the database refuses."""
        done = StoreResult()
        for event in events:
            done.add(await self.store([event], []))
        for reject in rejects:
            done.add(await self.store([], [reject]))
        return done

    async def _refused(
        self, events: Sequence[Received], rejects: Sequence[Reject], error: Exception
    ) -> StoreResult:
        """Store a row that the database refuses as a reject."""
        if isinstance(error, InvalidEvent):  # the database's limit is lower than at the start
            self.limits = await self._find_limits(await self._open())
        text = str(errors.translate(error, self.settings))
        if rejects:
            raise EventDatabaseError(text) from error
        event = events[0]
        body = event.data.encode()
        name = f"conversation {event.sender_id!r} history {event.history} event {event.sequence}"
        digest = event.digest or sha256(name.encode()).hexdigest()
        return await self.store([], [Reject(text, body, digest, event.origin or "?")])

    def _store(
        self, connection: sa.Connection, events: Sequence[Received], rejects: Sequence[Reject]
    ) -> StoreResult:
        done = StoreResult()
        numbered = [event for event in events if event.sequence is not None]
        if numbered:
            self._store_numbered(connection, numbered, done)
        if len(numbered) < len(events):
            others = [_unnumbered_row(e) for e in events if e.sequence is None]
            new = self._new(connection, schema.unnumbered, others)
            done.stored += len(new)
            done.duplicates += len(others) - len(new)
        if rejects:
            rows = [self._reject_row(reject) for reject in rejects]
            new = self._new(connection, schema.rejects, rows)
            done.rejected += len(new)
            done.duplicates += len(rows) - len(new)
        return done

    def _store_numbered(
        self, connection: sa.Connection, events: Sequence[Received], done: StoreResult
    ) -> None:
        names = {HistoryKey(event.sender_id, event.history) for event in events}
        ledgers = self._locked(connection, names)
        new = []
        changed = set()
        for event in events:
            name = HistoryKey(event.sender_id, event.history)
            if ledgers[name].take(event.sequence or 0):
                new.append(_numbered_row(event))
                changed.add(name)
        if new:
            self._add(connection, schema.events, new)
            rows = [_ledger_row(name, ledgers[name]) for name in sorted(changed)]
            for part in packets.split(connection.info, rows):
                connection.execute(*schema.put(self._dialect, part))
        done.stored += len(new)
        done.duplicates += len(events) - len(new)
        for name in names:
            done.gaps[name] = [Gap(*name, *gap) for gap in ledgers[name].missing]

    def _locked(
        self, connection: sa.Connection, names: set[HistoryKey]
    ) -> dict[HistoryKey, Ledger]:
        """The ledgers, locked; missing ones are created."""
        found = self._lock(connection, names)
        if lacking := sorted(names - found.keys()):
            rows = [_ledger_row(name, Ledger()) for name in lacking]
            self._add(connection, schema.histories, rows)
            # Another instance may have created and changed them at the same moment.
            found |= self._lock(connection, lacking)
        return found

    def _lock(
        self, connection: sa.Connection, names: Iterable[HistoryKey]
    ) -> dict[HistoryKey, Ledger]:
        found: dict[HistoryKey, Ledger] = {}
        for some in _chunks(sorted({name.sender_id for name in names})):
            rows = connection.execute(schema.locked(some))
            found.update(map(_ledger, rows))
        return found

    def _new(
        self, connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Insert the rows whose digest is new, and return them."""
        by_digest = {row["digest"]: row for row in reversed(rows)}
        for some in _chunks(sorted(by_digest)):
            query = sa.select(table.c.digest).where(table.c.digest.in_(some))
            for digest in connection.scalars(query):
                del by_digest[digest]
        new = [row for row in rows if by_digest.get(row["digest"]) is row]
        if new:
            self._add(connection, table, new)
        return new

    def _add(self, connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
        for part in packets.split(connection.info, rows):
            connection.execute(*schema.add(table, self._dialect, part))

    def _reject_row(self, reject: Reject) -> dict[str, Any]:
        reason, size = reject.reason, self.limits.size
        if size is not None and len(reject.body) > size:
            reason += f"; the first {size} bytes of its body are kept"
        printable = reason.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
        return {**reject._asdict(), "reason": printable, "body": reject.body[:size],
                "rejected_at": time.time()}  # fmt: skip

    # -- gaps --------------------------------------------------------------------------------

    async def gaps(self, histories: Collection[HistoryKey] | None = None) -> list[Gap]:
        def body(connection: sa.Connection) -> list[Gap]:
            if histories is None:
                return _gaps((connection.execute(schema.gaps())).all())
            found: list[Any] = []
            for some in _chunks(sorted({name.sender_id for name in histories})):
                query = schema.gaps().where(schema.histories.c.sender_id.in_(some))
                found += (connection.execute(query)).all()
            return [gap for gap in _gaps(found) if HistoryKey(*gap[:2]) in histories]

        return await self._run(body)


def _numbered_row(event: Received) -> dict[str, Any]:
    return {
        "sender_id": event.sender_id, "history": event.history, "sequence": event.sequence,
        "type_name": event.type_name, "timestamp": event.timestamp, "data": event.data,
    }  # fmt: skip


def _unnumbered_row(event: Received) -> dict[str, Any]:
    row = _numbered_row(event)
    del row["sequence"]
    return {"digest": event.digest, "origin": event.origin, **row}


def _ledger_row(name: HistoryKey, ledger: Ledger) -> dict[str, Any]:
    return {
        "sender_id": name.sender_id, "history": name.history, "next_sequence": ledger.next,
        "missing_count": ledger.count_missing, "missing": ledger.write(),
    }  # fmt: skip


def _ledger(row: Any) -> tuple[HistoryKey, Ledger]:
    return HistoryKey(_text(row.sender_id), row.history), Ledger.read(
        row.next_sequence, row.missing
    )


def _gaps(rows: Iterable[Any]) -> list[Gap]:
    found = []
    for name, ledger in map(_ledger, rows):
        found += [Gap(*name, *gap) for gap in ledger.missing]
    return found


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else bytes(value).decode()


def _chunks(values: Sequence[str]) -> Iterable[Sequence[str]]:
    return (values[start : start + CHUNK] for start in range(0, len(values), CHUNK))
