"""JSON of strangers: counted before it is parsed, because a megabyte may be 350,000 values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from .errors import BadRequest, TooMuch
from .settings import Settings

#: A text, closed or not: what is in it is no structure.
_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|$)', re.DOTALL)
#: What structure is made of.
_STRUCTURE = b"[]{},"
_OTHERS = bytes(set(range(256)) - set(_STRUCTURE))


def parse(body: bytes, settings: Settings) -> Any:
    """The value of a body.

    Raises BadRequest for what is no JSON, TooMuch for too many values, too deep nesting, and a
    text that is too long, which it names.
    """
    _check_structure(body, settings)
    try:
        value = json.loads(body.decode(), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not UTF-8: {error}") from None
    except ValueError as error:  # also of numbers too long to be read
        raise BadRequest(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise BadRequest("the body is nested too deeply") from None
    most = settings.max_text
    if len(body) > most and (path := next(_long_texts(value, "", most), None)) is not None:
        where = path.lstrip(".") or "the body"
        raise TooMuch(f"{where} is a text of more than {most} characters")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _check_structure(body: bytes, settings: Settings) -> None:
    """Count values, and how deep they are, without making any."""
    if body.count(b"[") + body.count(b"{") + body.count(b",") <= min(
        settings.max_values, settings.max_depth
    ):
        return  # also if all of them were structure
    most = settings.max_values
    too_many = TooMuch(f"the body has more than {most} values")
    bare, texts = _TEXT.subn(b"", body, 2 * most + 1)
    if texts > 2 * most:  # with a key for each value
        raise too_many
    structure = bare.translate(None, _OTHERS)
    # The first value of a list or object is counted with its bracket (an empty one counts as if
    # it had one), each other value with its comma.
    if 1 + len(structure) - structure.count(b"]") - structure.count(b"}") > most:
        raise too_many
    depth = 0
    for sign in structure.replace(b",", b""):
        depth += 1 if sign in b"[{" else -1
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
