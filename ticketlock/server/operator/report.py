"""What another process tells, checked: one entry that is not of our form is passed over."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from typing import Any

from .meter import SAMPLES, Counters

#: Of the form of what is told; what has another one is passed over. Keys that are added have a
#: default here: a process of the version before does not tell them.
VERSION = 1
#: Conversations that a process always tells of, those that take longest; of the others it tells
#: while an operator looks.
MOST = 50
#: Of those others: bytes of JSON that a process tells, and rows that are read of one.
ROWS_BYTES, MOST_ROWS = 1_500_000, 20_000
#: Characters of a text that is shown, and the largest number.
_TEXT, _NUMBER = 1000, 1e15
#: Kinds of errors, and errors, that a process tells of.
_KINDS, _ERRORS = 50, 20

Row = dict[str, Any]


def parse(text: bytes) -> dict[str, Any] | None:
    """The object that a process tells; None of what is not of our form, in any of its parts."""
    try:
        told = json.loads(text)
        return _summary(told) if told["v"] == VERSION else None
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


def pack_rows(rows: Iterable[Row]) -> str:
    """Conversations as a text that `parse_rows` reads, as many as its bound allows."""
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
        if size > ROWS_BYTES or len(parts) == MOST_ROWS:
            break
        parts.append(part)
    return f"[{','.join(parts)}]"


def parse_rows(text: bytes) -> list[Row] | None:
    """The conversations that a process tells of one by one; None of what is not of our form."""
    try:
        return [_packed_row(*row) for row in _list(json.loads(text), MOST_ROWS, _as_is)]
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None


# Each of these raises TypeError, ValueError or KeyError for what is something else.


def _summary(told: dict[str, Any]) -> dict[str, Any]:
    return {
        "v": VERSION,
        "name": _text(told["name"]),
        "gone": _flag(told["gone"]),
        "draining": _flag(told["draining"]),
        **{key: _whole(told[key]) for key in ("held", "waiting", "conversations")},
        "rows": _list(told["rows"], MOST, _row),
        "counters": {key: _whole(told["counters"][key]) for key in vars(Counters())},
        "samples": _list(told["samples"], SAMPLES, _numbers(3)),
        # Since 0.3.0.
        "spread": _list(told.get("spread", []), SAMPLES, _numbers(3)),
        "address": _text(told.get("address", "")),
        "version": _text(told.get("version", "")),
        "uptime": None if told.get("uptime") is None else _seconds(told["uptime"]),
        "stores": _mapping(told.get("stores", {}), 4, _store),
        "reasons": _mapping(told.get("reasons", {}), _KINDS, _whole),
        "failed": _list(told.get("failed", []), SAMPLES, _counts),
        "errors": _list(told.get("errors", []), _ERRORS, _error),
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


def _store(told: dict[str, Any]) -> dict[str, Any]:
    milliseconds = told["ms"]
    return {
        "ms": None if milliseconds is None else _seconds(milliseconds),
        "problem": _text(told["problem"]),
    }


def _error(told: dict[str, Any]) -> dict[str, Any]:
    label = told["label"]
    return {
        "ago": _seconds(told["ago"]),
        "status": _whole(told["status"]),
        "label": None if label is None else _text(label),
        **{key: _text(told[key]) for key in ("reason", "conversation", "text")},
    }


def _counts(told: Any) -> dict[str, int]:
    return _mapping(told, _KINDS, _whole)


def _numbers(many: int) -> Callable[[Any], list[int]]:
    def numbers(sample: Any) -> list[int]:
        found = _list(sample, many, _whole)
        if len(found) != many:
            raise ValueError(sample)
        return found

    return numbers


def _as_is(value: Any) -> Any:
    return value


def _mapping(values: Any, most: int, item: Callable[[Any], Any]) -> dict[str, Any]:
    if not isinstance(values, dict) or len(values) > most:
        raise ValueError(values)
    return {_text(key): item(value) for key, value in values.items()}


def _list(values: Any, most: int, item: Callable[[Any], Any]) -> list[Any]:
    if not isinstance(values, list) or len(values) > most:
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


def _whole(value: Any, most: float = _NUMBER) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < most:
        raise ValueError(value)
    return value


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(value)
    if not math.isfinite(value) or not 0 <= value < _NUMBER:
        raise ValueError(value)
    return float(value)
