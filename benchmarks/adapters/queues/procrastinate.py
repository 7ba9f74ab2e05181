"""procrastinate on PostgreSQL: a job waits until no other one with its `lock` is left."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import procrastinate
from procrastinate.exceptions import ConnectorException

from .base import ROOM, Queue


class Adapter(Queue):
    async def start(self) -> None:
        connector = procrastinate.PsycopgConnector(
            conninfo=self.servers["postgres"], min_size=4, max_size=20
        )
        self._app = procrastinate.App(connector=connector)
        await self._app.open_async()
        with suppress(ConnectorException):  # another process has made it
            await self._app.schema_manager.apply_schema_async()

        async def handle(name: str, text: str) -> None:
            await self.handle(name, text)
            self.replied(text)

        self._task = self._app.task(handle, name="handle")
        self._working = asyncio.create_task(
            self._app.run_worker_async(
                concurrency=ROOM, install_signal_handlers=False, delete_jobs="always"
            )
        )

    async def stop(self) -> None:
        self._working.cancel()
        await asyncio.wait([self._working])
        await self._app.close_async()

    async def submit(self, name: str, number: int) -> None:
        await self._task.configure(lock=name).defer_async(name=name, text=self.now())
