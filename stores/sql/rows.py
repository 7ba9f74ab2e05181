"""Rows of the documented table, id and data, as events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ticketlock.errors import UnreadableHistory
from ticketlock.plain_json import brief, load, load_events
from ticketlock.tracker.stored import StoredEvents

#: A tuple, or a row of SQLAlchemy.
Row = Sequence[Any]


class StoredRows(StoredEvents):
    """The events in rows."""

    def __init__(self, rows: Sequence[Row]) -> None:
        super().__init__([data for _, data in rows])
        self._rows = rows

    def parse(self, start: int) -> Sequence[Mapping[str, Any]]:
        return events(self._rows[start:])


def events(rows: Sequence[Row]) -> list[Mapping[str, Any]]:
    """The events in rows. Raises UnreadableHistory with the id of a row without a valid event."""
    try:
        found = load_events([data for _, data in rows])
    except (TypeError, ValueError, AttributeError):
        found = [_event(*row) for row in rows]
    for (id, _), event in zip(rows, found, strict=True):
        if not isinstance(event, dict) or not isinstance(event.get("event"), str):
            raise UnreadableHistory(f"table events, id {id}: data is not an event: {brief(event)}")
    return found


def _event(id: int, data: Any) -> Any:
    try:
        return load(data)
    except (TypeError, ValueError, AttributeError) as error:
        raise UnreadableHistory(f"table events, id {id}: data is not JSON: {error}") from error
