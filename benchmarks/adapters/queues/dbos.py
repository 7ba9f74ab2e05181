"""DBOS on PostgreSQL: workflows of a queue with a partition for each conversation, one at a time."""

from __future__ import annotations

import asyncio

from dbos import DBOS, SetEnqueueOptions

from .base import Queue


class Adapter(Queue):
    async def start(self) -> None:
        config = {"name": "bench", "application_version": "1", "log_level": "ERROR"}
        DBOS(config={**config, "system_database_url": self.servers["postgres"]})
        loop = asyncio.get_running_loop()

        async def handle(name: str, text: str) -> None:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._one(name, text), loop))

        self._workflow = DBOS.workflow()(handle)
        DBOS.launch()
        await DBOS.register_queue_async(
            "messages", partition_concurrency=1, polling_interval_sec=0.1
        )

    async def stop(self) -> None:
        await asyncio.to_thread(DBOS.destroy)

    async def _one(self, name: str, text: str) -> None:
        await self.handle(name, text)
        self.replied(text)

    async def submit(self, name: str, number: int) -> None:
        with SetEnqueueOptions(queue_partition_key=name):
            await DBOS.enqueue_workflow_async("messages", self._workflow, name, self.now())
