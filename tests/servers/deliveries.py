"""Deliveries that wait on Redis, as the end of a turn leaves them; and a receiver of POSTs."""

from __future__ import annotations

import asyncio
import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ticketlock import ConcurrentRedisLockStore
from ticketlock.deliveries.storage import DeliveryStore, RedisDeliveries
from ticketlock.locks.concurrent.shared import SharedState


class Deliveries(ABC):
    """A store of deliveries, and what the tests do with it beside its methods."""

    store: DeliveryStore

    @abstractmethod
    async def append(self, conversation_id: str, text: str) -> None:
        """Add one, as the end of a turn does."""

    @abstractmethod
    async def dead(self, conversation_id: str) -> list[str]:
        """The dead letters."""

    @abstractmethod
    async def left(self, conversation_id: str) -> bool:
        """Whether anything waits, or a sender is noted."""


class RedisBox(Deliveries):
    def __init__(self, locks: ConcurrentRedisLockStore) -> None:
        self.shared = SharedState(locks)
        self.keys = self.shared.keys
        self.store = RedisDeliveries(self.shared, self.keys)
        self._link = locks.engine().link

    @classmethod
    @asynccontextmanager
    async def on(cls, url: str, prefix: str) -> AsyncIterator[RedisBox]:
        async with ConcurrentRedisLockStore(url=url, key_prefix=prefix) as locks:
            yield cls(locks)

    async def command(self, *args: object) -> object:
        return await self._link.submit(args, None).future

    async def append(self, conversation_id: str, text: str) -> None:
        await self.command("RPUSH", self.keys.of_deliveries(conversation_id)[0], text)

    async def dead(self, conversation_id: str) -> list[str]:
        key = self.keys.of_deliveries(conversation_id)[2]
        found = await self.command("LRANGE", key, 0, -1)
        assert isinstance(found, list)
        if found:
            ttl = await self.command("PTTL", key)
            assert isinstance(ttl, int)
            assert ttl > 1000
        return [text.decode() for text in found]

    async def left(self, conversation_id: str) -> bool:
        waiting, sender, _ = self.keys.of_deliveries(conversation_id)
        # While something waits, no key may expire.
        for key in (waiting, sender):
            assert await self.command("PTTL", key) in (-1, -2)
        return await self.command("EXISTS", waiting, sender) != 0


@dataclass
class Received:
    """A POST: its target, headers by names in lower case, and body."""

    target: str
    headers: dict[str, str]
    body: bytes


Reply = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Receiver:
    """An HTTP server on 127.0.0.1 that notes what it gets.

    Attributes:
        received: the POSTs, in order.
        on_received: called with each.
        replies: what the next ones are answered with: a status, bytes, or a coroutine function;
            then 200.
        port: where it listens; any, if none is set before.
    """

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.on_received: Callable[[Received], object] = lambda received: None
        self.replies: list[int | bytes | Reply] = []
        self.port = 0

    @asynccontextmanager
    async def serving(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/bot"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            pairs = (line.split(": ", 1) for line in head[1:] if line)
            headers = {name.lower(): value for name, value in pairs}
            body = await reader.readexactly(int(headers["content-length"]))
            self.received.append(Received(head[0], headers, body))
            self.on_received(self.received[-1])
            reply = self.replies.pop(0) if self.replies else 200
            if isinstance(reply, int):
                reply = f"HTTP/1.1 {reply} X\r\ncontent-length: 2\r\n\r\nok".encode()
            if isinstance(reply, bytes):
                writer.write(reply)
                await writer.drain()
            else:
                await reply(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the poster has gone
        finally:
            writer.transport.abort() if writer.transport.is_closing() else writer.close()


class Flood:
    """A reply of a gigabyte, as far as it is read.

    Attributes:
        sent: bytes that were written.
    """

    sent = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
        block = bytes(1 << 20)
        for _ in range(1000):
            writer.write(block)
            await writer.drain()
            self.sent += len(block)
