"""PostgreSQL: the claims, or the writes, of many conversations as one statement over arrays.

A row that another transaction has locked is skipped, so no batch waits for a turn of another process.
All of a statement sees the events as they were when it began, but locks the newest row of a
conversation. What was changed in between is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from ticketlock.events import SESSION_START
from ticketlock.tracker.outbox import now_ms

from .conversation import Append, Claim, Found


def _from(row: str, sender_id: str) -> str:
    """The end of a subquery for the events `e` of a conversation from a row on.

    The planner knows neither value, and of a lower bound it expects a third of the conversation: where the rows of
    a conversation lie together, it goes through all of them by the index of `sender_id` alone. Of a range it
    expects few rows, and so it takes the index of both columns; the bounds that exclude nothing make up
    the range, and keep the primary key from being cheaper. `OFFSET 0` keeps the subquery out of a join,
    where a range is not seen as one.
    """
    return (
        f"e.sender_id = {sender_id} AND e.id >= {row} AND e.id <= {2**63 - 1} "
        f"AND e.sender_id >= {sender_id} OFFSET 0"
    )


#: How long a batch waits for a process that creates one of its conversations: such a row cannot
#: be skipped. One that is frozen would hold up all of the batch.
CREATING = "250ms"


@cache
def _claim(marks: bool) -> str:
    mark = "mark" if marks else "NULL::text"
    return f"""
WITH asked AS (
  SELECT * FROM unnest(%s::text[], %s::bigint[], %s::text[]) AS a (sender_id, fence, owner)
), held AS (
  SELECT a.* FROM ticketlock_conversations c JOIN asked a ON a.sender_id = c.sender_id
  WHERE c.fence < a.fence OR (c.fence = a.fence AND c.owner = a.owner)
  FOR UPDATE OF c SKIP LOCKED
), claimed AS (
  UPDATE ticketlock_conversations c SET fence = h.fence, owner = h.owner
  FROM held h WHERE c.sender_id = h.sender_id
  RETURNING c.sender_id, c.sequence, c.last_id, c.session_id, c.born, {mark} AS mark
), seen AS (
  SELECT n.* FROM claimed n JOIN ticketlock_conversations c ON c.sender_id = n.sender_id
  WHERE c.sequence = n.sequence AND c.last_id = n.last_id AND c.born = n.born
), created AS (
  INSERT INTO ticketlock_conversations
    (sender_id, fence, owner, sequence, last_id, session_id, born)
  SELECT a.sender_id, a.fence, a.owner, 0, 0, 0, %s::bigint
  FROM asked a, (SELECT set_config('lock_timeout', '{CREATING}', true)) AS s
  WHERE NOT EXISTS (SELECT FROM ticketlock_conversations c WHERE c.sender_id = a.sender_id)
    AND NOT EXISTS (SELECT FROM events e WHERE e.sender_id = a.sender_id)
  ORDER BY a.sender_id
  ON CONFLICT DO NOTHING
  RETURNING sender_id, sequence, last_id, session_id, born, {mark} AS mark
)
SELECT sender_id, sequence, last_id, session_id, born, mark, NULL::bigint, NULL::text FROM seen
UNION ALL
SELECT sender_id, sequence, last_id, session_id, born, mark, NULL::bigint, NULL::text FROM created
UNION ALL
SELECT s.sender_id, NULL, NULL, NULL, NULL, NULL, e.id, e.data
FROM seen s, LATERAL (
  SELECT id, data FROM events e
  WHERE {_from("s.session_id", "s.sender_id")}
) e"""


async def claim(
    marks: bool, connection: Any, batch: Sequence[Claim], info: Mapping[Any, Any]
) -> Mapping[str, Found]:
    """Claim conversations; those that are locked, stale or not counted yet are left out."""
    columns = [list(column) for column in zip(*batch, strict=True)]
    cursor = await connection.execute(_claim(marks), (*columns, now_ms()))
    found: dict[str, Found] = {}
    for sender_id, *head, row_id, data in await cursor.fetchall():
        if row_id is None:
            found[sender_id] = Found._make([*head, []])
        else:
            found[sender_id].rows.append((row_id, data))
    return {key: one for key, one in found.items() if one.counted()}


@cache
def _write(marks: bool) -> str:
    mark = ", mark = coalesce(h.mark, c.mark)" if marks else ""
    return f"""
WITH asked AS (
  SELECT * FROM unnest(
    %s::text[], %s::bigint[], %s::text[], %s::bigint[], %s::bigint[], %s::text[]
  ) AS a (sender_id, fence, owner, sequence, publish, mark)
), held AS (
  SELECT a.* FROM ticketlock_conversations c JOIN asked a ON a.sender_id = c.sender_id
  WHERE c.fence = a.fence AND c.owner = a.owner AND c.sequence = a.sequence
    AND NOT EXISTS (
      SELECT FROM events e WHERE {_from("c.last_id + 1", "c.sender_id")}
    )
  FOR UPDATE OF c SKIP LOCKED
), added AS (
  INSERT INTO events (sender_id, type_name, timestamp, intent_name, action_name, data)
  SELECT n.sender_id, n.type_name, n.timestamp, n.intent_name, n.action_name, n.data
  FROM unnest(
    %s::text[], %s::text[], %s::float8[], %s::text[], %s::text[], %s::text[]
  ) WITH ORDINALITY AS n (sender_id, type_name, timestamp, intent_name, action_name, data, place)
  JOIN held h ON h.sender_id = n.sender_id
  ORDER BY n.place
  RETURNING id, sender_id, type_name, action_name
), counted AS (
  SELECT sender_id, count(*) AS many, max(id) AS last_id,
    max(id) FILTER (WHERE type_name = 'action' AND action_name = '{SESSION_START}') AS session_id
  FROM added GROUP BY sender_id
)
UPDATE ticketlock_conversations c SET
  sequence = c.sequence + coalesce(n.many, 0), last_id = coalesce(n.last_id, c.last_id),
  session_id = coalesce(n.session_id, c.session_id),
  outbox = CASE WHEN h.publish > 0 THEN coalesce(c.outbox, c.sequence) ELSE c.outbox END,
  outbox_id = CASE WHEN h.publish > 0 AND c.outbox IS NULL THEN c.last_id ELSE c.outbox_id END,
  outbox_since = CASE WHEN h.publish > 0 AND c.outbox IS NULL THEN h.publish ELSE c.outbox_since END,
  outbox_at = CASE WHEN h.publish > 0 AND c.outbox IS NULL THEN h.publish ELSE c.outbox_at END{mark}
FROM held h LEFT JOIN counted n ON n.sender_id = h.sender_id
WHERE c.sender_id = h.sender_id
RETURNING c.sender_id, c.sequence"""


async def write(
    marks: bool, connection: Any, batch: Sequence[Append], info: Mapping[Any, Any]
) -> Mapping[str, int]:
    """Append events; where anything is not as the turn has left it, it is left out."""
    turns = zip(*map(_turn, batch), strict=True)
    names = ("sender_id", "type_name", "timestamp", "intent_name", "action_name", "data")
    rows = [row for append in batch for row in append.rows]
    columns = [[row[name] for row in rows] for name in names]
    cursor = await connection.execute(_write(marks), (*map(list, turns), *columns))
    return dict(await cursor.fetchall())


def _turn(append: Append) -> tuple[Any, ...]:
    write = append.write
    assert write.guard is not None  # a write without one goes alone
    mark = None if write.mark is None else json.dumps(write.mark)
    return (write.sender_id, *write.guard, write.sequence, write.publish, mark)
