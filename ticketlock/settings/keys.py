"""Declarations of the keys of `endpoints.yml`: `port: Annotated[int, Key("...", 6379)]`.

They are fields of a dataclass, or of a TypedDict that is also the type of the keywords of a
constructor. `Section.read`, the schema and the reference page are based on them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


@dataclasses.dataclass(frozen=True)
class Key:
    """The declaration of a key, beside its name and its type.

    Attributes:
        meaning: a text in Markdown, with the unit.
        default: its default; in a dataclass the default of the field.
        low, high: bounds of a number.
        check: returns the problem of a given value, None if it is valid.
        shown: the default as text, if it depends on something else.
        python_only: whether it is an object, which a file cannot have.
    """

    meaning: str
    default: Any = None
    low: float | None = None
    high: float | None = None
    check: Callable[[Any], str | None] | None = None
    shown: str | None = None
    python_only: bool = False


@dataclasses.dataclass(frozen=True)
class Declared:
    """A declared key.

    Attributes:
        kind: the method of `Section` that reads it.
        options: the values of a `choice`.
    """

    name: str
    key: Key
    kind: str
    default: Any
    options: tuple[str, ...] = ()


@lru_cache
def declared(kind: Any) -> dict[str, Declared]:
    """The keys of a TypedDict or dataclass, in the order of their declarations."""
    return {
        name: _declared(kind, name, hint)
        for name, hint in get_type_hints(kind, include_extras=True).items()
    }


def _declared(kind: Any, name: str, hint: Any) -> Declared:
    hint, key = get_args(hint)
    default = getattr(kind, name) if dataclasses.is_dataclass(kind) else key.default
    if get_origin(hint) in (Union, UnionType):  # with None: the key may be left out
        (hint,) = (part for part in get_args(hint) if part is not type(None))
    if key.python_only:
        return Declared(name, key, "raw", default)
    if get_origin(hint) is Literal:
        return Declared(name, key, "choice", default, get_args(hint))
    return Declared(name, key, _KINDS[get_origin(hint) or hint], default)


#: Type -> the method of `Section` that reads it.
_KINDS: dict[Any, str] = {
    str: "text", int: "integer", float: "number", bool: "flag", tuple: "texts", Sequence: "texts",
    Mapping: "mapping",
}  # fmt: skip
