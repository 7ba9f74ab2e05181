"""Group commit: the writes that wait for SQLite's single writer share one transaction.

A commit waits for the disk, and the others wait for it meanwhile. What is there when the writer is
free goes into the next transaction, each write in a savepoint of its own; none waits for more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa

T = TypeVar("T")

#: The most writes of a transaction, and the bytes of events from which on none is added.
MAX_WRITES, MAX_BYTES = 64, 1_000_000


@dataclass(eq=False)
class Operation:
    """A write: what it does, about how many bytes it stores, and what came of it."""

    body: Callable[[sa.Connection], Any]
    size: int
    answer: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


class _TransactionLost(Exception):
    """SQLite has rolled back all of a transaction because of one write, whose error this has."""

    def __init__(self, culprit: Operation, error: BaseException) -> None:
        self.culprit, self.error = culprit, error


class Batches:
    """Carries out writes in the order in which they come, in the only thread of `writer`."""

    def __init__(self, engine: sa.Engine, writer: ThreadPoolExecutor) -> None:
        self._engine, self._writer = engine, writer
        self._waiting: deque[Operation] = deque()

    async def run(self, body: Callable[[sa.Connection], T], size: int = 0) -> T:
        """Run `body` as one step: it is committed when this returns, or leaves nothing if it raises.

        A caller that is cancelled before its batch begins writes nothing, and later everything.
        """
        operation = Operation(body, size, asyncio.get_running_loop().create_future())
        self._waiting.append(operation)
        # One for each, of which the first takes the others along: so none is left behind.
        self._writer.submit(self._next)
        result: T = await operation.answer
        return result

    def _next(self) -> None:
        if batch := self._take():
            self._carry_out(batch)
            _acknowledge(batch)

    def _take(self) -> list[Operation]:
        """The writes of the next transaction."""
        batch: list[Operation] = []
        size = 0
        while self._waiting and len(batch) < MAX_WRITES:
            size += self._waiting[0].size
            if batch and size > MAX_BYTES:
                break
            operation = self._waiting.popleft()
            if not operation.answer.cancelled():
                batch.append(operation)
        return batch

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
        with self._engine.connect() as connection, connection.begin():
            if len(batch) == 1:  # needs no savepoint
                batch[0].result = batch[0].body(connection)
                return
            for operation in batch:
                self._run_in_savepoint(connection, operation)

    def _run_in_savepoint(self, connection: sa.Connection, operation: Operation) -> None:
        connection.exec_driver_sql("SAVEPOINT one")
        try:
            operation.result = operation.body(connection)
        except BaseException as error:
            if _lost(connection):
                raise _TransactionLost(operation, error) from error
            operation.error = error
            connection.exec_driver_sql("ROLLBACK TO one")
        connection.exec_driver_sql("RELEASE one")


def _lost(connection: sa.Connection) -> bool:
    """Whether the transaction is over; after a full disk, for example, SQLite may end it."""
    return connection.invalidated or not connection.connection.dbapi_connection.in_transaction  # type: ignore[union-attr]  # sqlite3's


def _acknowledge(batch: list[Operation]) -> None:
    """Wake up those that wait, once for each event loop."""
    loops: dict[asyncio.AbstractEventLoop, list[Operation]] = {}
    for operation in batch:
        loops.setdefault(operation.answer.get_loop(), []).append(operation)
    for loop, operations in loops.items():
        with suppress(RuntimeError):  # the loop is closed: none of its tasks waits any more
            loop.call_soon_threadsafe(_settle, operations)


def _settle(operations: list[Operation]) -> None:
    for operation in operations:
        if operation.answer.done():  # its caller is cancelled
            continue
        if operation.error is None:
            operation.answer.set_result(operation.result)
        else:
            operation.answer.set_exception(operation.error)
