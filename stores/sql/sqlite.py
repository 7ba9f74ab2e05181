"""SQLite with SQLAlchemy's plain engine: a whole operation is one visit to a thread.

An asynchronous driver goes to its thread and back for every statement, three or four times: that
took longer than all that SQLite does in a turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.pool import QueuePool

from . import engine as engines
from .settings import SQLSettings

T = TypeVar("T")

#: Threads, and connections, that read beside the one that writes.
READERS = 3


def _read_any_text(connection: Any, _: Any) -> None:
    """SQLite keeps bytes that are no UTF-8 as text; one of them shall not spoil a whole query."""
    connection.text_factory = lambda stored: stored.decode(errors="surrogateescape")


class SQLiteEngine:
    """One file, or one database in memory, which is its only connection."""

    def __init__(self, settings: SQLSettings) -> None:
        memory = settings.url.database in (None, "", ":memory:")
        self._engine = sa.create_engine(
            settings.url.set(drivername="sqlite"),
            poolclass=QueuePool,
            pool_size=1 if memory else 1 + READERS,
            max_overflow=0,
            pool_timeout=settings.timeout,
            connect_args={"check_same_thread": False},  # one at a time uses a connection
        )
        engines.listen(self._engine, settings)
        sa.event.listen(self._engine, "connect", _read_any_text)
        # One writer at a time is all that SQLite can do: better to queue than to poll.
        self._writer = ThreadPoolExecutor(1, "ticketlock-sqlite")
        self._readers = self._writer if memory else ThreadPoolExecutor(READERS, "ticketlock-sqlite")

    async def prepare(self, missing: Callable[[sa.Connection], list[Any]]) -> None:
        """Create what is missing, if anything is."""
        if await self.run(lambda connection: bool(missing(connection)), read_only=True):
            await self.run(lambda connection: engines.create(connection, missing))

    async def run(self, body: Callable[[sa.Connection], T], read_only: bool = False) -> T:
        """Run `body` in a transaction of its own. Once begun it goes on to its end, cancelled
        or not; all that it waits for has a limit.
        """
        loop = asyncio.get_running_loop()
        threads = self._readers if read_only else self._writer
        return await loop.run_in_executor(threads, self._transaction, body, read_only)

    def _transaction(self, body: Callable[[sa.Connection], T], read_only: bool) -> T:
        with self._engine.connect() as connection:
            connection = connection.execution_options(ticketlock_read=read_only)
            with connection.begin():
                return body(connection)

    async def dispose(self) -> None:
        """Close the connections; nothing is running any more."""
        await asyncio.get_running_loop().run_in_executor(self._writer, self._engine.dispose)
        self._writer.shutdown(wait=False)
        self._readers.shutdown(wait=False)
