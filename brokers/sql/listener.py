"""Reads the rows that are inserted into a table of events, for the demo."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from ticketlock.errors import EventBrokerConnectionError
from ticketlock.event_service.source import RawMessage, Source

from .broker import EVENTS, TROUBLE, SQLEventBroker, _opening

#: Seconds that a query may take.
QUERY_SECONDS = 30.0
#: Seconds between two reads of a table without new rows.
_PAUSE = 0.05


class _Table(SQLEventBroker):
    """The broker's connection, used for reading."""

    def newest(self, end: float) -> int:
        """The highest id; 0 without rows."""
        self._open(end)
        return int(self._query(sa.select(sa.func.max(EVENTS.c.id)), end)[0][0] or 0)

    def behind(self, last: int, limit: int, end: float) -> list[Any]:
        """At most `limit` rows (id, data) with a higher id than `last`, sorted by id."""
        self._open(end)
        rows = sa.select(EVENTS.c.id, EVENTS.c.data).where(EVENTS.c.id > last)
        return self._query(rows.order_by(EVENTS.c.id).limit(limit), end)

    def _query(self, query: sa.Select[Any], end: float) -> list[Any]:
        def rows(connection: sa.Connection) -> list[Any]:
            return list(connection.execute(query))

        try:
            return self._run_async(_opening.read(self._engine, rows), end)
        except TROUBLE as error:
            self._ready = False
            raise self._translate(error) from error

    def shut(self, end: float) -> None:
        self._shut(end)


class SQLListener(Source):
    """Reads the rows after the newest one at the first `open`.

    Rows of two writers may be committed in another order than that of their ids. A row that
    appears below the last one read is missed, so read after the writers have finished.

    Args:
        name: ignored: readers of a table do not affect each other.
        keys: those of the section.
    """

    def __init__(self, name: str = "", *, where: str = "event_broker", **keys: Any) -> None:
        self._table = _Table(where=where, **keys)
        self.address = self._table.address
        self._last: int | None = None

    def open(self, end: float) -> None:
        if self._last is None:
            self._last = self._table.newest(end)

    @property
    def is_ready(self) -> bool:
        return self._last is not None

    def read(self, limit: int, seconds: float) -> list[RawMessage]:
        if self._last is None:
            raise EventBrokerConnectionError(f"{self.address}: not connected yet")
        end = time.monotonic() + seconds
        while not (rows := self._table.behind(self._last, limit, end + QUERY_SECONDS)):
            if time.monotonic() >= end:
                return []
            time.sleep(_PAUSE)
        self._last = rows[-1][0]
        return [RawMessage(data.encode(), f"row {id}", True, None) for id, data in rows]

    def confirm(self, messages: Sequence[RawMessage]) -> None:
        """Does nothing: a table has no confirmations."""

    def close(self, end: float) -> None:
        self._table.shut(end)
