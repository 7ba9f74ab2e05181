"""Stores on SQL databases that a test changes behind their back."""

from __future__ import annotations

import asyncio
from typing import Any

from servers.tracker_stores import Stores
from sqlalchemy.ext.asyncio import create_async_engine


async def execute(stores: Stores, *statements: str) -> None:
    """Run plain SQL in the stores' database."""
    engine = create_async_engine(stores.open().settings.url, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        for statement in statements:
            await connection.exec_driver_sql(statement)
    await engine.dispose()


async def empty(tracker_sections: Any, backend: str) -> Stores:
    """Stores on a new database, which is made by another event loop."""
    return Stores(backend, await asyncio.to_thread(tracker_sections, backend))
