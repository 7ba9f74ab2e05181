"""dramatiq on Redis: an actor of asyncio, a thread for each message at once; no order."""

from __future__ import annotations

import asyncio

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import AsyncIO

from .base import ROOM, Queue


class Adapter(Queue):
    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        broker = RedisBroker(url=self.servers["redis"])
        broker.add_middleware(AsyncIO())

        async def handle(name: str, text: str) -> None:
            # The loop of the tracker store is not that of the actors.
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._one(name, text), loop))

        self._actor = dramatiq.actor(handle, broker=broker)
        self._worker = dramatiq.Worker(broker, worker_threads=ROOM)
        self._worker.start()

    async def stop(self) -> None:
        await asyncio.to_thread(self._worker.stop)

    async def _one(self, name: str, text: str) -> None:
        await self.handle(name, text)
        self.replied(text)

    async def submit(self, name: str, number: int) -> None:
        await asyncio.to_thread(self._actor.send, name, self.now())
