"""The SQL tracker store's section and variables, checked; its keys are in `settings/store_keys.py`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url

from ticketlock.errors import ConfigurationError
from ticketlock.settings.keys import declared
from ticketlock.settings.section import Section, is_cut_off, mask_url
from ticketlock.settings.store_keys import TLSKeys

from .tls import SQLTLS, is_tls, refuse_others, take_from_query

#: Database -> drivers that do not block the event loop. Any other driver in a configuration
#: (psycopg2, cx_oracle, ...) is replaced by the first of them.
DRIVERS = {
    "sqlite": ("pysqlite",),  # in threads of ours
    "postgresql": ("psycopg", "asyncpg"),
    "mysql": ("aiomysql", "asyncmy"),
    "mariadb": ("aiomysql", "asyncmy"),
    "oracle": ("oracledb",),
}


@dataclass(frozen=True)
class SQLSettings:
    """Checked settings of one database.

    Attributes:
        url: with an asynchronous driver; its repr hides the password.
        login_db: PostgreSQL: the database to connect to in order to create the other one.
        tls: the TLS settings of connections.
        named_by: the key that names the database.
        timeout: seconds that an operation may take, including the wait for a connection.
        pool_size: connections that are kept open. With the default, two replicas and a third
            that replaces one fit the 100 connections that PostgreSQL allows by default.
        max_overflow: additional connections under load.
        pool_timeout: seconds that an operation waits for a connection.
    """

    url: URL = field(repr=False)
    login_db: str | None
    schema: str | None
    pool_size: int
    max_overflow: int
    pool_timeout: float
    timeout: float
    tls: SQLTLS
    named_by: str = "db"

    @property
    def dialect(self) -> str:
        return self.url.get_backend_name()

    @property
    def address(self) -> str:
        """The database's place, for logs and error texts; never with a password."""
        if self.dialect == "sqlite":
            return f"SQLite file {self.url.database or ':memory:'}"
        place = f"{self.url.host or 'localhost'}" + (f":{self.url.port}" if self.url.port else "")
        return f"{self.dialect} database {self.url.database!r} at {place}"

    @property
    def in_memory(self) -> bool:
        """Whether it is an SQLite database that ends with its connection."""
        if self.dialect != "sqlite":
            return False
        path, mode = self.url.database or ":memory:", self.url.query.get("mode")
        return path in (":memory:", "file::memory:") or mode == "memory"

    def sparing_files(self) -> SQLSettings:
        """The same, but in memory if it names an SQLite file that does not exist; for a check.

        Raises ConfigurationError if the file could not be created.
        """
        path = self._missing_file()
        if path is None:
            return self
        if not os.access(os.path.dirname(os.path.abspath(path)), os.W_OK | os.X_OK):
            raise ConfigurationError(
                f"{self.address}: check db: its folder must exist and be writable"
            )
        return replace(self, url=self.url.set(database=":memory:"))

    def existing(self, where: str) -> SQLSettings:
        """The same for commands that only read: no database is created.

        Args:
            where: file and section, for the error.

        Raises ConfigurationError for an SQLite file that does not exist.
        """
        if (path := self._missing_file()) is not None:
            start = "" if os.path.isabs(path) else ", which is relative to the current folder"
            raise ConfigurationError(
                f"{where}: {self.named_by}: there is no file {os.path.abspath(path)}, and this "
                f"command does not create one: correct the path{start}"
            )
        return replace(self, login_db=None)

    def _missing_file(self) -> str | None:
        """The path of the SQLite file if it does not exist."""
        path = self.url.database
        if self.dialect != "sqlite" or not path or path == ":memory:" or "file:" in path:
            return None
        return None if os.path.exists(path) else path

    @classmethod
    def read(cls, section: Section, kind: Any, variables: bool = True) -> SQLSettings:
        """Read the keys of `section` and finish it; raises ConfigurationError.

        Args:
            kind: the keys: `SQLStoreKeys` or `SQLEventKeys`.
            variables: whether to read the documented environment variables, which are those of
                the tracker store.
        """
        keys = section.values(kind)
        place_key, place = section.place()
        section.finish()
        login_db, named_by = keys["login_db"], "db"
        if place and "://" in place:
            url, login_db = _full_url(section, place), None  # a full URL needs no other keys
            named_by = place_key
        else:
            url = URL.create(
                drivername=keys["dialect"],
                username=keys["username"],
                password=keys["password"],
                database=keys["db"],
                query=keys["query"] or {},
                **_place(section, place, keys["port"]),
            )
        url = url.set(drivername=_driver(section, url.drivername))
        if login_db and url.get_backend_name() != "postgresql":
            raise section.error("login_db", "is for PostgreSQL only; create the database by hand")
        url, tls = _tls(section, url, variables)
        heeded = variables and url.get_backend_name() == "postgresql"  # as documented
        return cls(
            url,
            login_db,
            schema=os.environ.get("POSTGRESQL_SCHEMA") or None if heeded else None,
            pool_size=_count(section, keys, "pool_size", heeded),
            max_overflow=_count(section, keys, "max_overflow", heeded),
            pool_timeout=keys["pool_timeout"],
            timeout=keys["timeout"],
            tls=tls,
            named_by=named_by,
        )


