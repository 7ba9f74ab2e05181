"""Texts for drivers' errors: which database, its error, and what to change."""

from __future__ import annotations

import asyncio
import re
import sqlite3

import sqlalchemy as sa

from ticketlock.errors import TrackerStoreConnectionError, TrackerStoreError

from .settings import SQLSettings

#: What is raised for a driver's error; sqlite3's may come without SQLAlchemy's around it.
TROUBLE = (
    sa.exc.DBAPIError, sa.exc.TimeoutError, OSError, asyncio.TimeoutError, sqlite3.Error
)  # fmt: skip

#: Of an SQLite file that is no longer where it was opened: what is written to it would be lost.
GONE = "the file was deleted or replaced while this process used it"

#: Of the files beside it: without them a process no longer sees what others write, and they overwrite
#: each other.
TORN = "its -wal or -shm was removed while this process used it"

#: Pattern of a driver's error -> what to do about it; the first match counts.
_REMEDIES = (
    (r"too many|remaining connection slots|max_user_connections|no more connections",
     "it takes no more connections: lower pool_size and max_overflow, or raise its limit"),
    (r"QueuePool limit",
     ("all connections of this process are in use: find out what the database is busy with, or"
     " raise pool_size")),
    (r"password authentication failed|access denied|ORA-01017|no password supplied|role .* does",
     "check username and password"),
    (r"database .* does not exist|unknown database",
     "create the database, check db, or (PostgreSQL) set login_db"),
    (r"unsupported startup parameter|command-line options",
     "a pooler accepts no options: remove them from query"),
    (r"statement pooling mode", "set the pooler's pool_mode to transaction, or to session"),
    (r"invalid connection option|invalid dsn", "check query"),
    (r"certificate|\bssl\b|\btls\b",
     ("check use_ssl, ssl_ca_certs and ssl_check_hostname, and that the certificate is for this"
     " host and has not expired")),
    (r"refused|can't connect|could not connect|connection failed|unreachable",
     "check url and port, and that the server runs"),
    (r"name or service|could not translate|resolve|nodename|getaddrinfo", "check the host name"),
    (r"unable to open database file", "check db: its folder must exist and be writable"),
    (r"disk is full|no space left|disk full|table .* is full", "free some space on its disk"),
    (r"readonly|read[- ]only",
     ("the store needs a database that it may write to; after a failover, url must lead to the"
     " new primary")),
    (GONE, ("put it back, or end all processes that use it, remove its -wal and -shm, which belong to"
            " the file before, and start them again")),
    (TORN, ("end all processes that use the file, keep a copy of what is there, and start them"
            " again")),
    (r"disk i/o error",
     ("its disk or file system fails, or its -wal or -shm was removed: then end all processes that use"
     " the file, keep a copy of what is there, and start them again")),
    (r"lock wait timeout|due to lock timeout|deadlock",
     "another transaction holds its rows: find out which program changes the store's tables"),
    (r"statement timeout|max_statement_time", "raise that limit for its user"),
    (r"database is locked", "another process holds the file; for replicas use PostgreSQL"),
    (r"max_allowed_packet", "raise the server's max_allowed_packet"),
    (r"illegal mix of collations|incorrect string value|equivalent in encoding|impossible for",
     ("its character set lacks these: ALTER TABLE events CONVERT TO CHARACTER SET utf8mb4;"
     " PostgreSQL: use a database with the encoding UTF8")),
    (r"integer out of range|maximum value of sequence|'2147483647' for key|column 'id'",
     "the numbers of its rows are used up: change the column id of events to BIGINT"),
    (r"data too long",
     "the column is too narrow for it: ALTER TABLE events MODIFY data LONGTEXT"),
    (r"permission denied|must be owner|command denied",
     "let the user read and write the tables, and create them once, or create them by hand"),
    (r"timed? ?out", "check that the server is reachable and not overloaded"),
)  # fmt: skip

#: SQLSTATEs, and error numbers of MySQL, after which the transaction may be repeated.
_AGAIN = {"40001", "40P01", "55P03", 1213, 1205}

#: Errors that the statement did not cause: it may succeed later, or on another connection.
#: SQLSTATEs by their first two characters (login, database, lost race, resources, operator,
#: system), and error numbers of MySQL; those of its clients begin with 2.
_UNUSABLE = {"08", "28", "3D", "40", "53", "55", "57", "58"}
_UNUSABLE_NUMBERS = {
    1040, 1042, 1043, 1044, 1045, 1047, 1049, 1053, 1077, 1079, 1129, 1130, 1152, 1158, 1159,
    1160, 1161, 1184, 1203, 1205, 1213, 1226, 1317, 1698, 1820, 1862, 1927, 1969, 3024, 3118, 4031,
}  # fmt: skip
_FULL = "53100"

