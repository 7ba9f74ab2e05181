"""Settings of each session on a server: time limits, schema, strict mode; also behind a pooler.

A pooler such as pgbouncer in transaction mode gives every transaction another session, which it
shares with other programs. It refuses or ignores settings at the start of a session, later settings
reach other programs, and a prepared statement may be missing the next time.
"""

from __future__ import annotations

import re
import ssl
import uuid
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from ticketlock.errors import ConfigurationError

from . import silence
from .settings import SQLSettings
from .tls import connect_mysql

#: Seconds that connecting may take.
CONNECT_TIMEOUT = 10
#: Seconds after which the server ends a transaction without statements: a process that froze
#: must not block its successor.
IDLE_TIMEOUT = 10

#: Key of a connection's `info`.
_POOLED = "ticketlock_pooled"

#: The error of a pooler that refuses settings at the start of a session, or of a server that does
#: not know one.
_REFUSED = re.compile(
    r"unsupported startup parameter|command-line options|unrecognized configuration parameter",
    re.IGNORECASE,
)


def is_pooled(info: Mapping[Any, Any]) -> bool:
    """Whether a connection with this `info` has other sessions in other transactions."""
    return bool(info.get(_POOLED))


def connect_args(settings: SQLSettings) -> dict[str, Any]:
    """Time limits, schema and TLS as arguments of the driver."""
    if settings.dialect == "postgresql":
        # A plan that is made when the tables are small goes through all of them, and would be kept
        # until they are analyzed.
        plans = {"plan_cache_mode": "force_custom_plan"}
        return _postgresql(settings, **_wanted(settings), **plans)
    if settings.dialect in ("mysql", "mariadb"):
        # Without strict mode the server silently cuts values that are too long. The first part
        # is for MariaDB; MySQL reads it as a comment.
        session = (
            f"SET SESSION /*M!100300 idle_transaction_timeout = {IDLE_TIMEOUT}, */"
            " sql_mode = CONCAT(@@SESSION.sql_mode, ',STRICT_ALL_TABLES')"
        )
        made = {"connect_timeout": CONNECT_TIMEOUT, "charset": "utf8mb4", "init_command": session}
        if settings.tls.on:
            made |= {"ssl": settings.tls.context(), "async_creator_fn": connect_mysql}
        return made
    return {}


def _postgresql(settings: SQLSettings, **begin_with: str) -> dict[str, Any]:
    """Arguments of the driver for a session that starts with these settings, if any."""
    if settings.url.get_driver_name() == "asyncpg":
        arguments = {"timeout": CONNECT_TIMEOUT, "server_settings": begin_with}
        if settings.tls.on is not None:
            arguments["ssl"] = settings.tls.context() if settings.tls.on else False
        return arguments
    parts = [str(settings.url.query.get("options") or "")]
    for name, value in begin_with.items():
        parts.append(f"-c{name}={value}".replace("\\", "\\\\").replace(" ", "\\ "))
    made: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT, **settings.tls.of_psycopg()}
    made |= silence.of_psycopg(settings)
    # The database's own encoding may lack characters, and then the driver fails, not the server.
    made["client_encoding"] = settings.url.query.get("client_encoding", "utf8")
    if options := " ".join(filter(None, parts)):
        made["options"] = options
    if "prepare_threshold" in settings.url.query:
        made["prepare_threshold"] = _threshold(str(settings.url.query["prepare_threshold"]))
    return made


def _wanted(settings: SQLSettings) -> dict[str, str]:
    wanted = {
        "idle_in_transaction_session_timeout": f"{IDLE_TIMEOUT}s",
        # Longer than that: a lock that is still held then is that of a frozen process, see
        # `end_frozen`.
        "lock_timeout": f"{IDLE_TIMEOUT + 2}s",
    }
    if settings.schema:
        names = [part.strip().strip('"') for part in settings.schema.split(",")]
        quoted = ('"' + name.replace('"', '""') + '"' for name in names if name)
        wanted["search_path"] = ",".join(quoted)
    return wanted


def _threshold(text: str) -> int | None:
    if text.lower() in ("", "none", "null"):
        return None
    if not text.isdigit():
        raise ConfigurationError(
            f"query: prepare_threshold: {text!r} is neither a whole number nor none"
        )
    return int(text)


def _of_one_transaction(settings: SQLSettings) -> dict[str, Any]:
    """Arguments of the driver where each transaction may be in another session."""
    made = _postgresql(settings)
    if settings.url.get_driver_name() == "asyncpg":
        unique = {"prepared_statement_name_func": lambda: f"ticketlock_{uuid.uuid4()}"}
        return {**made, "statement_cache_size": 0, "prepared_statement_cache_size": 0, **unique}
    return {**made, "prepare_threshold": None}


def listen(engine: sa.Engine, settings: SQLSettings) -> None:
    """Set up each new connection, and each transaction if connections do not keep settings."""
    pooled = False
    wanted = _wanted(settings)
    changes = ", ".join(f"set_config('{name}', :{name}, true)" for name in wanted)
    set_local = sa.text(f"SELECT {changes}").bindparams(**wanted)

    @sa.event.listens_for(engine, "do_connect")
    def connect(dialect: Any, record: Any, args: Any, parameters: dict[str, Any]) -> Any:
        nonlocal pooled
        if settings.dialect == "postgresql" and not pooled:
            try:
                connection = _connect(dialect, args, parameters)
            except dialect.loaded_dbapi.Error as error:
                if not _REFUSED.search(str(error)):
                    raise
            else:
                try:
                    if _keeps(connection, wanted):
                        return connection
                except BaseException:  # the pool does not know the connection yet
                    dialect.do_terminate(connection)
                    raise
                connection.close()
            pooled = True
        if pooled:
            kept = {k: v for k, v in parameters.items() if k not in ("options", "server_settings")}
            parameters = {**kept, **_of_one_transaction(settings)}
        return _connect(dialect, args, parameters)

    @sa.event.listens_for(engine, "connect")
    def connected(connection: Any, record: Any) -> None:
        record.info[_POOLED] = pooled

    @sa.event.listens_for(engine, "begin")
    def begun(connection: sa.Connection) -> None:
        if pooled:
            connection.execute(set_local)


def _connect(dialect: Any, args: Any, parameters: dict[str, Any]) -> Any:
    try:
        return dialect.connect(*args, **parameters)
    except ssl.SSLError:  # some of them are ValueErrors too
        raise
    except (TypeError, ValueError, AttributeError) as error:
        # These types are about the arguments; the driver's own errors have other types.
        raise ConfigurationError(
            f"query: {dialect.driver} does not accept it: {error}; see its documentation"
        ) from error


def _keeps(connection: Any, wanted: dict[str, str]) -> bool:
    """Whether the session has the settings that it was asked to start with."""
    cursor = connection.cursor()
    cursor.execute("SELECT current_setting('lock_timeout')")
    found = cursor.fetchone()[0]
    cursor.close()
    connection.rollback()
    return bool(found == wanted["lock_timeout"])
