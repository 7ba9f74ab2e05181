"""The query of the page: which conversations to show, and in which order."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import BadRequest
from .activity import age
from .report import Row

#: Filters: all, with a holder, with a queue, slow, stuck.
SHOWN = ("all", "held", "waiting", "slow", "stuck")
#: Rows of an answer: by default, and at most.
LIMIT, MAX_LIMIT = 25, 500
#: Most characters of a search.
_TEXT = 300


def _held(row: Row) -> float:
    return float(row["holder"]["held_for"]) if row["holder"] else -1.0


def _by(row: Row) -> str:
    return str((row["holder"] or {}).get("process") or "")


SORTS: dict[str, Callable[[Row], Any]] = {
    "age": age,
    "held": _held,
    "waiting": lambda row: row["waiting"],
    "wait": lambda row: row["longest_wait"],
    "id": lambda row: row["id"].casefold(),
    "process": _by,
}


@dataclass(frozen=True)
class Query:
    """Which conversations to show.

    Attributes:
        text: part of the id, or of the message id of its holder; case does not matter.
        show: one of `SHOWN`; `slow` includes the stuck ones.
        process: the process that holds it or has messages that wait for it; empty: any.
        sort, ascending: one of `SORTS`, and the direction.
        start, limit: rows to skip, and rows to show.
    """

    text: str = ""
    show: str = "all"
    process: str = ""
    sort: str = "age"
    ascending: bool = False
    start: int = 0
    limit: int = LIMIT

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Query:
        """From a query string. Raises BadRequest."""
        show, sort = given.get("show", "all"), given.get("sort", "age")
        if show not in SHOWN:
            raise BadRequest(f"show must be one of {', '.join(SHOWN)}")
        if sort not in SORTS:
            raise BadRequest(f"sort must be one of {', '.join(SORTS)}")
        order = given.get("order", "desc")
        if order not in ("asc", "desc"):
            raise BadRequest("order must be asc or desc")
        start, limit = _whole(given, "start", 0), _whole(given, "limit", LIMIT)
        text, process = given.get("q", "").strip(), given.get("process", "")
        if max(len(text), len(process)) > _TEXT:
            raise BadRequest(f"q and process must have at most {_TEXT} characters")
        return cls(text, show, process, sort, order == "asc", start, min(limit, MAX_LIMIT))

    def found(self, rows: Iterable[Row]) -> list[Row]:
        """The rows that match, in no order."""
        text, show, process = self.text.casefold(), self.show, self.process
        states = {"slow": ("slow", "stuck"), "stuck": ("stuck",)}.get(show)
        if states is not None:
            rows = (row for row in rows if row["state"] in states)
        elif show == "held":
            rows = (row for row in rows if row["holder"])
        elif show == "waiting":
            rows = (row for row in rows if row["waiting"])
        if process:
            rows = (row for row in rows if _by(row) == process or process in row["waits_at"])
        if text:
            rows = (row for row in rows if text in row["id"].casefold() or text in _label(row))
        return list(rows)

    def cut(self, found: list[Row]) -> tuple[int, list[Row]]:
        """The index of the first row to show, and the rows, sorted; beyond the end the last page."""
        start = min(self.start, max(0, len(found) - 1) // self.limit * self.limit)
        pick = heapq.nsmallest if self.ascending else heapq.nlargest
        return start, pick(start + self.limit, found, key=SORTS[self.sort])[start:]


def _label(row: Row) -> str:
    label: str | None = row["holder"]["label"] if row["holder"] else None
    return label.casefold() if label else ""


def _whole(given: Mapping[str, str], key: str, default: int) -> int:
    text = given.get(key, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 10) or int(text) < (key == "limit"):
        raise BadRequest(f"{key} must be a whole number" + " above 0" * (key == "limit"))
    return int(text)
