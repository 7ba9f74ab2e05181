"""Events as rows of an SQL table."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from ticketlock.aio.backoff import Backoff
from ticketlock.errors import (
    ConfigurationError,
    EventBrokerConnectionError,
    EventBrokerError,
    InvalidEvent,
    TrackerStoreConnectionError,
)
from ticketlock.publishing.message import DELIVERED, Outcome, poisoned, retry
from ticketlock.settings.broker_keys import SQLEventKeys, SQLEventOptions
from ticketlock.settings.section import Section

from ..threaded import EncodedMessage, ThreadedBroker

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")

# Settings, sessions and errors are those of the SQL tracker store. They are imported by name, as
# in the registry, because type checkers see stores/ as a package of its own.
_settings: Any = import_module("ticketlock.stores.sql.settings")
_opening: Any = import_module("ticketlock.stores.sql.opening")
_errors: Any = import_module("ticketlock.stores.sql.errors")
_packets: Any = import_module("ticketlock.stores.sql.packets")

#: What is raised when the database cannot be used, or cannot store a row.
TROUBLE = (sa.exc.SQLAlchemyError, *_errors.TROUBLE)

#: Attempts at a batch that lost a race or found a broken connection.
TRIES = 4

_metadata = sa.MetaData()


def _exact(length: int) -> Any:
    exact = mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin")
    return sa.String(length).with_variant(exact, "mysql", "mariadb")


#: The documented table; `data` is the published object as JSON.
EVENTS = sa.Table(
    "events",
    _metadata,
    # SQLite numbers only INTEGER columns by itself; they have 64 bits.
    sa.Column(
        "id",
        sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
        sa.Identity(),
        primary_key=True,
    ),
    sa.Column("sender_id", _exact(255)),
    # MySQL's TEXT ends at 64 KiB.
    sa.Column(
        "data",
        sa.Text().with_variant(mysql.LONGTEXT(charset="utf8mb4"), "mysql", "mariadb"),
    ),
)


#: The insert in SQLite's own words: SQLAlchemy prepares each row for as long as SQLite takes to
#: insert it, which beside a server would be little.
_TO_SQLITE = "INSERT INTO events (sender_id, data) VALUES (:sender_id, :data)"


class SQLEventBroker(ThreadedBroker):
    """Inserts each event as a row of the table `events`; a batch is one transaction.

    A database with another table `events`, such as that of the tracker store, is refused.

    Args:
        dialect: `sqlite`, `postgresql`, `mysql`, `mariadb` or `oracle`; default `sqlite`.
        keys: those of `SQLEventOptions`, see docs/reference/endpoints.md.
        where: how error messages name these settings.
    """

    def __init__(
        self,
        dialect: str | None = None,
        *,
        where: str = "event_broker",
        **keys: Unpack[SQLEventOptions],
    ) -> None:
        super().__init__()
        section = Section({"dialect": dialect, **keys}, where)
        # The documented variables, among them the schema, are for the tracker store only.
        self.settings = _settings.SQLSettings.read(section, SQLEventKeys, variables=False)
        self.address = self.settings.address
        self._where = where
        self._loop: asyncio.AbstractEventLoop | None = None
        self._engine: Any = None
        self._ready = False

    def spare_files(self) -> None:
        """Create no file when the broker is used; for a check of settings."""
        self.settings = self.settings.sparing_files()

    def is_ready(self) -> bool:
        """Whether the last use of the database succeeded."""
        return self._ready

    def _run_async(self, work: Coroutine[Any, Any, T], end: float) -> T:
        """Run in the thread's own event loop, so that the engine is not bound to a user's loop."""
        loop = self._loop = self._loop or asyncio.new_event_loop()
        try:
            return loop.run_until_complete(asyncio.wait_for(work, max(0.01, self.left(end))))
        except asyncio.TimeoutError:
            _opening.doubt(self._engine)
            raise

    def _open(self, end: float) -> None:
        if self._ready:
            return
        try:
            if self._engine is None:
                self._run_async(_opening.make_database(self.settings), end)
                self._engine = _opening.made(self.settings)
            self._run_async(self._make_table(self._engine), end)
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"{self._where}: {self.settings.url.drivername} needs {error.name}: "
                f'pip install "ticketlock[{self.settings.dialect}]"'
            ) from error
        except TROUBLE as error:
            raise self._translate(error) from error
        self._ready = True

    async def _make_table(self, engine: Any) -> None:
        if await _opening.read(engine, self._check):
            return
        try:
            await _opening.write(engine, _metadata.create_all)
        except sa.exc.DBAPIError:
            # Another replica may have created it at the same moment.
            if not await _opening.read(engine, self._check):
                raise

    def _check(self, connection: sa.Connection) -> bool:
        """Whether the table exists. Raises ConfigurationError if it is another one."""
        look, found = sa.inspect(connection), set[str]()
        if look.has_table(EVENTS.name):
            found = {str(column["name"]).lower() for column in look.get_columns(EVENTS.name)}
        wanted = set(EVENTS.columns.keys())
        if found and found != wanted:
            raise ConfigurationError(
                f"{self._where}: db: {self.address} has a table events of another kind, with "
                f"columns {', '.join(sorted(found - wanted or found))}: probably the tracker "
                "store's. Give the event broker a database of its own"
            )
        return bool(found)

    def _send(self, batch: Sequence[EncodedMessage], end: float) -> list[Outcome]:
        try:
            self._open(end)
        except ConfigurationError as error:
            raise EventBrokerError(str(error)) from error  # the table was replaced meanwhile
        try:
            self._run_async(self._insert(batch), end)
        except (*TROUBLE, InvalidEvent) as error:
            if not isinstance(error, InvalidEvent) and not _errors.is_the_rows_fault(error):
                self._ready = False
                raise self._translate(error) from error
            if len(batch) == 1:
                text = str(_errors.translate(error, self.settings))
                return [poisoned(f"it cannot be stored: {text}")]
            return self._one_by_one(batch, end)
        return [DELIVERED] * len(batch)

    def _one_by_one(self, batch: Sequence[EncodedMessage], end: float) -> list[Outcome]:
        """Store rows one by one, to find the one that the database refuses."""
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

    async def _insert(self, batch: Sequence[EncodedMessage]) -> None:
        rows = [{"sender_id": wire.key, "data": wire.value.decode()} for wire in batch]

        def insert(connection: sa.Connection) -> None:
            for part in _packets.split(connection.info, rows):
                if connection.dialect.name == "sqlite":
                    connection.exec_driver_sql(_TO_SQLITE, part)
                else:
                    connection.execute(sa.insert(EVENTS), part)

        backoff = Backoff(0.02, 0.08)
        for attempt in range(1, TRIES + 1):
            try:
                await _opening.write(self._engine, insert)
                return
            except sa.exc.DBAPIError as error:
                # The batch may have been written: then its events are duplicates.
                if attempt == TRIES or not _errors.may_try_again(error):
                    raise
            await asyncio.sleep(backoff.next())

    def _translate(self, error: BaseException) -> EventBrokerConnectionError:
        found = _errors.translate(error, self.settings)
        again = isinstance(found, TrackerStoreConnectionError) and not _errors.is_hopeless(found)
        return EventBrokerConnectionError(str(found), again)

    def _shut(self, end: float) -> None:
        self._ready = False
        if self._engine is not None:
            self._run_async(self._engine.dispose(), time.monotonic() + 1.0)
        if self._loop is not None:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()
