"""The report of a process: its format, and how reports of others are parsed and checked."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from typing import Any

from .meter import SAMPLES, Counters

#: Version of the format; reports with another one are ignored. New keys need a default here,
#: because processes of the previous version do not report them.
VERSION = 1
#: Seconds after its last report in which a process counts as running.
ALIVE = 10.0
#: Conversations in each report, the oldest ones; the others are reported while the page is open.
MAX_OLDEST = 50
#: Limits for those others: bytes of JSON, and rows.
ROWS_BYTES, MAX_ROWS = 1_500_000, 20_000
#: Most characters of a text, and the largest number.
_TEXT, _NUMBER = 1000, 1e15
#: Most kinds of errors, and errors.
_KINDS, _ERRORS = 50, 20

Row = dict[str, Any]


def parse(text: bytes) -> dict[str, Any] | None:
    """The summary in a report; None if any part of it is invalid."""
    try:
        summary = json.loads(text)
        return _summary(summary) if summary["v"] == VERSION else None
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


def pack_rows(rows: Iterable[Row]) -> str:
    """Conversations as a text for `parse_rows`, as count as fit its limits."""
    parts: list[str] = []
    size = 2
    for row in rows:
        holder = row["holder"]
        packed = None if holder is None else [
            holder["label"], holder["number"], holder["fence"], round(holder["held_for"], 2),
            round(holder["lifetime"], 2),
        ]  # fmt: skip
        wait = round(row["longest_wait"], 2)
        part = json.dumps([row["id"], row["waiting"], wait, packed], separators=(",", ":"))
        size += len(part) + 1
        if size > ROWS_BYTES or len(parts) == MAX_ROWS:
            break
        parts.append(part)
    return f"[{','.join(parts)}]"


def parse_rows(text: bytes) -> list[Row] | None:
    """The conversations that a process lists one by one; None if any is invalid."""
    try:
        return [_packed_row(*row) for row in _list(json.loads(text), MAX_ROWS, _as_is)]
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None


# Each of these raises TypeError, ValueError or KeyError for invalid input.


def _summary(given: dict[str, Any]) -> dict[str, Any]:
    return {
        "v": VERSION,
        "name": _text(given["name"]),
        "gone": _flag(given["gone"]),
        "draining": _flag(given["draining"]),
        **{key: _whole(given[key]) for key in ("held", "waiting", "conversations")},
        "rows": _list(given["rows"], MAX_OLDEST, _row),
        "counters": {key: _whole(given["counters"][key]) for key in vars(Counters())},
        "samples": _list(given["samples"], SAMPLES, _numbers(3)),
        # Since 0.3.0.
        "spread": _list(given.get("spread", []), SAMPLES, _numbers(3)),
        "address": _text(given.get("address", "")),
        "version": _text(given.get("version", "")),
        "uptime": None if given.get("uptime") is None else _seconds(given["uptime"]),
        "stores": _mapping(given.get("stores", {}), 4, _store),
        "reasons": _mapping(given.get("reasons", {}), _KINDS, _whole),
        "failed": _list(given.get("failed", []), SAMPLES, _counts),
        "errors": _list(given.get("errors", []), _ERRORS, _error),
        # Since 0.5.0.
        "bot": _text(given.get("bot", "")),
        "tracker": _text(given.get("tracker", "")),
    }


def _row(row: dict[str, Any]) -> Row:
    return {
        "id": _text(row["id"]),
        "holder": None if row["holder"] is None else _holder(row["holder"]),
        "waiting": _whole(row["waiting"]),
        "longest_wait": _seconds(row["longest_wait"]),
    }


def _holder(holder: dict[str, Any]) -> dict[str, Any]:
    label, lifetime = holder["label"], holder.get("lifetime")
    return {
        "label": None if label is None else _text(label),
        "number": _whole(holder["number"]),
        "fence": _whole(holder["fence"], 2**63),
        "held_for": _seconds(holder["held_for"]),
        "lifetime": None if lifetime is None else _seconds(lifetime),
    }


def _packed_row(name: Any, waiting: Any, wait: Any, packed: Any) -> Row:
    holder = None
    if packed is not None:
        keys = ("label", "number", "fence", "held_for", "lifetime")
        holder = dict(zip(keys, packed, strict=True))
    return _row({"id": name, "holder": holder, "waiting": waiting, "longest_wait": wait})


def _store(given: dict[str, Any]) -> dict[str, Any]:
    milliseconds = given["ms"]
    return {
        "ms": None if milliseconds is None else _seconds(milliseconds),
        "problem": _text(given["problem"]),
    }


def _error(given: dict[str, Any]) -> dict[str, Any]:
    label = given["label"]
    return {
        "ago": _seconds(given["ago"]),
        "status": _whole(given["status"]),
        "label": None if label is None else _text(label),
        **{key: _text(given[key]) for key in ("reason", "conversation", "text")},
    }


def _counts(given: Any) -> dict[str, int]:
    return _mapping(given, _KINDS, _whole)


def _numbers(count: int) -> Callable[[Any], list[int]]:
    def numbers(sample: Any) -> list[int]:
        found = _list(sample, count, _whole)
        if len(found) != count:
            raise ValueError(sample)
        return found

    return numbers


def _as_is(value: Any) -> Any:
    return value


def _mapping(values: Any, limit: int, item: Callable[[Any], Any]) -> dict[str, Any]:
    if not isinstance(values, dict) or len(values) > limit:
        raise ValueError(values)
    return {_text(key): item(value) for key, value in values.items()}


def _list(values: Any, limit: int, item: Callable[[Any], Any]) -> list[Any]:
    if not isinstance(values, list) or len(values) > limit:
        raise ValueError(values)
    return [item(value) for value in values]


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _TEXT:
        raise ValueError(value)
    value.encode()  # a lone surrogate could not be sent on
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(value)
    return value


def _whole(value: Any, limit: float = _NUMBER) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < limit:
        raise ValueError(value)
    return value


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(value)
    if not math.isfinite(value) or not 0 <= value < _NUMBER:
        raise ValueError(value)
    return float(value)
