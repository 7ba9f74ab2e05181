"""Drivers' errors in words: which database, what it said, and what to change."""

from __future__ import annotations

import asyncio
import re

import sqlalchemy as sa

from ticketlock.errors import TrackerStoreConnectionError, TrackerStoreError

from ._sql_settings import SQLSettings

#: What a driver says -> what to do about it; the first match counts.
_REMEDIES = (
    (r"password authentication failed|access denied|ORA-01017|no password supplied|role .* does",
     "check username and password"),
    (r"database .* does not exist|unknown database",
     "create the database, check db, or (PostgreSQL) set login_db"),
    (r"refused|can't connect|could not connect|connection failed|unreachable",
     "check url and port, and that the server runs"),
    (r"name or service|could not translate|resolve|nodename|getaddrinfo", "check the host name"),
    (r"certificate|ssl|tls", "check the TLS settings in query"),
    (r"unable to open database file", "check db: its folder must exist and be writable"),
    (r"disk is full|no space left|disk full|table .* is full", "free some space on its disk"),
    (r"readonly|read-only", "the store needs a database that it may write to"),
    (r"too many (connections|clients)|remaining connection slots|QueuePool limit",
     "lower SQL_POOL_SIZE and SQL_MAX_OVERFLOW, or let the server take more connections"),
    (r"database is locked", "another process holds the file; for replicas use PostgreSQL"),
    (r"data too long",
     "the column is too narrow for it: ALTER TABLE events MODIFY data LONGTEXT"),
    (r"permission denied|must be owner|command denied",
     "let the user create tables and indexes once, or create them by hand"),
    (r"timed? ?out", "check that the server is reachable and not overloaded"),
)  # fmt: skip

#: SQLSTATEs, and error numbers of MySQL, of a transaction that may simply be tried again.
_AGAIN = {"40001", "40P01", "55P03", 1213, 1205}


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
    refused = (sa.exc.OperationalError, sa.exc.InterfaceError)
    full = r"disk is full|no space|disk full|is full|locked|readonly|read-only"
    if error.connection_invalidated:
        return True
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
    """Whether the same operation may do better: it lost a race, or an old connection broke."""
    if not isinstance(error, sa.exc.DBAPIError):
        return False
    original = error.orig
    codes = {getattr(original, "sqlstate", None), *getattr(original, "args", ())[:1]}
    return bool(error.connection_invalidated or any(c in _AGAIN for c in codes if _plain(c)))


def _plain(code: object) -> bool:
    return isinstance(code, (str, int))
