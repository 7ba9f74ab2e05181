"""From settings to an engine whose tables are there, and transactions on any of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from . import charset, silence
from . import engine as engines
from .settings import SQLSettings
from .sqlite import SQLiteEngine

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    #: An engine for any database.
    Engine = AsyncEngine | SQLiteEngine

T = TypeVar("T")

#: Makes of a name one that the database's character set has.
Fitting = Callable[[str], str]


def made(settings: SQLSettings) -> Engine:
    """An engine, which connects at its first use."""
    return SQLiteEngine(settings) if settings.dialect == "sqlite" else engines.make_engine(settings)


async def make_database(settings: SQLSettings) -> None:
    """Create the database, if the settings want that and it does not exist."""
    if settings.login_db:
        await engines.create_database(settings)


async def prepare(
    engine: Engine, settings: SQLSettings, missing: Callable[[sa.Connection], list[Any]]
) -> None:
    """Create the database, and the tables and indexes that `missing` finds."""
    await make_database(settings)
    if isinstance(engine, SQLiteEngine):
        await engine.prepare(missing)
    else:
        await engines.prepare(engine, settings, missing)


async def write(engine: Engine, body: Callable[[sa.Connection], T], size: int = 0) -> T:
    """Run `body` in a transaction. Raises the driver's errors.

    Args:
        size: about how many bytes it writes.
    """
    if isinstance(engine, SQLiteEngine):
        return await engine.run(body, size=size)
    async with engine.begin() as connection:
        return await connection.run_sync(body)


async def read(engine: Engine, body: Callable[[sa.Connection], T]) -> T:
    """Run `body`, which changes nothing. Raises the driver's errors."""
    if isinstance(engine, SQLiteEngine):
        return await engine.run(body, read_only=True)
    async with engine.connect() as connection:
        return await connection.run_sync(body)


def doubt(engine: Engine | None) -> None:
    """An operation had no answer in time: others use new connections from now on."""
    if engine is not None and not isinstance(engine, SQLiteEngine):
        silence.doubt(engine.sync_engine)


async def opened(settings: SQLSettings) -> tuple[Engine, Fitting]:
    """Connect, and create what is missing. Raises the driver's errors."""
    engine = made(settings)
    try:
        await prepare(engine, settings, engines.tracker_missing)
        if isinstance(engine, SQLiteEngine):
            return engine, charset.same
        async with engine.connect() as connection:
            return engine, await connection.run_sync(charset.fitting)
    except BaseException:
        await engine.dispose()
        raise
