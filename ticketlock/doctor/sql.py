"""SQL databases: connections, what a crash loses, and SQLite's file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from operator import methodcaller
from pathlib import Path
from typing import Any

from ..aio.loop_time import within_loop_time
from . import tls
from .finding import NOT_LOOKED_AT, Finding, fault
from .visit import Visit

CONNECTIONS = fault(
    "sql-connections", "warning",
    "Replicas wait for connections, or are refused (`pool_timeout`, 503), when all pools are full.",
    "https://www.postgresql.org/docs/current/runtime-config-connection.html, docs/operations/capacity.md",
)  # fmt: skip

READ_ONLY = fault(
    "sql-read-only", "error",
    "No turn can be stored: this is a standby, or an operator has made it read-only.",
    "docs/operations/failover.md",
)  # fmt: skip

DURABILITY = fault(
    "sql-durability", "warning",
    "A crash of the machine loses turns that were answered; PostgreSQL without fsync may lose the whole "
    "database.",
    "https://www.postgresql.org/docs/current/runtime-config-wal.html, "
    "https://mariadb.com/docs/server/server-usage/storage-engines/innodb/innodb-system-variables",
)  # fmt: skip

JOURNAL = fault(
    "sqlite-journal", "warning",
    "Without WAL readers wait for the writer, and the writer for readers.",
    "https://www.sqlite.org/wal.html",
)  # fmt: skip

NETWORK = fault(
    "sqlite-network", "error",
    "Locks of files do not work reliably there: two machines that write damage the file.",
    "https://www.sqlite.org/howtocorrupt.html, https://www.sqlite.org/wal.html",
)  # fmt: skip

#: Types of file systems that are on another machine, or may be.
_REMOTE = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "lustre", "afs",
           "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "virtiofs", "vboxsf")  # fmt: skip

#: Dialect -> what is asked, each with the SQL for it.
_QUESTIONS: Mapping[str, Mapping[str, str]] = {
    "postgresql": {
        "version": "SHOW server_version",
        "standby": "SELECT pg_is_in_recovery()",
        "read_only": "SHOW default_transaction_read_only",
        "most": "SHOW max_connections",
        "reserved": "SHOW superuser_reserved_connections",
        "fsync": "SHOW fsync",
        "synchronous_commit": "SHOW synchronous_commit",
    },
    "mysql": {
        "version": "SELECT VERSION()",
        "read_only": "SELECT @@global.read_only",
        "most": "SELECT @@global.max_connections",
        "innodb_flush_log_at_trx_commit": "SELECT @@global.innodb_flush_log_at_trx_commit",
    },
    "sqlite": {"version": "SELECT sqlite_version()", "journal": "PRAGMA journal_mode"},
    "oracle": {},
}


@dataclass(frozen=True)
class Pool:
    """The connections of one section in each process.

    Attributes:
        section: its name.
        settings: its `SQLSettings`.
    """

    section: str
    settings: Any

    @property
    def size(self) -> int:
        """The most connections of one process; a broker and the event service use one at a time."""
        most = self.settings.pool_size + self.settings.max_overflow
        return int(most) if self.section == "tracker_store" else 1


async def visit(pools: Sequence[Pool], timeout: float, replicas: int) -> Visit:
    """Look at a database that sections share; all questions are read only.

    Args:
        timeout: seconds for all questions.
        replicas: how many processes use it.

    Of a database that does not answer only what its settings say is judged.
    """
    settings = pools[0].settings
    found = Visit(settings.address, tuple(pool.section for pool in pools))
    for pool in pools:
        found.findings += tls.of_sql(pool.section, pool.settings)
    if settings.dialect == "sqlite":
        found.findings += network(settings.url.database, Path("/proc/self/mountinfo"))
        if settings != settings.sparing_files():
            return found  # there is no file, and none is made
    try:
        facts = await within_loop_time(timeout, _ask(settings))
    except (import_module("sqlalchemy").exc.SQLAlchemyError, OSError, asyncio.TimeoutError):
        return found  # the section's own check says why
    found.seen = f"{settings.dialect} {facts.pop('version', '')}".strip()
    found.findings += [
        *read_only(facts), *durability(facts), *journal(facts), *connections(facts, pools, replicas)
    ]  # fmt: skip
    if lacking := [name for name, value in facts.items() if value is None]:
        found.findings.append(
            NOT_LOOKED_AT.found(f"{', '.join(lacking)}: refused", "let the user read its settings")
        )
    return found


async def _ask(settings: Any) -> dict[str, str | None]:
    """The answers of a database; None for a question that it refuses."""
    sa: Any = import_module("sqlalchemy")
    opening: Any = import_module("ticketlock.stores.sql.opening")
    dialect = {"mariadb": "mysql"}.get(settings.dialect, settings.dialect)
    engine = opening.made(settings)
    facts: dict[str, str | None] = {}
    try:
        await opening.read(engine, lambda connection: None)  # it answers at all
        for name, question in _QUESTIONS[dialect].items():
            asked = methodcaller("scalar", sa.text(question))
            try:
                facts[name] = str(await opening.read(engine, asked))
            except sa.exc.DBAPIError:
                facts[name] = None
    finally:
        await engine.dispose()
    return facts


def read_only(facts: Mapping[str, str | None]) -> Iterator[Finding]:
    """The server takes no writes. Source: the server's own settings."""
    if facts.get("standby") == "True":
        yield READ_ONLY.found(
            "it is a standby (pg_is_in_recovery)", "name the primary in the section, or promote it"
        )
    elif facts.get("read_only") in ("on", "1", "ON"):
        yield READ_ONLY.found("it is read-only", "name the primary, or turn read_only off there")


