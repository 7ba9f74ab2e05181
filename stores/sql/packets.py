"""Keeps statements below `max_allowed_packet`, the limit of MySQL and MariaDB.

They break the connection over a larger statement, often before they send an error. Repeating it
would look like an endless outage, so it is not sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ticketlock.errors import InvalidEvent

#: Rows of one table, all with the same columns.
Rows = Sequence[Mapping[str, Any]]

#: Key of a connection's limit in its `info`.
_KEY = "ticketlock_packet"
#: Bytes of a statement without its rows, and of a row without its texts.
_STATEMENT, _ROW = 2000, 200
#: Characters that the drivers escape with another one.
_ESCAPED = str.maketrans(dict.fromkeys("\0\n\r\x1a\"'\\", "xx"))


def listen(engine: sa.Engine) -> None:
    """Ask each new connection for its limit, which belongs to the session."""

    @sa.event.listens_for(engine, "connect")
    def connected(connection: Any, record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("SELECT @@SESSION.max_allowed_packet")
        record.info[_KEY] = int(cursor.fetchone()[0])
        cursor.close()


def split(info: Mapping[Any, Any], rows: Rows) -> Iterator[Rows]:
    """The rows in parts, each of which fits a statement on a connection with this `info`.

    Raises InvalidEvent for a row that is too large by itself; it is not sent.
    """
    limit = info.get(_KEY)
    if not rows:
        return
    if limit is None or sum(map(_at_most, rows)) + _STATEMENT <= limit:
        yield rows
        return
    part: list[Mapping[str, Any]] = []
    size = _STATEMENT
    for row in rows:
        adds = _size(row)
        if _STATEMENT + adds > limit:
            raise InvalidEvent(
                f"an event ({row.get('type_name', 'row')!r:.80}) takes {adds} bytes in a statement"
                f", and max_allowed_packet of the server is {limit}: raise it, or keep the large "
                "part elsewhere and put a reference to it in the event"
            )
        if part and size + adds > limit:
            yield part
            part, size = [], _STATEMENT
        part.append(row)
        size += adds
    yield part


def _at_most(row: Mapping[str, Any]) -> int:
    """An upper bound that is cheap to compute: a character has four bytes, or is escaped."""
    texts = (value for value in row.values() if isinstance(value, (str, bytes)))
    return _ROW + sum((2 if isinstance(t, bytes) or t.isascii() else 4) * len(t) for t in texts)


def _size(row: Mapping[str, Any]) -> int:
    size = _ROW
    for value in row.values():
        if isinstance(value, str):
            size += len(value.translate(_ESCAPED).encode())
        elif isinstance(value, bytes):
            size += 2 * len(value)
    return size
