"""What another process tells, checked: one entry that is not of our form is passed over."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from .meter import SAMPLES, Counters

#: Of the form of what is told; what has another one is passed over.
VERSION = 1
#: Conversations that a process tells of, those that take longest.
MOST = 50
#: Characters of a text that is shown, and the largest number.
_TEXT, _NUMBER = 1000, 1e15


def parse(text: bytes) -> dict[str, Any] | None:
    """The object that a process tells; None of what is not of our form, in any of its parts."""
    try:
        told = json.loads(text)
        return _summary(told) if told["v"] == VERSION else None
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
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
        "samples": _list(told["samples"], SAMPLES, _sample),
    }


def _row(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": _text(row["id"]),
        "holder": None if row["holder"] is None else _holder(row["holder"]),
        "waiting": _whole(row["waiting"]),
        "longest_wait": _seconds(row["longest_wait"]),
    }


def _holder(holder: dict[str, Any]) -> dict[str, Any]:
    label = holder["label"]
    return {
        "label": None if label is None else _text(label),
        "number": _whole(holder["number"]),
        "fence": _whole(holder["fence"], 2**63),
        "held_for": _seconds(holder["held_for"]),
    }


def _sample(sample: Any) -> list[int]:
    turns, waiting, wait = _list(sample, 3, _whole)
    return [turns, waiting, wait]


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
