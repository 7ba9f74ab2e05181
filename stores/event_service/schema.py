"""The event service's tables and their statements. The database may have other tables too."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

from ..sql.schema import MAX_NAME, ConversationKey

#: Databases for which this module has statements.
DIALECTS = ("sqlite", "postgresql", "mysql", "mariadb")

#: Rows of one table, all with the same columns.
Rows = Sequence[Mapping[str, Any]]

#: A column's type -> the PostgreSQL type of its values in JSON.
_POSTGRESQL: dict[type, str] = {
    ConversationKey: "text",
    sa.String: "text",
    sa.Text: "text",
    sa.BigInteger: "bigint",
    sa.Double: "double precision",
}


class HexBytes(mysql.LONGBLOB):
    """Bytes that are sent to MySQL as hex digits: two current drivers cannot quote bytes."""

    def bind_processor(self, dialect: Any) -> Any:
        return lambda value: None if value is None else value.hex()

    def bind_expression(self, bindvalue: Any) -> Any:
        return sa.func.unhex(bindvalue)


metadata = sa.MetaData()


def _text(length: int | None = None) -> Any:
    """Text that MySQL does not cut, and compares exactly."""
    exact = {"charset": "utf8mb4", "collation": "utf8mb4_bin"}
    if length is None:
        return sa.Text().with_variant(mysql.LONGTEXT(**exact), "mysql", "mariadb")
    return sa.String(length).with_variant(mysql.VARCHAR(length, **exact), "mysql", "mariadb")


def _counter() -> sa.Column[Any]:
    # SQLite numbers only INTEGER columns by itself.
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column("id", kind, primary_key=True, autoincrement=True)


def _described() -> list[sa.Column[Any]]:
    """The columns of any event; `data` is the published object as text, unchanged."""
    return [
        sa.Column("type_name", _text(MAX_NAME)),
        sa.Column("timestamp", sa.Double),
        sa.Column("data", _text(), nullable=False),
    ]


#: Events by (sender_id, history, sequence), each once.
events = sa.Table(
    "ticketlock_service_events",
    metadata,
    sa.Column("sender_id", ConversationKey(MAX_NAME), primary_key=True),
    sa.Column("history", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    *_described(),
    mysql_engine="InnoDB",
)

#: A ledger for each history (see `ticketlock.event_service.ledger`). An instance that stores
#: events of the history locks its row, so two instances never store the same event.
histories = sa.Table(
    "ticketlock_service_histories",
    metadata,
    sa.Column("sender_id", ConversationKey(MAX_NAME), primary_key=True),
    sa.Column("history", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("next_sequence", sa.BigInteger, nullable=False),
    sa.Column("missing_count", sa.BigInteger, nullable=False),
    sa.Column("missing", _text(), nullable=False),
    mysql_engine="InnoDB",
)

#: Events of publishers that give no sequence, in the order in which they were stored.
unnumbered = sa.Table(
    "ticketlock_service_unnumbered",
    metadata,
    _counter(),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("sender_id", ConversationKey(MAX_NAME), nullable=False, index=True),
    sa.Column("history", sa.BigInteger, nullable=False),
    sa.Column("origin", _text(MAX_NAME), nullable=False),
    *_described(),
    mysql_engine="InnoDB",
)

#: Messages without a valid event, unchanged.
rejects = sa.Table(
    "ticketlock_service_rejects",
    metadata,
    _counter(),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("reason", _text(), nullable=False),
    sa.Column("origin", _text(MAX_NAME), nullable=False),
    sa.Column("rejected_at", sa.Double, nullable=False),
    sa.Column("body", sa.LargeBinary().with_variant(HexBytes(), "mysql", "mariadb")),
    mysql_engine="InnoDB",
)


def missing(connection: sa.Connection) -> list[sa.Table]:
    """The tables that do not exist."""
    look = sa.inspect(connection)
    return [table for table in metadata.sorted_tables if not look.has_table(table.name)]


def locked(sender_ids: Iterable[str]) -> sa.Select[Any]:
    """The ledgers of conversations, locked until the transaction ends, in a fixed order."""
    query = sa.select(histories).where(histories.c.sender_id.in_(list(sender_ids)))
    return query.order_by(histories.c.sender_id, histories.c.history).with_for_update()


def add(table: sa.Table, dialect: str, rows: Rows) -> tuple[Any, Any]:
    """The statement, and its parameters, that inserts rows unless they exist."""
    if dialect in ("mysql", "mariadb"):
        # IGNORE would also hide values that do not fit; this only skips duplicates.
        key = next(iter(table.primary_key)).name
        return mysql.insert(table).on_duplicate_key_update(**{key: table.c[key]}), rows
    if dialect == "postgresql" and table is not rejects:  # their bodies are bytes
        return _one_value(table, rows, "DO NOTHING")
    if dialect == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing(), rows
    return sqlite.insert(table).on_conflict_do_nothing(), rows


def put(dialect: str, rows: Rows) -> tuple[Any, Any]:
    """The statement, and its parameters, that updates existing ledgers."""
    names = ("next_sequence", "missing_count", "missing")
    if dialect in ("mysql", "mariadb"):
        made = mysql.insert(histories)
        return made.on_duplicate_key_update(**{name: made.inserted[name] for name in names}), rows
    key = [column.name for column in histories.primary_key]
    if dialect == "postgresql":
        changes = ", ".join(f"{name} = excluded.{name}" for name in names)
        return _one_value(histories, rows, f"({', '.join(key)}) DO UPDATE SET {changes}")
    insert = sqlite.insert(histories)
    changed = {name: insert.excluded[name] for name in names}
    return insert.on_conflict_do_update(index_elements=key, set_=changed), rows


def _one_value(table: sa.Table, rows: Rows, conflict: str) -> tuple[Any, Any]:
    """PostgreSQL: one short statement with all rows in one JSON value.

    Otherwise the driver would send a statement per row, or spend its time on quoting. Texts are
    cast to text, because a cast to VARCHAR would cut long ones.
    """
    names = list(rows[0])
    kinds = ", ".join(f"{name} {_POSTGRESQL[type(table.c[name].type)]}" for name in names)
    statement = (
        f"INSERT INTO {table.name} ({', '.join(names)}) SELECT {', '.join(names)}"
        f" FROM json_to_recordset(CAST(:rows AS json)) AS r({kinds}) ON CONFLICT {conflict}"
    )
    return sa.text(statement), {"rows": json.dumps(rows, allow_nan=False)}


def gaps() -> sa.Select[Any]:
    """The ledgers with missing events, sorted."""
    query = sa.select(histories).where(histories.c.missing_count > 0)
    return query.order_by(histories.c.sender_id, histories.c.history)