#: Errors after which an open connection is useless: its server has become read-only (a failover
#: that keeps connections), leaves its cluster or is being stopped; or a prepared statement is
#: invalid, because a table was changed or because of a pooler.
_CONDEMNED = {"25006", "26000", "42P05", "57P01", 1053, 1792, 1836}
_CONDEMNED_TEXT = re.compile(r"WSREP has not|cached plan must not change|read-only option|_DBMOVED")

#: How a connection ends that is broken while it is made: nothing was done on it.
_BROKEN = re.compile(
    r"reset by peer|closed the connection|broken pipe|lost connection", re.IGNORECASE
)

#: Errors of login or address, which waiting does not cure.
_HOPELESS = re.compile(
    r"password authentication|no password supplied|access denied|role .* does not|"
    r"database .* does not exist|unknown database|unable to open database file|"
    r"name or service not known|could not translate host|nodename nor servname",
    re.IGNORECASE,
)

#: Errors of a statement that the user may not carry out, in each database.
_NO_RIGHTS = re.compile(
    r"permission denied|must be owner|command denied|insufficient privileges", re.IGNORECASE
)

#: Numbers of MySQL: the packet is too large, or the column cannot store the characters.
_ROWS_FAULT = {1153, 1267, 1270, 1271, 1301, 1366, 3988}


def listen(engine: sa.Engine) -> None:
    """Drop a useless connection and its whole pool, which leads to the same server."""

    @sa.event.listens_for(engine, "handle_error")
    def failed(context: sa.engine.ExceptionContext) -> None:
        if _condemns(context.original_exception):
            context.is_disconnect = True


def _condemns(original: BaseException) -> bool:
    said = f"{original} {getattr(original, 'sqlite_errorname', '')}"
    return _code(original) in _CONDEMNED or bool(_CONDEMNED_TEXT.search(said))


def _code(original: object) -> str | int | None:
    """The SQLSTATE, or MySQL's number, of a driver's error."""
    number = next(iter(getattr(original, "args", ())), None)
    if isinstance(number, int):
        return number  # MySQL's drivers have a SQLSTATE too, which is less precise
    state = getattr(original, "sqlstate", None)
    return state if isinstance(state, str) else None


def is_the_rows_fault(error: BaseException) -> bool:
    """Whether the values caused the error, so that other rows could be stored."""
    if not isinstance(error, sa.exc.DBAPIError):
        return isinstance(error, sa.exc.StatementError)  # the driver cannot send it
    code = _code(error.orig)
    return isinstance(error, sa.exc.DataError) or code in _ROWS_FAULT or code == "54000"


def is_hopeless(error: TrackerStoreError) -> bool:
    """Whether another attempt is useless until the settings are changed."""
    return bool(_HOPELESS.search(str(error)))


def lacks_rights(error: sa.exc.DBAPIError) -> bool:
    """Whether the user may not carry out the statement."""
    return bool(_NO_RIGHTS.search(str(error.orig)))


def waited_too_long(error: sa.exc.DBAPIError) -> bool:
    """Whether PostgreSQL gave up waiting for a lock (lock_timeout)."""
    return getattr(error.orig, "sqlstate", None) == "55P03"


def translate(error: BaseException, settings: SQLSettings) -> TrackerStoreError:
    """The error to raise instead of a driver's."""
    said = _said(error, settings)
    remedy = next((r for p, r in _REMEDIES if re.search(p, said, re.IGNORECASE)), None)
    text = f"{settings.address}: {said}" + (f"; {remedy}" if remedy else "")
    if isinstance(error, sa.exc.DBAPIError) and not _is_connection(error, said):
        return TrackerStoreError(text)
    return TrackerStoreConnectionError(text)


def _is_connection(error: sa.exc.DBAPIError, said: str) -> bool:
    """Whether the server cannot be used, as opposed to an error of the statement."""
    if error.connection_invalidated:
        return True
    code = _code(error.orig)
    if isinstance(code, str):
        return code[:2] in _UNUSABLE and code != _FULL
    if isinstance(code, int):
        return code in _UNUSABLE_NUMBERS or code // 1000 == 2
    refused = (sa.exc.OperationalError, sa.exc.InterfaceError)
    full = r"disk is full|no space|disk full|is full|locked|readonly|read-only"
    return isinstance(error, refused) and not re.search(full, said, re.IGNORECASE)


def _said(error: BaseException, settings: SQLSettings) -> str:
    original = getattr(error, "orig", None) or error
    if isinstance(original, (TimeoutError, asyncio.TimeoutError)) and not str(original):
        said = f"no answer within {settings.timeout:g} s: timed out"
    else:
        said = " ".join(str(original).split()) or type(original).__name__
    if settings.url.password:
        said = said.replace(str(settings.url.password), "***")
    return said[:500]


def may_try_again(error: BaseException) -> bool:
    """Whether the operation may succeed if repeated: it lost a race, or a connection broke."""
    if not isinstance(error, sa.exc.DBAPIError):
        return False
    again = error.connection_invalidated or _code(error.orig) in _AGAIN
    return bool(again or _BROKEN.search(str(error.orig)))
