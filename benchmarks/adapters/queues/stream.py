"""A consumer group of a Redis stream: as fast as redis-py can, and no order in a conversation.

Each read takes as many messages as there is room for; what is done is acknowledged in batches.
What a dead consumer had is claimed once a second.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import Any

import redis.asyncio
from redis.exceptions import ResponseError

from .base import ROOM, Queue

_STREAM, _GROUP = "messages", "bots"
#: Milliseconds after which a message of another consumer is claimed.
_IDLE = 5000


class Adapter(Queue):
    async def start(self) -> None:
        self._client = redis.asyncio.Redis.from_url(
            self.servers["redis"], decode_responses=True, max_connections=1000
        )
        self._name = secrets.token_hex(8)
        with suppress(ResponseError):  # another process has made it
            await self._client.xgroup_create(_STREAM, _GROUP, "0", mkstream=True)
        self._free = asyncio.Semaphore(ROOM)
        self._done: list[tuple[str, str]] = []
        self._wake = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        loops = (self._read(), self._acknowledge(), self._claim())
        self._loops = [asyncio.create_task(one) for one in loops]

    async def stop(self) -> None:
        for task in self._loops:
            task.cancel()
        await self._client.aclose()

    async def submit(self, name: str, number: int) -> None:
        await self._client.xadd(_STREAM, {"name": name, "text": self.now()}, maxlen=100_000)

    async def _read(self) -> None:
        while True:
            await self._free.acquire()  # room for one at least
            self._free.release()
            room = max(1, ROOM - len(self._running))
            found: Any = await self._client.xreadgroup(
                _GROUP, self._name, {_STREAM: ">"}, count=room, block=1000
            )
            for _, messages in found or ():
                await self._begin(messages)

    async def _claim(self) -> None:
        while True:
            await asyncio.sleep(1)
            _, messages, _ = await self._client.xautoclaim(
                _STREAM, _GROUP, self._name, _IDLE, count=ROOM
            )
            await self._begin(messages)

    async def _begin(self, messages: Any) -> None:
        for id_, fields in messages:
            await self._free.acquire()
            task = asyncio.create_task(self._one(id_, fields))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _one(self, id_: str, fields: dict[str, str]) -> None:
        try:
            await self.handle(fields["name"], fields["text"])
            self._done.append((id_, fields["text"]))
            self._wake.set()
        finally:
            self._free.release()

    async def _acknowledge(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            done, self._done = self._done, []
            await self._client.xack(_STREAM, _GROUP, *(id_ for id_, _ in done))
            for _, text in done:
                self.replied(text)
