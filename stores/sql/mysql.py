"""MariaDB and MySQL: the claims, or the writes, of many conversations in a few statements.

They are one transaction. A row that another one has locked is skipped, so no batch waits for a turn
of another process.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ticketlock.events import SESSION_START

from . import packets, schema
from .conversation import Append, Claim, Found

_TABLE = schema.conversations.name
#: The events of one conversation; exact with any collation.
_EXACT = "sender_id = %s AND CAST(CONVERT(sender_id USING utf8mb4) AS BINARY) = %s"
_EVENTS = f"events {schema.BY_SENDER}"
_SINCE = f"SELECT %s, id, data FROM {_EVENTS} WHERE {_EXACT} AND id >= %s"
_BEHIND = (
    "SELECT %s, COUNT(*), COALESCE(MAX(id), 0), COALESCE(MAX(CASE WHEN type_name = 'action'"
    f" AND action_name = '{SESSION_START}' THEN id END), 0) FROM {_EVENTS} WHERE {_EXACT} AND id > %s"
)
_NAMES = ("sender_id", "type_name", "timestamp", "intent_name", "action_name", "data")
_HOLDER = ("fence", "owner")
_CLAIMED = "fence, owner, sequence, last_id, session_id, born"
_WRITTEN = "fence, owner, sequence, last_id, session_id, outbox"
_ADD = f"INSERT INTO events ({', '.join(_NAMES)}) VALUES "


def skips_locked(dialect: Any) -> bool:
    """Whether the connected server knows SKIP LOCKED."""
    return bool(dialect.server_version_info >= ((10, 6) if dialect.is_mariadb else (8, 0, 1)))


async def claim(
    marks: bool, connection: Any, batch: Sequence[Claim], info: Mapping[Any, Any]
) -> Mapping[str, Found]:
    """Claim conversations; those that are locked, stale or not counted yet are left out."""
    columns = _CLAIMED + (", mark" if marks else ", NULL")
    asked = {claim.sender_id: (claim.fence, claim.owner) for claim in batch}
    async with connection.cursor() as cursor:
        held = await _lock(cursor, list(asked), columns)
        if absent := await _absent(cursor, [key for key in asked if key not in held]):
            # Fails if another process creates one, as an INSERT that waits for it cannot skip it.
            held |= await _lock(cursor, absent, columns, "NOWAIT")
            await _create(cursor, absent)
            held |= await _lock(cursor, absent, columns)
        found = {
            key: Found._make([*head, []])
            for key, (fence, owner, *head) in held.items()
            if fence < asked[key][0] or (fence, owner) == asked[key]
        }
        await _note(cursor, {key: dict(zip(_HOLDER, asked[key], strict=True)) for key in found})
        first = {key: one.session_id for key, one in found.items()}
        for key, row_id, data in await _of_each(cursor, _SINCE, first):
            found[key].rows.append((row_id, data))
    await connection.commit()
    return {key: one for key, one in found.items() if one.counted()}


async def write(
    marks: bool, connection: Any, batch: Sequence[Append], info: Mapping[Any, Any]
) -> Mapping[str, int]:
    """Append events; where anything is not as the turn has left it, it is left out."""
    async with connection.cursor() as cursor:
        held = await _lock(cursor, [append.sender_id for append in batch], _WRITTEN)
        fits = {
            append.sender_id: append.write
            for append in batch
            if held.get(append.sender_id, ())[:3] == (*_guard(append), append.write.sequence)
        }
        rows = [row for append in batch if append.sender_id in fits for row in append.rows]
        for part in packets.split(info, rows):
            places = ", ".join([f"({', '.join(['%s'] * len(_NAMES))})"] * len(part))
            await cursor.execute(_ADD + places, [row[name] for row in part for name in _NAMES])
        last = {key: held[key][3] for key in fits}
        notes: dict[str, dict[str, Any]] = {}
        for key, many, last_id, session_id in await _of_each(cursor, _BEHIND, last):
            _, _, sequence, before, session, outbox = held[key]
            note = {"sequence": sequence + many, "last_id": last_id or before}
            note["session_id"] = session_id or session
            if fits[key].mark is not None and marks:
                note["mark"] = json.dumps(fits[key].mark)
            if (at := fits[key].publish) and outbox is None:
                note |= {"outbox": sequence, "outbox_id": before}
                note |= {"outbox_since": at, "outbox_at": at}
            notes[key] = note
        await _note(cursor, notes)
    await connection.commit()
    return {key: note["sequence"] for key, note in notes.items()}


def _guard(append: Append) -> tuple[int, str]:
    assert append.write.guard is not None  # a write without one goes alone
    return append.write.guard


async def _lock(
    cursor: Any, keys: Sequence[str], columns: str, otherwise: str = "SKIP LOCKED"
) -> dict[str, tuple[Any, ...]]:
    """These columns of the rows that no other transaction has locked, which this one has now."""
    text = f"SELECT sender_id, {columns} FROM {_TABLE} WHERE sender_id IN ({_places(keys)})"
    await cursor.execute(f"{text} FOR UPDATE {otherwise}", keys)
    return {schema.text(key): tuple(row) for key, *row in await cursor.fetchall()}


async def _absent(cursor: Any, keys: Sequence[str]) -> list[str]:
    """Those that have no row, and are not only locked."""
    if not keys:
        return []
    text = f"SELECT sender_id FROM {_TABLE} WHERE sender_id IN ({_places(keys)})"
    await cursor.execute(text, keys)
    there = {schema.text(key) for (key,) in await cursor.fetchall()}
    return [key for key in keys if key not in there]


async def _create(cursor: Any, keys: Sequence[str]) -> None:
    """Add rows, as `schema.begun`; in order, so that two processes do not wait for each other."""
    rows = [schema.begun(key) for key in sorted(keys)]
    names = ", ".join(rows[0])
    places = ", ".join([f"({_places(list(rows[0]))})"] * len(rows))
    values = [value for row in rows for value in row.values()]
    # Not IGNORE, for whose warnings the driver asks in one more round trip.
    text = f"INSERT INTO {_TABLE} ({names}) VALUES {places} ON DUPLICATE KEY UPDATE fence = fence"
    await cursor.execute(text, values)


async def _of_each(cursor: Any, text: str, rows: Mapping[str, int]) -> list[tuple[Any, ...]]:
    """The answers of `text` for each conversation and its row, with the conversation's id."""
    if not rows:
        return []
    keys = list(rows)
    values = [value for place, key in enumerate(keys) for value in (place, key, key, rows[key])]
    await cursor.execute(" UNION ALL ".join([text] * len(keys)), values)
    return [(keys[place], *found) for place, *found in await cursor.fetchall()]


async def _note(cursor: Any, notes: Mapping[str, Mapping[str, Any]]) -> None:
    """Change rows that are locked: for each, these columns to these values."""
    if not notes:
        return
    changes, values = [], []
    for name in dict.fromkeys(name for note in notes.values() for name in note):
        changed = {key: note[name] for key, note in notes.items() if name in note}
        cases = "WHEN %s THEN %s " * len(changed)
        changes.append(f"{name} = CASE sender_id {cases}ELSE {name} END")
        values += [value for pair in changed.items() for value in pair]
    text = f"UPDATE {_TABLE} SET {', '.join(changes)} WHERE sender_id IN ({_places(list(notes))})"
    await cursor.execute(text, [*values, *notes])


def _places(values: Sequence[Any]) -> str:
    return ", ".join(["%s"] * len(values))
