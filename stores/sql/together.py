"""Group commit on a server: the claims, or the writes, of many turns share a statement.

It takes what it can have at once. What is locked by another process, stale, or in any way unusual
is left alone, and so is all of a batch that fails: then each turn goes to the server by itself, where
it waits, is refused or is repeated without holding up the others.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ticketlock.errors import InvalidEvent

from . import mysql, postgresql, sessions
from .batches import Batches, Operation, settle
from .conversation import Append, Claim, Found
from .settings import SQLSettings
from .sqlite import SQLiteEngine
from .turns import OLDEST, SQLiteTurns

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from .opening import Engine

log = logging.getLogger("ticketlock.stores")

#: Batches of one kind that are at the server at once. While they are, others gather.
WRITERS = 2
#: Seconds after which batches that have no answer, as on dead connections, keep no others waiting.
PATIENCE = 1.0
#: Bytes of events above which a turn gains nothing by company.
LARGE = 250_000


#: Carries out a batch on a connection of the driver, whose `info` it gets too. What has no answer
#: was not done, or may be done again.
Statements = Callable[[Any, Sequence[Any], Mapping[Any, Any]], Awaitable[Mapping[str, Any]]]


#: Driver -> its statements, and whether a batch is a single one, which needs no transaction; others
#: commit by themselves.
_DRIVERS: dict[str, tuple[Any, bool]] = {"psycopg": (postgresql, True), "aiomysql": (mysql, False)}


class Together(Batches):
    """Batches of one kind. An operation without an answer gives None."""

    def __init__(
        self, engine: AsyncEngine, statements: Statements, single: bool, timeout: float
    ) -> None:
        super().__init__()
        self._engine, self._statements = engine, statements
        self._single, self._timeout = single, timeout
        self._writers: set[asyncio.Task[None]] = set()
        self._busy = self._taken = self._given_up = 0
        self._watching = False

    def _wake(self) -> None:
        if self._busy < WRITERS:
            self._busy += 1
            writer = asyncio.create_task(self._write(self._given_up))
            self._writers.add(writer)
            writer.add_done_callback(self._writers.discard)
        elif not self._watching:
            self._watch()

    def _watch(self) -> None:
        self._watching = True
        asyncio.get_running_loop().call_later(PATIENCE, self._look, self._taken)

    def _look(self, taken: int) -> None:
        """Whether a batch was taken meanwhile; if not, count the busy writers no more."""
        self._watching = False
        if not self._waiting:
            return
        if taken == self._taken:
            self._busy = 0
            self._given_up += 1
        self._watch()
        self._wake()

    async def _write(self, given_up: int) -> None:
        try:
            while batch := self._take():
                self._taken += 1
                await self._carry_out(batch)
                settle(batch)
        finally:
            if given_up == self._given_up:
                self._busy -= 1

    async def _carry_out(self, batch: list[Operation]) -> None:
        first = {operation.what.sender_id: operation for operation in reversed(batch)}
        ordered = [first[sender_id].what for sender_id in sorted(first)]
        try:
            found = await asyncio.wait_for(self._send(ordered), self._timeout)
        except Exception as error:  # noqa: BLE001  # raised by those that wait
            for operation in batch:
                operation.error = error
            return
        for sender_id, operation in first.items():
            operation.result = found.get(sender_id)

    async def _send(self, batch: Sequence[Any]) -> Mapping[str, Any]:
        of_driver = self._engine.dialect.loaded_dbapi.Error
        failures = (of_driver, sa.exc.SQLAlchemyError, UnicodeError, InvalidEvent)
        async with self._engine.connect() as connection:
            raw = await connection.get_raw_connection()
            try:
                async with self._transaction(connection, raw.info):
                    return await self._statements(raw.driver_connection, batch, raw.info)
            except failures as error:
                log.debug("%d turns go alone: %s", len(batch), error)
                await connection.invalidate()  # it may be broken, or its prepared statements void
                return {}
            except BaseException:  # it may be in the middle of an answer
                await connection.invalidate()
                raise

    @asynccontextmanager
    async def _transaction(
        self, connection: AsyncConnection, info: Mapping[Any, Any]
    ) -> AsyncIterator[None]:
        if sessions.is_pooled(info):  # then the settings belong to the transaction
            async with connection.begin():
                yield
            return
        if self._single:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
        yield


class Turns:
    """The batches of a store.

    Args:
        marks: whether the table keeps marks.
    """

    def __init__(self, engine: AsyncEngine, settings: SQLSettings, marks: bool) -> None:
        module, single = _DRIVERS[settings.url.get_driver_name()]
        claim, write = partial(module.claim, marks), partial(module.write, marks)
        self.claims = Together(engine, claim, single, settings.timeout)
        self.writes = Together(engine, write, single, settings.timeout)

    async def claim(self, claim: Claim) -> Found | None:
        """The row of the conversation and its events; None: claim it alone."""
        found: Found | None = await self.claims.run(claim)
        return found

    async def write(self, append: Append) -> int | None:
        """The sequence after it; None: write it alone."""
        write = append.write
        size = sum(len(event.text) for event in write.events) + len(write.mark or "")
        if write.guard is None or write.replace or size > LARGE:
            return None
        done: int | None = await self.writes.run(append, size)
        return done


def turns(engine: Engine, settings: SQLSettings, marks: bool) -> Turns | SQLiteTurns | None:
    """The batches for a connected engine; None if its database or driver cannot do that."""
    if isinstance(engine, SQLiteEngine):
        return SQLiteTurns(engine) if sqlite3.sqlite_version_info >= OLDEST else None
    if settings.url.get_driver_name() not in _DRIVERS:
        return None
    if settings.dialect != "postgresql" and not mysql.skips_locked(engine.dialect):
        return None
    return Turns(engine, settings, marks)
