"""SQLite with SQLAlchemy's synchronous engine: a whole operation runs in one call of a thread.

An asynchronous driver switches to its thread and back for each of the three or four statements,
which takes longer than SQLite itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.pool import QueuePool

from ticketlock import process
from ticketlock.aio.threads import Threads

from . import engine as engines
from .gate import Gate
from .settings import SQLSettings
from .transactions import Transactions, Work

T = TypeVar("T")

#: Threads and connections that read, beside the one that writes.
READERS = 3


def _read_any_text(connection: Any, _: Any) -> None:
    """Accept texts that are not UTF-8, which SQLite stores; they must not fail a whole query."""
    connection.text_factory = lambda stored: stored.decode(errors="surrogateescape")


class SQLiteEngine:
    """A file, or a database in memory, which has a single connection."""

    def __init__(self, settings: SQLSettings) -> None:
        memory = settings.in_memory
        self._engine = sa.create_engine(
            settings.url.set(drivername="sqlite"),
            poolclass=QueuePool,
            pool_size=1 if memory else 1 + READERS,
            max_overflow=0,
            pool_timeout=settings.timeout,
            connect_args={"check_same_thread": False},  # only one thread uses it at a time
        )
        engines.listen(self._engine, settings)
        sa.event.listen(self._engine, "connect", _read_any_text)
        self.dialect = self._engine.dialect
        # SQLite has one writer at a time: waiting in a queue is better than polling its lock.
        self._writer = Threads(1, "ticketlock-sqlite")
        self._readers = self._writer if memory else Threads(READERS, "ticketlock-sqlite")
        self._gate = Gate()
        self._writes = Transactions(self._engine, self._writer, self._gate)
        self._memory = memory
        process.pause_for_forks(self)

    def pause(self) -> None:
        """Before a fork: SQLite's locks in this process, and on the file, would stay in the child."""
        self._gate.shut()
        if not self._memory:
            self._engine.dispose()

    def resume(self) -> None:
        self._gate.open()

    async def prepare(self, missing: Callable[[sa.Connection], list[Any]]) -> None:
        """Create what is missing."""
        if await self.run(lambda connection: bool(missing(connection)), read_only=True):
            await self.run(lambda connection: engines.create(connection, missing))

    async def run(
        self,
        body: Callable[[sa.Connection], T],
        read_only: bool = False,
        size: int = 0,
        synced: bool = True,
    ) -> T:
        """Run `body` as one step. Once begun it runs to its end even if the caller is cancelled;
        everything that it waits for has a time limit.

        Args:
            size: about how many bytes it writes.
            synced: whether its commit waits for the disk, see `Work`.
        """
        if not read_only:
            result: T = await self._writes.run(Work(body, synced), size)
            return result
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._read, body)

    def _read(self, body: Callable[[sa.Connection], T]) -> T:
        with self._gate, self._engine.connect() as connection:
            connection = connection.execution_options(ticketlock_read=True)
            with connection.begin():
                return body(connection)

    async def dispose(self) -> None:
        """Close the connections; no operation is running any more."""
        await asyncio.get_running_loop().run_in_executor(self._writer, self._close)
        self._writer.shutdown(wait=False)
        self._readers.shutdown(wait=False)

    def _close(self) -> None:
        with self._gate:
            self._engine.dispose()
