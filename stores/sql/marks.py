"""The column of marks, which tables that an older version has created lack.

The first claim adds it; until then it is not needed, and what only reads never changes the table.
Versions before 0.5.0 name the columns that they read and write, so they do not see this one.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from . import engine as engines
from . import errors, schema
from .settings import SQLSettings
from .sqlite import SQLiteEngine

if TYPE_CHECKING:
    from .opening import Engine

log = logging.getLogger("ticketlock.stores")

_TABLE, _COLUMN = schema.conversations.name, schema.conversations.c.mark


def text(row: Any) -> str:
    """The mark in a conversation's row; "" if none was stored."""
    return "" if row.mark is None else str(json.loads(row.mark))


async def prepare(engine: Engine, settings: SQLSettings) -> bool:
    """Add the column if the table lacks it; return whether it is there.

    A user who may not change the table goes on without marks; a WARNING says so.
    """
    try:
        if isinstance(engine, SQLiteEngine):
            await engine.run(_add)
            return True
        async with engine.connect() as connection:
            if await connection.run_sync(_there):
                return True
        async with engines.alone(engine, settings) as connection:
            await connection.run_sync(_add)
    except sa.exc.DBAPIError as error:
        if not errors.lacks_rights(error):
            raise
        log.warning(
            "table %s has no column for marks, so the store keeps none: let the owner of the table "
            "run once %r, and restart this process (%s)",
            _TABLE, _statement(engine.dialect), errors.translate(error, settings),
        )  # fmt: skip
        return False
    return True


def _there(connection: sa.Connection) -> bool:
    return any(
        column["name"] == _COLUMN.name for column in sa.inspect(connection).get_columns(_TABLE)
    )


def _add(connection: sa.Connection) -> None:
    if _there(connection):  # another replica may have added it meanwhile
        return
    if connection.dialect.name in ("mysql", "mariadb"):
        # Its own limit is a day or a year, and later statements wait behind this one.
        connection.exec_driver_sql("SET SESSION lock_wait_timeout = 10")
    connection.exec_driver_sql(_statement(connection.dialect))


def _statement(dialect: sa.Dialect) -> str:
    # Without COLUMN, which Oracle does not know.
    return f"ALTER TABLE {_TABLE} ADD {_COLUMN.name} {_COLUMN.type.compile(dialect)}"
