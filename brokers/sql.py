"""Events as rows of an SQL table."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from ticketlock.errors import (
    ConfigurationError,
    EventBrokerConnectionError,
    EventBrokerError,
)
from ticketlock.event_broker import DELIVERED, Outcome, poisoned, retry
from ticketlock.settings import Section, mask_url

from ._worker import ThreadedBroker, Wire

T = TypeVar("T")

#: Keys of the section, in the order of the README's table.
SQL_KEYS = ("dialect", "url", "port", "db", "username", "password")

#: Database -> its asynchronous drivers. One of these is kept; any other one that a
#: configuration names (psycopg2, cx_oracle, ...) is replaced by the first.
_DRIVERS = {
    "sqlite": ("aiosqlite",),
    "postgresql": ("psycopg", "asyncpg"),
    "mysql": ("aiomysql", "asyncmy"),
    "mariadb": ("aiomysql", "asyncmy"),
    "oracle": ("oracledb",),
}

#: Driver -> the extra that brings it, where its name is not the database's.
_EXTRAS = {"aiosqlite": "sql"}

#: What a driver says -> what to do about it, and whether trying again may help.
_REMEDIES = (
    (r"password authentication|access denied|ORA-01017|no password supplied|role .* does",
     "check username and password", False),
    (r"database .* does not exist|unknown database", "create the database, or check db", False),
    (r"refused|can't connect|could not connect|unreachable",
     "check url and port, and that the server runs", True),
    (r"name or service|could not translate|resolve|nodename|getaddrinfo",
     "check the host name in url", False),
    (r"unable to open database file", "check db: its folder must exist and be writable", False),
    (r"readonly|read-only", "the events need a database that may be written to", False),
    (r"locked", "another process holds the file; for replicas use PostgreSQL", True),
    (r"full|no space", "free some space on its disk", True),
    (r"permission denied|must be owner|command denied",
     "let the user create the table events, or create it by hand", False),
    (r"timed? ?out", "check that the server is reachable and not overloaded", True),
)  # fmt: skip

_metadata = sa.MetaData()

#: The documented table; `data` is the published object as JSON.
EVENTS = sa.Table(
    "events",
    _metadata,
    sa.Column("id", sa.Integer, sa.Identity(), primary_key=True),
    sa.Column("sender_id", sa.String(255)),
    sa.Column("data", sa.Text),
)


class SQLEventBroker(ThreadedBroker):
    """Inserts each event as a row of the table `events`; a batch is one transaction.

    The keys are those of the README's table. A database whose `events` table is another one,
    such as the tracker store's, is refused.
    """

    def __init__(
        self, dialect: str | None = None, *, where: str = "event_broker", **keys: Any
    ) -> None:
        super().__init__()
        section = Section(keys if dialect is None else {"dialect": dialect, **keys}, where)
        self.url = _read(section)
        section.finish()
        self.address = _address(self.url)
        self._where = where
        self._loop: asyncio.AbstractEventLoop | None = None
        self._engine: AsyncEngine | None = None
        self._ready = False

    def is_ready(self) -> bool:
        """Whether the last use of the database went well."""
        return self._ready

    def _run_async(self, work: Coroutine[Any, Any, T], end: float) -> T:
        """Run in the thread's own event loop, so that no user's loop is bound to the engine."""
        loop = self._loop = self._loop or asyncio.new_event_loop()
        return loop.run_until_complete(asyncio.wait_for(work, max(0.01, self.left(end))))

    def _open(self, end: float) -> None:
        if self._ready:
            return
        try:
            if self._engine is None:
                self._engine = create_async_engine(self.url, pool_pre_ping=True)
            self._run_async(self._make_table(self._engine), end)
        except ModuleNotFoundError as error:
            extra = _EXTRAS.get(error.name or "", self.url.get_backend_name())
            raise ConfigurationError(
                f"{self._where}: {self.url.drivername} needs {error.name}: "
                f'pip install "ticketlock[{extra}]"'
            ) from error
        except (sa.exc.SQLAlchemyError, OSError, asyncio.TimeoutError) as error:
            raise self._translate(error) from error
        self._ready = True

    async def _make_table(self, engine: AsyncEngine) -> None:
        async with engine.connect() as connection:
            await self._check(connection)
            try:
                await connection.run_sync(_metadata.create_all)
                await connection.commit()
            except sa.exc.DBAPIError:
                # Another replica may have made it at the same moment, or an operator before,
                # for a user who may not.
                await connection.rollback()
                if not await self._check(connection):
                    raise

    async def _check(self, connection: AsyncConnection) -> bool:
        """Whether the table is there. Raises ConfigurationError when it is another one."""

        def columns(connection: sa.Connection) -> set[str]:
            look = sa.inspect(connection)
            if not look.has_table(EVENTS.name):
                return set()
            return {str(column["name"]).lower() for column in look.get_columns(EVENTS.name)}

        found = await connection.run_sync(columns)
        wanted = set(EVENTS.columns.keys())
        if found and found != wanted:
            raise ConfigurationError(
                f"{self._where}: db: {self.address} has a table events of another kind, with "
                f"columns {', '.join(sorted(found - wanted or found))}: probably the tracker "
                "store's. Give the event broker a database of its own"
            )
        return bool(found)

    def _send(self, batch: Sequence[Wire], end: float) -> list[Outcome]:
        try:
            self._open(end)
        except ConfigurationError as error:
            raise EventBrokerError(str(error)) from error  # it was another table by then
        try:
            self._run_async(self._insert(batch), end)
        except (sa.exc.SQLAlchemyError, OSError, asyncio.TimeoutError) as error:
            if not _is_the_rows_fault(error):
                self._ready = False
                raise self._translate(error) from error
            if len(batch) == 1:
                return [poisoned(f"{self.address} cannot store it: {_said(error, self.url)}")]
            return self._one_by_one(batch, end)
        return [DELIVERED] * len(batch)

    def _one_by_one(self, batch: Sequence[Wire], end: float) -> list[Outcome]:
        """One of the rows is bad: find out which, and store the others."""
        outcomes: list[Outcome] = []
        for wire in batch:
            if outcomes and outcomes[-1].status == "retry":
                outcomes.append(outcomes[-1])
                continue
            try:
                outcomes += self._send([wire], end)
            except EventBrokerError as error:
                outcomes.append(retry(error))
        return outcomes

    async def _insert(self, batch: Sequence[Wire]) -> None:
        assert self._engine is not None  # opened before
        rows = [{"sender_id": wire.key, "data": wire.value.decode()} for wire in batch]
        async with self._engine.begin() as connection:
            await connection.execute(sa.insert(EVENTS), rows)

    def _translate(self, error: BaseException) -> EventBrokerConnectionError:
        said = _said(error, self.url)
        found = [(r, again) for p, r, again in _REMEDIES if re.search(p, said, re.IGNORECASE)]
        remedy, again = found[0] if found else ("check the database", True)
        return EventBrokerConnectionError(f"{self.address}: {said}; {remedy}", again)

    def _shut(self, end: float) -> None:
        self._ready = False
        if self._engine is not None:
            self._run_async(self._engine.dispose(), time.monotonic() + 1.0)
        if self._loop is not None:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            # After an open that failed, aiosqlite's thread still tells the loop that it ends.
            self._loop.run_until_complete(asyncio.sleep(0.1))
            self._loop.close()


def _read(section: Section) -> URL:
    dialect = section.text("dialect", "sqlite")
    place = section.text("url", None)
    keys: dict[str, Any] = {
        "port": section.integer("port", None, 1, 65535),
        "database": section.text("db", "events.db"),
        "username": section.text("username", None),
        "password": section.text("password", None),
    }
    if place and "://" in place:
        try:
            url = make_url(place)  # it says all there is to say
        except (sa.exc.ArgumentError, ValueError):
            # The original error may hold the password.
            raise section.error("url", f"{mask_url(place)!r} is no database URL") from None
    else:
        host, colon, digits = (place or "").partition(":")
        if colon and digits.isdigit():
            place, keys["port"] = host, int(digits)
        url = URL.create(dialect, host=place, **keys)
    backend, _, driver = url.drivername.lower().partition("+")
    backend = {"postgres": "postgresql"}.get(backend, backend)
    if backend not in _DRIVERS:
        raise section.error("dialect", f"{url.drivername!r} is not one of " + ", ".join(_DRIVERS))
    usual = _DRIVERS[backend]
    return url.set(drivername=f"{backend}+{driver if driver in usual else usual[0]}")


def _address(url: URL) -> str:
    if url.get_backend_name() == "sqlite":
        return f"SQLite file {url.database or ':memory:'}"
    place = f"{url.host or 'localhost'}" + (f":{url.port}" if url.port else "")
    return f"{url.get_backend_name()} database {url.database!r} at {place}"


def _is_the_rows_fault(error: BaseException) -> bool:
    if isinstance(error, sa.exc.DBAPIError):
        return isinstance(error, sa.exc.DataError)
    return isinstance(error, sa.exc.StatementError)  # a value that the driver cannot even send


def _said(error: BaseException, url: URL) -> str:
    original = getattr(error, "orig", None) or error
    said = " ".join(str(original).split()) or "timed out"
    if url.password:
        said = said.replace(str(url.password), "***")
    return said[:500]
