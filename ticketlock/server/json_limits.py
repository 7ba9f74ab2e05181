"""JSON of strangers: counted before it is parsed, because a megabyte may be 350,000 values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ..plain_json import unescaped
from .errors import BadRequest, TooMuch
from .settings import Settings

#: What structure is made of.
_STRUCTURE = b"[]{},"
_OTHERS = bytes(set(range(256)) - set(_STRUCTURE))


def parse(body: bytes, settings: Settings) -> Any:
    """The value of a body.

    Raises BadRequest for what is no JSON, TooMuch for too many values, too deep nesting, and a
    text that is too long, which it names.
    """
    bare = unescaped(body)
    if bare.count(b'"') > 4 * settings.max_values:  # with a key for each value
        raise _too_many(settings)
    parts = bare.split(b'"')  # outside of texts and inside, by turns
    _check_structure(b"".join(parts[::2]), settings)
    try:
        value = json.loads(body.decode(), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not UTF-8: {error}") from None
    except ValueError as error:  # also of numbers too long to be read
        raise BadRequest(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise BadRequest("the body is nested too deeply") from None
    most, escaped = settings.max_text, (len(body) - len(bare)) // 2
    # Bytes bound characters: to look at each text, in Python, takes longer than all the rest.
    suspect = max(map(len, parts)) + escaped > most
    if suspect and (path := next(_long_texts(value, "", most), None)) is not None:
        where = path.lstrip(".") or "the body"
        raise TooMuch(f"{where} is a text of more than {most} characters")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _too_many(settings: Settings) -> TooMuch:
    return TooMuch(f"the body has more than {settings.max_values} values")


def _check_structure(outside: bytes, settings: Settings) -> None:
    """Count values, and how deep they are, without making any.

    Args:
        outside: what is not in texts.
    """
    structure = outside.translate(None, _OTHERS)
    # The first value of a list or object is counted with its bracket (an empty one counts as if
    # it had one), each other value with its comma.
    if 1 + len(structure) - structure.count(b"]") - structure.count(b"}") > settings.max_values:
        raise _too_many(settings)
    depth = 0
    for sign in structure.replace(b",", b""):
        depth += 1 if sign in b"[{" else -1
        if depth < 0:
            return  # it is no JSON, which is found out at once
        if depth > settings.max_depth:
            raise TooMuch(f"the body is nested deeper than {settings.max_depth} levels")


def _long_texts(value: Any, path: str, most: int) -> Iterator[str]:
    """Where texts are that are too long; as deep as `_check_structure` lets through."""
    if isinstance(value, str):
        if len(value) > most:
            yield path
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _long_texts(item, f"{path}[{place}]", most)
    elif isinstance(value, dict):
        for key, item in value.items():
            if len(key) > most:
                yield f"{path}.(a key)"
            yield from _long_texts(item, f"{path}.{key:.80}", most)
