"""The characters of a table's columns for searching, where it is not ours and not UTF-8.

The event itself is ASCII in every database. What a column beside it cannot hold, such as an emoji
in a slot's name, is no reason to lose the turn: there it becomes a question mark.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable

import sqlalchemy as sa

#: The columns that describe an event.
COLUMNS = ("type_name", "intent_name", "action_name")

_OF_MYSQL = sa.text(
    "SELECT DISTINCT character_set_name FROM information_schema.columns"
    " WHERE table_schema = DATABASE() AND table_name = 'events' AND column_name IN :columns"
).bindparams(sa.bindparam("columns", COLUMNS, expanding=True))


def same(text: str) -> str:
    """All characters can be stored."""
    return text


def fitting(connection: sa.Connection) -> Callable[[str], str]:
    """A function that gives what the columns can hold of a text."""
    dialect = connection.dialect.name
    if dialect in ("mysql", "mariadb"):
        sets = [str(name) for name in connection.scalars(_OF_MYSQL) if name]
    elif dialect == "postgresql":
        sets = [str(connection.scalar(sa.text("SHOW server_encoding")))]
    else:
        return same
    found = [fit for name in sets if (fit := _fit(name.lower(), dialect)) is not same]
    return found[0] if found else same


def _fit(name: str, dialect: str) -> Callable[[str], str]:
    if name in ("utf8mb4", "sql_ascii") or (dialect == "postgresql" and name == "utf8"):
        return same
    if name in ("utf8", "utf8mb3", "ucs2"):  # MySQL's, whose characters have three bytes at most
        return lambda text: "".join(c if c <= "\uffff" else "?" for c in text)
    known = {"latin1": "cp1252"}.get(name, name) if dialect != "postgresql" else name
    try:
        codec = codecs.lookup(known.replace("win", "cp")).name
    except LookupError:
        codec = "ascii"
    return lambda text: text.encode(codec, "replace").decode(codec)
