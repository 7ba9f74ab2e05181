"""A claim and a write on SQLite, sent through the driver: half of a turn was SQLAlchemy's work.

What is stale or in any way unusual goes alone, as on a server, and is refused or mended there.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ticketlock.events import SESSION_START
from ticketlock.tracker.outbox import now_ms

from .conversation import Append, Claim, Found

if TYPE_CHECKING:
    import sqlalchemy as sa

    from .sqlite import SQLiteEngine

T = TypeVar("T")

#: The version that has RETURNING.
OLDEST = (3, 35)

_CLAIM = """
INSERT INTO ticketlock_conversations
  (sender_id, fence, owner, sequence, last_id, session_id, born) VALUES (?, ?, ?, 0, 0, 0, ?)
ON CONFLICT (sender_id) DO UPDATE SET fence = excluded.fence, owner = excluded.owner
  WHERE fence < excluded.fence OR (fence = excluded.fence AND owner = excluded.owner)
RETURNING sequence, last_id, session_id, born, mark"""

_SINCE = "SELECT id, data FROM events WHERE sender_id = ? AND id >= ? ORDER BY id"

_NAMES = ("sender_id", "type_name", "timestamp", "intent_name", "action_name", "data")
_ADD = f"INSERT INTO events ({', '.join(_NAMES)}) VALUES (?, ?, ?, ?, ?, ?)"

_NOTE = """
UPDATE ticketlock_conversations SET
  sequence = sequence + :many, last_id = coalesce(:last_id, last_id),
  session_id = coalesce(:session_id, session_id), mark = coalesce(:mark, mark),
  outbox = CASE WHEN :publish > 0 THEN coalesce(outbox, sequence) ELSE outbox END,
  outbox_id = CASE WHEN :publish > 0 AND outbox IS NULL THEN last_id ELSE outbox_id END,
  outbox_since = CASE WHEN :publish > 0 AND outbox IS NULL THEN :publish ELSE outbox_since END,
  outbox_at = CASE WHEN :publish > 0 AND outbox IS NULL THEN :publish ELSE outbox_at END
WHERE sender_id = :sender_id AND fence = :fence AND owner = :owner AND sequence = :sequence
  AND NOT EXISTS (
    SELECT 1 FROM events e WHERE e.sender_id = :sender_id AND e.id > last_id
      AND (:first_id IS NULL OR e.id < :first_id)
  )"""


class _Unusual(Exception):
    """What was done is to be undone, and the turn goes alone."""


class SQLiteTurns:
    """The turns of a store."""

    def __init__(self, engine: SQLiteEngine) -> None:
        self._engine = engine

    async def claim(self, claim: Claim) -> Found | None:
        """The row of the conversation and its events; None: claim it alone."""
        return await self._run(lambda connection: _claim(connection, claim), synced=False)

    async def write(self, append: Append) -> int | None:
        """The sequence after it; None: write it alone."""
        write = append.write
        if write.guard is None or write.replace:
            return None
        size = sum(len(event.text) for event in write.events)
        return await self._run(lambda connection: _write(connection, append), size)

    async def _run(
        self, body: Callable[[sqlite3.Connection], T], size: int = 0, synced: bool = True
    ) -> T | None:
        def through_the_driver(connection: sa.Connection) -> T:
            driver: Any = connection.connection.dbapi_connection
            return body(driver)

        try:
            return await self._engine.run(through_the_driver, size=size, synced=synced)
        except (_Unusual, sqlite3.Error):  # alone it is said what is wrong
            return None


def _claim(connection: sqlite3.Connection, claim: Claim) -> Found:
    row = connection.execute(_CLAIM, (*claim, now_ms())).fetchone()
    if row is None:
        raise _Unusual
    rows = connection.execute(_SINCE, (claim.sender_id, row[2])).fetchall()
    found = Found._make((*row, rows))
    if not found.counted():
        raise _Unusual
    return found


def _write(connection: sqlite3.Connection, append: Append) -> int:
    write = append.write
    assert write.guard is not None  # a write without one goes alone
    first_id = last_id = session_id = None
    for row in append.rows:
        last_id = connection.execute(_ADD, [row[name] for name in _NAMES]).lastrowid
        first_id = first_id or last_id
        if row["type_name"] == "action" and row["action_name"] == SESSION_START:
            session_id = last_id
    values = {
        "sender_id": write.sender_id, "fence": write.guard[0], "owner": write.guard[1],
        "sequence": write.sequence, "many": len(append.rows), "publish": write.publish,
        "first_id": first_id, "last_id": last_id, "session_id": session_id,
        "mark": None if write.mark is None else json.dumps(write.mark),
    }  # fmt: skip
    if not connection.execute(_NOTE, values).rowcount:
        raise _Unusual
    return write.sequence + len(append.rows)
