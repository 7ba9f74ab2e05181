"""Stores on SQL databases that a test changes behind their back."""

from __future__ import annotations

import asyncio
from typing import Any

from servers.tracker_stores import Stores
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine


def engine_of(url: URL, **options: Any) -> AsyncEngine:
    """An engine beside those of the stores."""
    if url.get_backend_name() == "sqlite":
        url = url.set(drivername="sqlite+aiosqlite")
    return create_async_engine(url, **options)


async def execute(stores: Stores, *statements: str) -> None:
    """Run plain SQL in the stores' database."""
    engine = engine_of(stores.open().settings.url, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        for statement in statements:
            await connection.exec_driver_sql(statement)
    await engine.dispose()


async def empty(tracker_sections: Any, backend: str) -> Stores:
    """Stores on a new database, which is made by another event loop."""
    return Stores(backend, await asyncio.to_thread(tracker_sections, backend))
