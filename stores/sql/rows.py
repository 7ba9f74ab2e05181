"""Rows of the documented table as events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ticketlock.errors import UnreadableHistory
from ticketlock.plain_json import brief, load, load_events
from ticketlock.tracker.stored import StoredEvents


class StoredRows(StoredEvents):
    """The events in rows."""

    def __init__(self, rows: Sequence[Any]) -> None:
        super().__init__([row.data for row in rows])
        self._rows = rows

    def parse(self, start: int) -> Sequence[Mapping[str, Any]]:
        return events(self._rows[start:])


def events(rows: Sequence[Any]) -> list[Mapping[str, Any]]:
    """The events in rows. Raises UnreadableHistory with the id of a row without a valid event."""
    texts = [row.data for row in rows]
    try:
        found = load_events(texts)
    except (TypeError, ValueError, AttributeError):
        found = [_event(row) for row in rows]
    for row, event in zip(rows, found, strict=True):
        if not isinstance(event, dict) or not isinstance(event.get("event"), str):
            raise UnreadableHistory(
                f"table events, id {row.id}: data is not an event: {brief(event)}"
            )
    return found


def _event(row: Any) -> Any:
    try:
        return load(row.data)
    except (TypeError, ValueError, AttributeError) as error:
        raise UnreadableHistory(f"table events, id {row.id}: data is not JSON: {error}") from error
