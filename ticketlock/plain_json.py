"""Plain JSON: what every store keeps and every answer can carry, and how other things become it.

Older programs have stored what JSON has not: NaN, half a character, values nested a thousand deep.
Reading makes text of it, which says the same, so that nothing behind it has to expect more:
`"NaN"`, `"\\\\ud800"`, and the JSON of what is nested too deeply. What is stored stays as it is.
"""

from __future__ import annotations

import base64
import datetime
import json
import math
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

#: Levels of lists and mappings in an event, itself included; more are refused, or become text.
#: Well below what any supported Python's JSON and the databases take.
MAX_DEPTH = 100

#: Texts that are read at once; in a thread, others go on between.
_TOGETHER = 1000
#: What each value counts for beside its text: an empty list is two bytes, and many once it is read.
_VALUE = 16

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
#: Braces are brackets, and all else is nothing.
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_OTHERS = bytes(set(range(256)) - set(b"[]{}"))


def load_events(texts: Sequence[str]) -> list[Any]:
    """The values of several JSON texts, made plain. Raises ValueError if one is no JSON."""
    found: list[Any] = []
    for start in range(0, len(texts), _TOGETHER):
        found += _load_together(texts[start : start + _TOGETHER])
    return found


def _load_together(texts: Sequence[str]) -> list[Any]:
    if not any(map(_suspect, texts)):
        try:
            found: list[Any] = json.loads(f"[{','.join(texts)}]")  # for half the time
        except ValueError:
            found = []  # which one is wrong is found out below
        if len(found) == len(texts):  # else one of them is JSON only beside its neighbours
            return found
    return [load(text) for text in texts]


def load(text: str | bytes, depth: int = MAX_DEPTH) -> Any:
    """The value of a JSON text, made plain. Raises ValueError if it is none."""
    if not isinstance(text, str):
        text = text.decode(errors="replace")
    if not _suspect(text, depth):
        try:
            return json.loads(text)
        except ValueError:
            pass  # maybe a whole number too long for Python: below it becomes text
    return plain(json.loads(_shallow(text, depth), parse_int=_whole), depth)


def _suspect(text: str, depth: int = MAX_DEPTH) -> bool:
    """Whether a text may hold what is not plain; a quick look, which may be mistaken.

    A number like 1e999 passes: rare as it is, who answers or writes makes it plain.
    """
    return (
        "NaN" in text
        or "Infinity" in text
        or "\\ud" in text
        or "\\uD" in text
        or not text.isascii()
        or _deeper(text, depth)
    )


def _whole(digits: str) -> int | str:
    try:
        return int(digits)
    except ValueError:  # Python's own limit is thousands of digits
        return digits


def _shallow(text: str, most: int) -> str:
    """The JSON with what is nested deeper than `most` levels as texts that hold its JSON."""
    if not _deeper(text, most):
        return text
    parts, depth, start, kept = [], 0, 0, 0
    for token in _TOKEN.finditer(text):
        if token[0] in "[{":
            depth += 1
            if depth == most + 1:
                start = token.start()
        elif token[0] in "]}":
            depth -= 1
            if depth == most:
                parts += [text[kept:start], json.dumps(text[start : token.end()])]
                kept = token.end()
    return "".join([*parts, text[kept:]])


def _deeper(text: str, most: int) -> bool:
    """Whether JSON is nested deeper than that; each step takes the innermost brackets away."""
    if text.count("[") + text.count("{") <= most:
        return False
    outside = unescaped(text.encode(errors="replace")).split(b'"')[::2]
    left = b"".join(outside).translate(_BRACKETS, _OTHERS)
    for _ in range(most):
        if not left:
            break
        left = left.replace(b"[]", b"")
    return bool(left)


def unescaped(text: bytes) -> bytes:
    """JSON without escaped quotes and backslashes: each quote that is left begins or ends a text.

    Of bytes that are no JSON that is true up to where they are none.
    """
    return text.replace(b"\\\\", b"").replace(b'\\"', b"")


def weight(texts: Iterable[str]) -> int:
    """About how many bytes JSON takes: those of its text, and some for each value in it."""
    return sum(
        len(text) + _VALUE * (text.count(",") + text.count("[") + text.count("{")) for text in texts
    )


def plain(value: Any, room: int = MAX_DEPTH) -> Any:
    """A value as plain JSON has it, whatever a driver or an older program made of it.

    Numbers that JSON has not become text, as do bytes (in base64), times (ISO 8601) and anything
    else without a place in JSON; so does, as its `repr`, what is nested more than `room` levels.
    """
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else _NUMBERS.get(value, "NaN")
    if isinstance(value, Decimal):
        if not value.is_finite():
            return plain(float(value))
        return int(value) if value == value.to_integral_value() else plain(float(value))
    if isinstance(value, (Mapping, list, tuple, set, frozenset)):
        if not room:
            return _inner(value)
        if isinstance(value, Mapping):
            return {_text(str(k)): plain(inner, room - 1) for k, inner in value.items()}
        return [plain(inner, room - 1) for inner in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(inner := getattr(value, "value", None), bytes):  # boto3 wraps them
        return plain(inner)
    return _text(str(value))


def _inner(value: Any) -> str:
    try:
        return _text(json.dumps(value, default=str))
    except (ValueError, TypeError, RecursionError):
        return TOO_DEEP


_NUMBERS = {math.inf: "Infinity", -math.inf: "-Infinity"}


def _text(text: str) -> str:
    """Text that UTF-8 can encode: half a character becomes its escape."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def copied(value: Any, room: int = MAX_DEPTH) -> Any:
    """A copy of a value whose inner lists and mappings are nobody else's.

    Raises ValueError for more than `room` levels of them.
    """
    if isinstance(value, dict):
        if not room:
            raise ValueError(TOO_DEEP)
        return {key: copied(inner, room - 1) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        if not room:
            raise ValueError(TOO_DEEP)
        inner = [copied(x, room - 1) for x in value]
        return tuple(inner) if isinstance(value, tuple) else inner
    return value


def brief(value: object) -> str:
    """A value for the text of an error: short, however large and deep it is."""
    return f"{reprlib.repr(value):.200}"


TOO_DEEP = f"nested too deeply: more than {MAX_DEPTH} levels"
