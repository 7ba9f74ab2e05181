"""The documented keys of the SQL store, and its statements for a database we cannot start."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import oracle
from sqlalchemy.schema import CreateIndex, CreateTable
from ticketlock.stores.sql import SQLTrackerStore
from ticketlock.stores.sql.settings import SQLSettings
from ticketlock.stores.sql.store import schema

from ticketlock.errors import ConfigurationError
from ticketlock.settings.section import Section
from ticketlock.settings.store_keys import SQLStoreKeys


def read(**values: Any) -> SQLSettings:
    return SQLSettings.read(Section(values, "endpoints.yml: tracker_store"), SQLStoreKeys)


@pytest.mark.parametrize(
    ("values", "url"),
    [
        ({}, "sqlite+pysqlite:///rasa.db"),
        ({"dialect": "postgresql", "url": "db", "port": "5433", "db": "x"},
         "postgresql+psycopg://db:5433/x"),
        ({"dialect": "postgresql", "host": "db:1", "port": 2, "db": "x"},
         "postgresql+psycopg://db:1/x"),
        ({"dialect": "postgresql+psycopg2", "url": "[::1]:7", "db": "x"},
         "postgresql+psycopg://[::1]:7/x"),
        ({"dialect": "postgresql+asyncpg", "url": "db", "db": "x", "query": {"ssl": "require"}},
         "postgresql+asyncpg://db/x"),
        ({"dialect": "mysql+pymysql", "url": "db", "username": "u@", "password": "p:/", "db": "x"},
         "mysql+aiomysql://u%40:p%3A%2F@db/x"),
        ({"url": "postgresql://u%40x:p%40%2F@h/d"}, "postgresql+psycopg://u%40x:p%40%2F@h/d"),
        ({"dialect": "oracle+cx_oracle", "url": "db", "db": "x"}, "oracle+oracledb://db/x"),
        ({"url": "postgresql://u:p@h/d?sslmode=require", "db": "ignored", "port": 1},
         "postgresql+psycopg://u:p@h/d"),
    ],
)  # fmt: skip
def test_the_url(values: dict[str, Any], url: str) -> None:
    assert read(**values).url.render_as_string(hide_password=False) == url


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"port": "many"}, "port: 'many'"),
        ({"url": "h", "host": "h"}, "same setting"),
        ({"url": "h:x"}, "'x' in 'h:x' is not a port"),
        ({"url": "postgresql://u:geheim@h:x/d"}, "not a database URL"),
        ({"dialect": "access"}, "dialect: 'access'"),
        ({"login_db": "postgres"}, "login_db: is for PostgreSQL only"),
        ({"query": "a=b"}, "query: is not a mapping"),
        ({"databse": "x"}, "databse: is not a setting"),
    ],
)
def test_what_is_wrong_is_named(values: dict[str, Any], said: str) -> None:
    with pytest.raises(
        ConfigurationError, match=f"endpoints.yml: tracker_store: .*{said}"
    ) as error:
        read(**values)
    assert "geheim" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "shared"),
    [
        ({"db": "bot.db"}, True),
        ({"url": "postgresql://h/:memory:"}, True),
        ({"url": "sqlite:///file:bot.db?uri=true"}, True),
        ({"db": ":memory:"}, False),
        ({"url": "sqlite://"}, False),
        ({"url": "sqlite:///file::memory:?uri=true"}, False),
        ({"url": "sqlite:///file:bot?mode=memory&cache=shared&uri=true"}, False),
    ],
)  # fmt: skip
def test_only_a_database_in_memory_is_not_shared(values: dict[str, Any], shared: bool) -> None:
    assert SQLTrackerStore(**values).shared is shared


def test_no_secret_shows() -> None:
    settings = read(dialect="postgresql", url="db", username="u", password="geheim")
    assert "geheim" not in repr(settings) + settings.address


def test_oracle_statements() -> None:
    """They compile: the sequence numbers the rows, one row is locked, limits are Oracle's."""
    dialect = oracle.dialect()  # type: ignore[no-untyped-call]  # of SQLAlchemy

    def sql(statement: Any) -> str:
        return " ".join(str(statement.compile(dialect=dialect)).split())

    table = sql(CreateTable(schema.events))
    assert "id NUMBER(19) NOT NULL" in table
    assert "sender_id VARCHAR2(255 CHAR) NOT NULL" in table
    assert "data CLOB" in table
    assert "(sender_id, id)" in sql(CreateIndex(schema.by_sender))
    assert "events_seq.nextval" in sql(schema.add_events("oracle"))
    assert sql(schema.locked).endswith("FOR UPDATE")
    assert "count(*)" in sql(schema.behind("oracle"))
    last = schema.latest("oracle")
    assert "FETCH FIRST" in sql(last)
    assert "INSERT INTO ticketlock_conversations" in sql(schema.add_conversation("oracle"))
    assert sql(CreateTable(schema.conversations)).count("NUMBER(19)") == 9


def test_the_documented_columns() -> None:
    names = ["id", "sender_id", "type_name", "timestamp", "intent_name", "action_name", "data"]
    assert [column.name for column in schema.events.columns] == names
    assert isinstance(schema.events.c.data.type, sa.Text)
