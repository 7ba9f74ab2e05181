"""Plain JSON, which every store and every answer can hold, and the conversion of other values.

Older programs may have stored values outside of JSON: NaN, lone surrogates, deep nesting. When
they are read they become text, so that other code need not handle them: `"NaN"`, `"\\\\ud800"`,
and the JSON of values that are nested too deeply. The stored data is not changed.
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

#: Most levels of lists and mappings in an event, itself included; more are rejected, or become
#: text. It is well below the limits of Python's JSON and of the databases.
MAX_DEPTH = 100

#: Texts that are parsed at once; in a thread, other threads run in between.
_TOGETHER = 1000
#: Bytes that each value counts beside its text: in memory, an empty list takes more than two.
_VALUE = 16

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
#: Created once, because every event of an answer is encoded by it.
_compact = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
#: Turns braces into brackets, and deletes all other characters.
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_OTHERS = bytes(set(range(256)) - set(b"[]{}"))


def load_events(texts: Sequence[str]) -> list[Any]:
    """The plain values of several JSON texts. Raises ValueError if one is not JSON."""
    found: list[Any] = []
    for start in range(0, len(texts), _TOGETHER):
        found += _load_together(texts[start : start + _TOGETHER])
    return found


def _load_together(texts: Sequence[str]) -> list[Any]:
    joined = ",".join(texts)
    if not (_odd(joined) or any(_deeper(text, MAX_DEPTH) for text in texts)):
        try:
            found: list[Any] = json.loads(f"[{joined}]")  # takes half the time
        except ValueError:
            found = []  # parsed one by one below, to find the invalid one
        if len(found) == len(texts):  # else one is valid only together with its neighbours
            return found
    return [load(text) for text in texts]


def load(text: str | bytes, depth: int = MAX_DEPTH) -> Any:
    """The plain value of a JSON text. Raises ValueError if it is not JSON."""
    if not isinstance(text, str):
        text = text.decode(errors="replace")
    if not _suspect(text, depth):
        try:
            return json.loads(text)
        except ValueError:
            pass  # perhaps an integer too long for Python, which becomes text below
    return plain(json.loads(_shallow(text, depth), parse_int=_whole), depth)


def _suspect(text: str, depth: int = MAX_DEPTH) -> bool:
    """Whether a text may contain a value that is not plain; a fast check with false positives.

    It misses numbers such as 1e999, which become plain when they are written or answered.
    """
    return _odd(text) or _deeper(text, depth)


def _odd(text: str) -> bool:
    """Whether a text may contain a number outside of JSON, or a lone surrogate."""
    return (
        "NaN" in text
        or "Infinity" in text
        or "\\ud" in text
        or "\\uD" in text
        or not text.isascii()
    )


def _whole(digits: str) -> int | str:
    try:
        return int(digits)
    except ValueError:  # Python has a limit of some thousand digits
        return digits


def _shallow(text: str, limit: int) -> str:
    """The JSON, with values nested deeper than `limit` levels replaced by texts of their JSON."""
    if not _deeper(text, limit):
        return text
    parts, depth, start, kept = [], 0, 0, 0
    for token in _TOKEN.finditer(text):
        if token[0] in "[{":
            depth += 1
            if depth == limit + 1:
                start = token.start()
        elif token[0] in "]}":
            depth -= 1
            if depth == limit:
                parts += [text[kept:start], json.dumps(text[start : token.end()])]
                kept = token.end()
    return "".join([*parts, text[kept:]])


def _deeper(text: str, limit: int) -> bool:
    """Whether JSON is nested deeper than that; each step removes the innermost brackets."""
    if text.count("[") + text.count("{") <= limit:
        return False
    outside = unescaped(text.encode(errors="replace")).split(b'"')[::2]
    left = b"".join(outside).translate(_BRACKETS, _OTHERS)
    for _ in range(limit):
        if not left:
            break
        left = left.replace(b"[]", b"")
    return bool(left)


def unescaped(text: bytes) -> bytes:
    """JSON without escaped quotes and backslashes, so that each quote begins or ends a text.

    For invalid JSON that holds up to the first error.
    """
    return text.replace(b"\\\\", b"").replace(b'\\"', b"")


def weight(texts: Iterable[str]) -> int:
    """The approximate size of JSON in memory: the bytes of its text, and some for each value."""
    text = "".join(texts)
    return len(text) + _VALUE * (text.count(",") + text.count("[") + text.count("{"))


def plain(value: Any, depth: int = MAX_DEPTH) -> Any:
    """A value of a driver or an older program as plain JSON.

    Numbers outside of JSON become text, as do bytes (base64), times (ISO 8601), values of other
    types, and values nested deeper than `depth` levels (their JSON).
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
        if not depth:
            return _inner(value)
        if isinstance(value, Mapping):
            return {_text(str(k)): plain(inner, depth - 1) for k, inner in value.items()}
        return [plain(inner, depth - 1) for inner in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(inner := getattr(value, "value", None), bytes):  # boto3 wraps them
        return plain(inner)
    return _text(str(value))


def dumped(value: Any) -> bytes:
    """A value as JSON in UTF-8, made plain where it is not."""
    try:
        return _compact(value).encode()
    except (TypeError, ValueError, RecursionError):
        return _compact(plain(value)).encode()


def _inner(value: Any) -> str:
    try:
        return _text(json.dumps(value, default=str))
    except (ValueError, TypeError, RecursionError):
        return TOO_DEEP


_NUMBERS = {math.inf: "Infinity", -math.inf: "-Infinity"}


def _text(text: str) -> str:
    """Text that UTF-8 can encode: lone surrogates are escaped."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def copied(value: Any, depth: int = MAX_DEPTH) -> Any:
    """A deep copy of a JSON value. Raises ValueError if it has more than `depth` levels."""
    if isinstance(value, dict):
        if not depth:
            raise ValueError(TOO_DEEP)
        return {key: copied(inner, depth - 1) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        if not depth:
            raise ValueError(TOO_DEEP)
        inner = [copied(x, depth - 1) for x in value]
        return tuple(inner) if isinstance(value, tuple) else inner
    return value


def brief(value: object) -> str:
    """A short text of any value, for errors."""
    return f"{reprlib.repr(value):.200}"


TOO_DEEP = f"nested too deeply: more than {MAX_DEPTH} levels"
