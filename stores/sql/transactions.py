"""Group commit of SQLite: a batch is one transaction, and each write a savepoint of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ticketlock.aio.threads import Threads

from .batches import Batches, Operation, settle
from .gate import Gate


@dataclass(frozen=True)
class Work:
    """What is to be done in a transaction.

    Attributes:
        synced: whether its commit waits for the disk. A claim's need not: it is there for all
            processes, and a power cut, which takes it back, ends the turn that it shuts out.
    """

    body: Callable[[sa.Connection], Any]
    synced: bool = True


class _TransactionLost(Exception):
    """SQLite has rolled back all of a transaction because of one write, whose error this has."""

    def __init__(self, culprit: Operation, error: BaseException) -> None:
        self.culprit, self.error = culprit, error


class Transactions(Batches):
    """Does `Work` in the only thread of `writer`."""

    def __init__(self, engine: sa.Engine, writer: Threads, gate: Gate) -> None:
        super().__init__()
        self._engine, self._writer, self._gate = engine, writer, gate
        #: Whether the writer was asked to look for operations; under the lock.
        self._asked, self._lock = False, threading.Lock()

    def _wake(self) -> None:
        with self._lock:
            if not self._asked:
                self._writer.submit(self._next)
                self._asked = True

    def _next(self) -> None:
        try:
            if batch := self._take():
                self._carry_out(batch)
                _acknowledge(batch)
        finally:
            with self._lock:
                self._asked = False
            if self._waiting:  # what comes later asks by itself
                self._wake()

    def _carry_out(self, batch: list[Operation]) -> None:
        """Commit them, or note for each why it was not stored.

        An answer counts only once its transaction is committed: it may rest on another write of
        the batch, as a stale fence does.
        """
        try:
            self._commit(batch)
        except _TransactionLost as lost:
            for operation in batch:
                operation.error = None
                if operation is not lost.culprit:
                    self._carry_out([operation])
            lost.culprit.error = lost.error
        except BaseException as error:  # noqa: BLE001  # raised by those that wait
            for operation in batch:
                operation.error = error

    def _commit(self, batch: list[Operation]) -> None:
        with self._gate, self._engine.connect() as connection:
            sync(connection, any(operation.what.synced for operation in batch))
            with connection.begin():
                if len(batch) == 1:  # needs no savepoint
                    batch[0].result = batch[0].what.body(connection)
                    return
                for operation in batch:
                    self._run_in_savepoint(connection, operation)

    def _run_in_savepoint(self, connection: sa.Connection, operation: Operation) -> None:
        driver: Any = connection.connection.dbapi_connection
        driver.execute("SAVEPOINT one")
        try:
            operation.result = operation.what.body(connection)
        except BaseException as error:
            # After a full disk, for example, SQLite may end the transaction.
            if connection.invalidated or not driver.in_transaction:
                raise _TransactionLost(operation, error) from error
            operation.error = error
            driver.execute("ROLLBACK TO one")
        driver.execute("RELEASE one")


def sync(connection: sa.Connection, synced: bool) -> None:
    """Whether commits on this connection wait for the disk from now on; without WAL they all do."""
    info: Any = connection.info
    synced = synced or not info["ticketlock_wal"]
    if info["ticketlock_synced"] != synced:
        driver: Any = connection.connection.dbapi_connection
        driver.execute(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
        info["ticketlock_synced"] = synced  # not where that has failed


def _acknowledge(batch: list[Operation]) -> None:
    """Wake up those that wait, once for each event loop."""
    loops: dict[asyncio.AbstractEventLoop, list[Operation]] = {}
    for operation in batch:
        loops.setdefault(operation.answer.get_loop(), []).append(operation)
    for loop, operations in loops.items():
        with suppress(RuntimeError):  # the loop is closed: none of its tasks waits any more
            loop.call_soon_threadsafe(settle, operations)
