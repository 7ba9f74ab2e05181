"""The engine of a database and its tables, which many replicas may create at the same time."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ticketlock.aio.backoff import Backoff
from ticketlock.errors import ConfigurationError
from ticketlock.files.private import make_private
from ticketlock.process import clock

from . import errors, packets, schema, sessions, silence
from .settings import SQLSettings

if TYPE_CHECKING:  # it takes a tenth of a second, and SQLite does not need it
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

#: Number of the advisory lock under which tables are created, the same in every process.
SCHEMA_LOCK = 7_165_398_224


def make_engine(settings: SQLSettings) -> AsyncEngine:
    """An engine for the server of `settings`; it connects at its first use."""
    from sqlalchemy.ext.asyncio import create_async_engine

    settings.tls.warn(settings.address)
    of_mysql = settings.dialect in ("mysql", "mariadb")
    engine = create_async_engine(
        settings.url,
        isolation_level="READ COMMITTED",  # a statement that waited for a lock sees the change
        pool_size=settings.pool_size,
        max_overflow=settings.max_overflow,
        # Earlier than the operation's own timeout, so that the error names the pool.
        pool_timeout=min(settings.pool_timeout, 0.8 * settings.timeout),
        connect_args=sessions.connect_args(settings),
        # Each use ends its transaction; one more ROLLBACK would be one more round trip.
        pool_reset_on_return=None if of_mysql else "rollback",
    )
    sessions.listen(engine.sync_engine, settings)
    errors.listen(engine.sync_engine)
    silence.listen(engine.sync_engine)
    if of_mysql:
        packets.listen(engine.sync_engine)
    return engine


def leave(engine: object) -> None:
    """Forget the connections of an event loop that is closed: nothing can be said on them."""
    if isinstance(inner := getattr(engine, "sync_engine", None), sa.Engine):
        inner.dispose(close=False)


def listen(engine: sa.Engine, settings: SQLSettings) -> None:
    """Set up each new connection to SQLite, and the start of each transaction."""
    errors.listen(engine)
    listen_for_files(engine)
    patience = settings.timeout / 2

    @sa.event.listens_for(engine, "connect")
    def connected(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # the driver begins no transactions of its own
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {round(1000 * patience)}")
        record.info["ticketlock_patience"] = patience
        # In WAL mode readers do not wait for the writer. SQLite refuses the change while others
        # use the file; then the next connection makes it.
        record.info["ticketlock_wal"] = False
        with suppress(sqlite3.OperationalError):
            cursor.execute("PRAGMA journal_mode = WAL")
            record.info["ticketlock_wal"] = tuple(cursor.fetchone()) == ("wal",)
        # Some builds of SQLite do not sync the log at each commit otherwise.
        cursor.execute("PRAGMA synchronous = FULL")
        record.info["ticketlock_synced"] = True
        cursor.execute("PRAGMA database_list")
        path = str(tuple(cursor.fetchone())[2] or "")  # empty in memory
        record.info["ticketlock_file"] = path, _which(path)
        record.info["ticketlock_beside"] = _beside(path)
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def begun(connection: sa.Connection) -> None:
        path, opened = connection.info["ticketlock_file"]
        if path and _which(path) != opened:  # in WAL mode SQLite itself does not look
            raise sqlite3.OperationalError(errors.GONE)
        info: Any = connection.info
        if info["ticketlock_wal"] and path:
            if info["ticketlock_beside"] is None:  # they come with the first transaction
                info["ticketlock_beside"] = _beside(path)
            elif info["ticketlock_beside"] != _beside(path):
                raise sqlite3.OperationalError(errors.TORN)
        # A transaction that begins as a reader cannot wait for the write lock later.
        if connection.get_execution_options().get("ticketlock_read"):
            _wait_for_others(connection, patience)
            connection.exec_driver_sql("BEGIN")
        else:
            _begin_to_write(connection, patience)


def _which(path: str) -> tuple[int, int] | None:
    """Which file it is, whatever its name."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _beside(path: str) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Which files its log and the index of that are; None if one is missing."""
    log, index = _which(f"{path}-wal"), _which(f"{path}-shm")
    return (log, index) if log and index else None


def _begin_to_write(connection: sa.Connection, patience: float) -> None:
    """Wait for other processes' transactions up to `patience` seconds, in steps of a millisecond.

    SQLite's own steps grow to 100 ms, while the file changes hands between others again and again.
    """
    if connection.info["ticketlock_wal"]:  # else a commit waits too, for readers
        _wait_for_others(connection, 0.001)
        driver: Any = connection.connection.dbapi_connection
        end = clock() + patience
        while clock() < end:
            try:
                driver.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    break
            else:
                return
    connection.exec_driver_sql("BEGIN IMMEDIATE")  # its error is as those of other statements


def _wait_for_others(connection: sa.Connection, seconds: float) -> None:
    """How long SQLite waits for other processes on this connection from now on."""
    info: Any = connection.info
    if info["ticketlock_patience"] != seconds:
        driver: Any = connection.connection.dbapi_connection
        driver.execute(f"PRAGMA busy_timeout = {round(1000 * seconds)}")
        info["ticketlock_patience"] = seconds


