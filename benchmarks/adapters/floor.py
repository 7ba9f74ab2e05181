"""The floor: the least that hands a lock on in order, in Python, on one connection.

An asyncio protocol and hiredis; one script in, one script out, requests of a loop tick in one
write. First in, first out among processes that never fail: no lease, no fence, no recovery, no
cancellation, no reconnection. A bound, not a product.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import hiredis

# KEYS counter, queue; ARGV member. Returns 1 if the member is at the head.
ACQUIRE = """
local number = redis.call('INCR', KEYS[1])
redis.call('ZADD', KEYS[2], number, ARGV[1])
redis.call('PEXPIRE', KEYS[2], 3600000)
return redis.call('ZRANGE', KEYS[2], 0, 0)[1] == ARGV[1] and 1 or 0
"""
# KEYS queue; ARGV member. Tells the process of the next one.
RELEASE = """
redis.call('ZREM', KEYS[1], ARGV[1])
local head = redis.call('ZRANGE', KEYS[1], 0, 0)[1]
if head then redis.call('PUBLISH', string.match(head, '^%w+'), head) end
return 1
"""
SHA = {script: hashlib.sha1(script.encode()).hexdigest() for script in (ACQUIRE, RELEASE)}


class Connection(asyncio.Protocol):
    """One connection, requests answered in their order; pushes go to `on_push`."""

    def __init__(self, on_push: Callable[[bytes], None]) -> None:
        self._on_push = on_push
        self._reader = hiredis.Reader(notEnoughData=Connection)
        self._futures: deque[asyncio.Future[Any]] = deque()
        self._chunks: list[bytes] = []
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def call(self, *words: Any) -> asyncio.Future[Any]:
        future = self._loop.create_future()
        self._futures.append(future)
        if not self._chunks:
            self._loop.call_soon(self._flush)
        self._chunks.append(hiredis.pack_command(words))
        return future

    def close(self) -> None:
        self._transport.close()

    def _flush(self) -> None:
        self._transport.write(b"".join(self._chunks))
        self._chunks.clear()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (answer := self._reader.gets()) is not Connection:
            if not isinstance(answer, hiredis.PushNotification):
                future = self._futures.popleft()
                if not future.done():
                    future.set_result(answer)
            elif answer[0] == b"message":
                self._on_push(answer[2])
            else:  # SUBSCRIBE is answered by a push
                self._futures.popleft().set_result(answer)


class Turn:
    """One use of a lock."""

    __slots__ = ("_adapter", "_member", "_name")

    def __init__(self, adapter: Adapter, name: str) -> None:
        self._adapter = adapter
        self._name = name

    async def __aenter__(self) -> None:
        adapter = self._adapter
        self._member = member = f"{adapter.process}.{next(adapter.requests)}"
        # Before the request: its turn may come in the same packet as the answer.
        future = adapter.waiting[member.encode()] = adapter.loop.create_future()
        keys = f"floor:{{{self._name}}}:counter", f"floor:{{{self._name}}}:queue"
        if await adapter.call("EVALSHA", SHA[ACQUIRE], 2, *keys, member) == 0:
            await future
        adapter.waiting.pop(member.encode(), None)

    async def __aexit__(self, *_: object) -> None:
        queue = f"floor:{{{self._name}}}:queue"
        await self._adapter.call("EVALSHA", SHA[RELEASE], 1, queue, self._member)


class Adapter:
    asynchronous = True

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self.process = secrets.token_hex(8)
        self.requests = count(1)
        self.waiting: dict[bytes, asyncio.Future[None]] = {}
        self.on_message: Callable[[bytes], None] = self._bell

    async def open(self) -> None:
        self.loop = asyncio.get_running_loop()
        host, port = self._url.hostname, self._url.port
        assert host is not None  # the benchmark's own servers have both
        assert port is not None
        _, self._connection = await self.loop.create_connection(
            lambda: Connection(lambda text: self.on_message(text)), host, port
        )
        self.call = self._connection.call
        await self.call("HELLO", 3)
        await self.call("SELECT", self._url.path.strip("/") or 0)
        for script in SHA:
            await self.call("SCRIPT", "LOAD", script)
        await self.call("SUBSCRIBE", self.process)

    def _bell(self, member: bytes) -> None:
        future = self.waiting.get(member)
        if future is not None and not future.done():
            future.set_result(None)

    def lock(self, name: str) -> Turn:
        return Turn(self, name)

    async def close(self) -> None:
        self._connection.close()