def _full_url(section: Section, text: str) -> URL:
    try:
        url = make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        # The original error may hold the password.
        raise section.error("url", f"{mask_url(text)!r} is not a database URL") from None
    parts = [url.host, *url.query]
    cut_off = url.get_backend_name() != "sqlite" and is_cut_off(text)
    if cut_off or any("@" in part for part in parts if part):
        # Part of a password, which would be shown as that of the host.
        raise section.error(
            "url", "has one @ too many: in user and password write @ as %40, / as %2F, ? as %3F"
        )
    return url


def _place(section: Section, host: str | None, port: int | None) -> dict[str, Any]:
    """Host and port; a port in the host text wins over the key."""
    if host is None:
        return {"host": None, "port": port}
    if "@" in host:
        raise section.error("url", "has an @: a host is without user and password, which are "
                            "keys of their own; or give a whole URL, with ://")  # fmt: skip
    name, colon, digits = host.rpartition(":")
    if not colon or (host.count(":") > 1 and not name.endswith("]")):
        return {"host": host.strip("[]"), "port": port}
    if not digits.isdigit() or not 0 < int(digits) < 65536:
        raise section.error("url", f"{digits!r} in {host!r} is not a port")
    return {"host": name.strip("[]"), "port": int(digits)}


def _driver(section: Section, name: str) -> str:
    backend, _, driver = name.partition("+")
    backend = {"postgres": "postgresql"}.get(backend.lower(), backend.lower())
    if backend not in DRIVERS:
        raise section.error("dialect", f"{name!r} is not one of " + ", ".join(DRIVERS))
    usual = DRIVERS[backend]
    return f"{backend}+{driver if driver in usual else usual[0]}"


def _tls(section: Section, url: URL, variables: bool) -> tuple[URL, SQLTLS]:
    """The TLS settings of keys, URL and documented variables, and the URL without them."""
    backend, driver = url.get_backend_name(), url.get_driver_name()
    if backend in ("sqlite", "oracle"):
        for key in declared(TLSKeys):
            if section.has(key):
                raise section.error(key, f"is not for {backend}")
        return url, SQLTLS()
    libpq = driver == "psycopg"
    refuse_others(section, url.query, libpq)
    mode, files = take_from_query(url.query)
    if backend == "postgresql" and variables:
        mode = mode or os.environ.get("SQL_TRACKER_STORE_SSL_MODE")
        if authority := os.environ.get("SQL_TRACKER_STORE_SSL_ROOT_CERTIFICATE"):
            files = {"ssl_ca_certs": authority, **files}
    tls = SQLTLS.take(section, mode, files)
    if tls.on and driver == "asyncmy":
        raise section.error(
            "use_ssl", "is not for asyncmy, which may go on without it: use aiomysql"
        )
    return url.difference_update_query([name for name in url.query if is_tls(name, libpq)]), tls


def _count(section: Section, keys: Mapping[str, Any], key: str, heeded: bool) -> int:
    """A number of connections, from the key, or else from its variable if `heeded`."""
    text = os.environ.get(variable := f"SQL_{key.upper()}")
    if section.has(key) or not heeded or not text:
        return int(keys[key])
    try:
        return int(text)
    except ValueError:
        raise ConfigurationError(
            f"environment variable {variable}: {text!r} is not a number"
        ) from None