def listen_for_files(engine: sa.Engine) -> None:
    """Create the file of an SQLite database with private rights, before SQLite creates it."""

    @sa.event.listens_for(engine, "do_connect")
    def connecting(dialect: Any, record: Any, arguments: list[Any], keys: Any) -> None:
        path = str(arguments[0]) if arguments else ""
        if path and path != ":memory:" and not path.startswith("file:"):  # a URI says how itself
            make_private(path)


async def create_database(settings: SQLSettings) -> None:
    """PostgreSQL: create the database if it does not exist, connected to `login_db`."""
    from sqlalchemy.ext.asyncio import create_async_engine

    url = settings.url.set(database=settings.login_db)
    arguments = sessions.connect_args(settings)
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT", connect_args=arguments)
    sessions.listen(engine.sync_engine, settings)
    try:
        async with engine.connect() as connection:
            name = settings.url.database or ""
            known = sa.text("SELECT 1 FROM pg_database WHERE datname = :name")
            if await connection.scalar(known, {"name": name}):
                return
            await _create_database(connection, name, known)
    finally:
        await engine.dispose()


async def _create_database(connection: AsyncConnection, name: str, known: sa.TextClause) -> None:
    """Create it. Another replica may create it first, or use the template at this moment."""
    quoted = '"' + name.replace('"', '""') + '"'
    backoff = Backoff(0.05, 1.0)
    for _ in range(20):
        try:
            await connection.exec_driver_sql(f"CREATE DATABASE {quoted}".replace("%", "%%"))
        except sa.exc.DBAPIError as error:
            if await connection.scalar(known, {"name": name}):
                return
            if getattr(error.orig, "sqlstate", None) not in ("55006", "23505"):
                raise
            await asyncio.sleep(backoff.next())
        else:
            return


async def prepare(
    engine: AsyncEngine,
    settings: SQLSettings,
    missing: Callable[[sa.Connection], list[Any]] | None = None,
) -> None:
    """Check the schema, and create missing tables and indexes.

    Args:
        missing: finds them; None: those of the tracker store.
    """
    missing = missing or tracker_missing
    if settings.schema:
        await _check_schema(engine, settings.schema)
    async with engine.connect() as connection:
        complete = await connection.run_sync(lambda sync: not missing(sync))
    if complete:
        return
    async with alone(engine, settings) as connection:
        await connection.run_sync(create, missing)


@asynccontextmanager
async def alone(engine: AsyncEngine, settings: SQLSettings) -> AsyncIterator[AsyncConnection]:
    """A transaction in which no other replica creates or changes tables."""
    async with engine.begin() as connection:
        await _exclude_others(connection, settings.dialect)
        try:
            yield connection
        finally:
            if settings.dialect in ("mysql", "mariadb"):
                await connection.execute(sa.text("SELECT RELEASE_LOCK('ticketlock_schema')"))


async def _check_schema(engine: AsyncEngine, names: str) -> None:
    first = names.split(",")[0].strip().strip('"')
    known = sa.text("SELECT 1 FROM pg_namespace WHERE nspname = :name")
    async with engine.connect() as connection:
        if not await connection.scalar(known, {"name": first}):
            raise ConfigurationError(
                f"environment variable POSTGRESQL_SCHEMA: the database has no schema {first!r}; "
                f"create it, or unset the variable"
            )


async def _exclude_others(connection: AsyncConnection, dialect: str) -> None:
    """Wait until no other replica creates the tables. SQLite's transaction does so by itself."""
    if dialect == "postgresql":
        await connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})"))
    elif dialect in ("mysql", "mariadb"):
        await connection.execute(sa.text("SELECT GET_LOCK('ticketlock_schema', 60)"))


def tracker_missing(connection: sa.Connection) -> list[Any]:
    """The tables and the index of the tracker store that do not exist."""
    inspector = sa.inspect(connection)
    wanted = (schema.events, schema.conversations, schema.dead_letters)
    missing: list[Any] = [table for table in wanted if not inspector.has_table(table.name)]
    if schema.events not in missing:
        need = ["sender_id", "id"] if connection.dialect.name in schema.INDEXED else ["sender_id"]
        indexes = [index["column_names"] for index in inspector.get_indexes("events")]
        if not any(columns[: len(need)] == need for columns in indexes):
            missing.append(schema.by_sender)
    return missing


def create(connection: sa.Connection, missing: Callable[[sa.Connection], list[Any]]) -> None:
    """Create what is still missing."""
    if connection.dialect.name == "oracle":
        schema.events_seq.create(connection, checkfirst=True)
    for part in missing(connection):
        part.create(connection, checkfirst=True)


async def end_frozen(engine: AsyncEngine) -> None:
    """PostgreSQL: end connections that lock the library's table and have been silent for a while.

    The server's own limit misses a process that froze between the messages of one statement.
    Its transaction is rolled back, so no committed write is lost.
    """
    query = sa.text(
        "SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a"
        " JOIN pg_locks l ON l.pid = a.pid"
        " WHERE l.relation = to_regclass(:table) AND a.usename = current_user"
        " AND a.wait_event IN ('ClientRead', 'ClientWrite') AND a.pid <> pg_backend_pid()"
        " AND a.xact_start < now() - make_interval(secs => :seconds)"
    )
    async with engine.connect() as connection:
        await connection.execute(
            query, {"table": schema.conversations.name, "seconds": sessions.IDLE_TIMEOUT}
        )
        await connection.commit()
