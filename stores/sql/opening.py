"""From settings to an engine whose tables are there."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy.ext.asyncio import AsyncEngine

from . import charset
from . import engine as engines
from .settings import SQLSettings
from .sqlite import SQLiteEngine

#: Makes of a name one that the database's character set has.
Fitting = Callable[[str], str]


async def opened(settings: SQLSettings) -> tuple[AsyncEngine | SQLiteEngine, Fitting]:
    """Connect, and create what is missing. Raises the driver's errors."""
    if settings.login_db:
        await engines.create_database(settings)
    sqlite = settings.dialect == "sqlite"
    engine = SQLiteEngine(settings) if sqlite else engines.make_engine(settings)
    try:
        if isinstance(engine, SQLiteEngine):
            await engine.prepare(engines.tracker_missing)
            return engine, charset.same
        await engines.prepare(engine, settings)
        async with engine.connect() as connection:
            return engine, await connection.run_sync(charset.fitting)
    except BaseException:
        await engine.dispose()
        raise
