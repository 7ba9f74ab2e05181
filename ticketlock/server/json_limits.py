"""Parses JSON of clients; values are counted first, because a megabyte may have 350,000."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ..plain_json import unescaped
from .errors import BadRequest, TooMuch
from .settings import Settings

#: Characters of the structure.
_STRUCTURE = b"[]{},"
_OTHERS = bytes(set(range(256)) - set(_STRUCTURE))


def parse(body: bytes, settings: Settings) -> Any:
    """The value of a body.

    Raises BadRequest for invalid JSON; TooMuch for too many values, too deep nesting, and a text
    that is too long, whose path it names.
    """
    bare = unescaped(body)
    if bare.count(b'"') > 4 * settings.max_values:  # with a key for each value
        raise _too_many(settings)
    parts = bare.split(b'"')  # outside and inside of texts, alternately
    _check_structure(b"".join(parts[::2]), settings)
    try:
        value = _decode(body.decode())
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not UTF-8: {error}") from None
    except ValueError as error:  # also for numbers that are too long
        raise BadRequest(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise BadRequest("the body is nested too deeply") from None
    limit, escaped = settings.max_text, (len(body) - len(bare)) // 2
    # Bytes are a bound for characters: checking each text takes longer than all the rest.
    suspect = max(map(len, parts)) + escaped > limit
    if suspect and (path := next(_long_texts(value, "", limit), None)) is not None:
        where = path.lstrip(".") or "the body"
        raise TooMuch(f"{where} is a text of more than {limit} characters")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


#: Created once, because every body is parsed by it.
_decode = json.JSONDecoder(parse_constant=_no_constant).decode


def _too_many(settings: Settings) -> TooMuch:
    return TooMuch(f"the body has more than {settings.max_values} values")


def _check_structure(outside: bytes, settings: Settings) -> None:
    """Count the values and their depth, without creating them.

    Args:
        outside: the JSON without its texts.
    """
    structure = outside.translate(None, _OTHERS)
    # The first value of a list or object is counted by its bracket (so an empty one counts one),
    # the other values by their commas.
    if 1 + len(structure) - structure.count(b"]") - structure.count(b"}") > settings.max_values:
        raise _too_many(settings)
    depth = 0
    for sign in structure.replace(b",", b""):
        depth += 1 if sign in b"[{" else -1
        if depth < 0:
            return  # invalid JSON, which the parser reports
        if depth > settings.max_depth:
            raise TooMuch(f"the body is nested deeper than {settings.max_depth} levels")


def _long_texts(value: Any, path: str, limit: int) -> Iterator[str]:
    """The paths of texts that are too long; `_check_structure` has limited the depth."""
    if isinstance(value, str):
        if len(value) > limit:
            yield path
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _long_texts(item, f"{path}[{place}]", limit)
    elif isinstance(value, dict):
        for key, item in value.items():
            if len(key) > limit:
                yield f"{path}.(a key)"
            yield from _long_texts(item, f"{path}.{key:.80}", limit)
