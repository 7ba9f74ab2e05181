"""How often SQLite waits for the disk."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from servers import missing
from ticketlock.stores.sql.engine import listen
from ticketlock.stores.sql.settings import SQLSettings
from ticketlock.stores.sql.transactions import sync

from ticketlock.settings.section import Section
from ticketlock.settings.store_keys import SQLStoreKeys

#: Claims and turns of twenty conversations, each kind at once; before each, a line.
WRITER = """
import asyncio, os, sys
from ticketlock.endpoints.registry import create_tracker_store

async def main():
    async with create_tracker_store({"type": "sql", "db": sys.argv[1]}) as store:
        await store.claim("first", 1, "x")
        event = {"event": "user", "text": "one", "timestamp": 1.0}
        for turn in range(1, 6):
            os.write(1, b"claims\\n")
            claims = await asyncio.gather(*(store.claim(str(n), turn, "x") for n in range(20)))
            os.write(1, b"writes\\n")
            await asyncio.gather(*(store.append(claim, [event]) for claim in claims))
        os.write(1, b"claims\\n")

asyncio.run(main())
"""


def test_each_write_waits_for_the_disk_once(tmp_path: Path) -> None:
    """What the kernel sees: before an acknowledgement at least one sync, and not one for each write;
    and none for a claim, which says only whose writes are refused."""
    if not (strace := shutil.which("strace")):
        missing("strace", "apt-get install strace")
    command = [strace, "-f", "-e", "trace=write,fsync,fdatasync", "-o", str(tmp_path / "trace")]
    subprocess.run(
        [*command, sys.executable, "-c", WRITER, str(tmp_path / "bot.db")],
        check=True, timeout=60, capture_output=True,
    )  # fmt: skip
    trace = (tmp_path / "trace").read_text()
    rounds = [part.split('write(1, "writes') for part in trace.split('write(1, "claims')[1:-1]]
    assert len(rounds) == 5
    for claims, writes in rounds:
        assert _syncs(claims) == 0
        assert 1 <= _syncs(writes) <= 3  # a batch or two, and not twenty commits


def test_a_change_that_has_failed_is_made_by_the_next_write(tmp_path: Path) -> None:
    """SQLite refuses it while something is under way on the connection, as here."""
    keys = {"db": str(tmp_path / "bot.db")}
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'bot.db'}")
    listen(engine, SQLSettings.read(Section(keys, "test"), SQLStoreKeys))
    with engine.connect() as connection:
        driver: Any = connection.connection.dbapi_connection
        sync(connection, False)
        driver.execute("BEGIN")
        with pytest.raises(sqlite3.OperationalError, match="inside a transaction"):
            sync(connection, True)
        driver.execute("ROLLBACK")
        sync(connection, True)
        assert driver.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    engine.dispose()


def _syncs(trace: str) -> int:
    return sum("sync(" in line and "resumed" not in line for line in trace.splitlines())
