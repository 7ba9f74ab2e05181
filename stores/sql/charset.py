"""The characters that the columns for searches can store, in a table that is not UTF-8.

The event itself is stored as ASCII. A character that another column cannot store, such as an emoji
in a slot's name, must not fail the turn: it becomes a question mark there.
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
    """The text unchanged: the columns can store all characters."""
    return text


def fitting(connection: sa.Connection) -> Callable[[str], str]:
    """A function that replaces the characters of a text that the columns cannot store."""
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
    if name in ("utf8", "utf8mb3", "ucs2"):  # MySQL's: characters of three bytes at most
        return lambda text: "".join(c if c <= "\uffff" else "?" for c in text)
    known = {"latin1": "cp1252"}.get(name, name) if dialect != "postgresql" else name
    try:
        codec = codecs.lookup(known.replace("win", "cp")).name
    except LookupError:
        codec = "ascii"
    return lambda text: text.encode(codec, "replace").decode(codec)