def durability(facts: Mapping[str, str | None]) -> Iterator[Finding]:
    """Commits are answered before they are on the disk. Source: the server's own settings."""
    for name, bad, good in (
        ("fsync", ("off",), "ALTER SYSTEM SET fsync = on; SELECT pg_reload_conf()"),
        ("synchronous_commit", ("off",), "ALTER SYSTEM SET synchronous_commit = on; SELECT pg_reload_conf()"),
        ("innodb_flush_log_at_trx_commit", ("0", "2"),
         "SET GLOBAL innodb_flush_log_at_trx_commit = 1\nand the same in its file"),
    ):  # fmt: skip
        if facts.get(name) in bad:
            yield DURABILITY.found(f"{name} is {facts[name]}", good)


def connections(
    facts: Mapping[str, str | None], pools: Sequence[Pool], replicas: int
) -> Iterator[Finding]:
    """The pools of all replicas, and of one more during a roll, are larger than the server allows.

    Source: `pool_size` and `max_overflow` of the sections against `max_connections`.
    """
    most = int(facts.get("most") or 0) - int(facts.get("reserved") or 0)
    needed = (replicas + 1) * sum(pool.size for pool in pools)
    if facts.get("most") and needed > most:
        each = max(2, most // (replicas + 1) - len(pools) + 1)
        yield CONNECTIONS.found(
            f"{replicas} replicas, and one more during a roll, may open {needed} connections; the server "
            f"allows {most}",
            f"raise max_connections of the server, or set pool_size to {each * 2 // 3} and max_overflow to "
            f"{each - each * 2 // 3}",
        )


def journal(facts: Mapping[str, str | None]) -> Iterator[Finding]:
    """The file is not in WAL mode, which each connection asks for. Source: PRAGMA journal_mode."""
    mode = facts.get("journal")
    if mode not in (None, "wal", "memory"):
        yield JOURNAL.found(
            f"journal_mode is {mode}, because others use the file",
            "stop all programs that use it; then: sqlite3 FILE 'PRAGMA journal_mode = WAL'",
        )


def network(path: str | None, mounts: Path) -> Iterator[Finding]:
    """The file is on a file system of another machine.

    Args:
        mounts: what Linux tells of mounted file systems; elsewhere nothing is said.
    """
    if not path or path == ":memory:" or not mounts.exists():
        return
    folder = os.path.realpath(path)
    kinds = {}
    for line in mounts.read_text().splitlines():
        before, _, after = line.partition(" - ")
        kinds[before.split(" ")[4].replace("\\040", " ")] = after.split(" ")[0]
    while folder not in kinds and folder != "/":
        folder = os.path.dirname(folder)
    kind = kinds.get(folder, "")
    if kind in _REMOTE:
        yield NETWORK.found(
            f"{path} is on {folder}, of type {kind}",
            "put it on a disk of the machine, or use PostgreSQL for several machines",
        )
