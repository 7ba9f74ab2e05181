"""Clients of a bot server, as light as asyncio allows: messages on connections that stay open."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable

#: Messages of a sender; then another one writes.
EACH = 20
_HEAD = (
    b"POST /webhooks/rest/webhook HTTP/1.1\r\nhost: localhost\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
)


class Connection(asyncio.Protocol):
    """A connection, for one request at a time."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._sent = 0
        self._read = b""
        self._answer: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def post(self) -> asyncio.Future[None]:
        """Send the next message; resolved with its answer."""
        sender = f"{self._name}-{self._sent // EACH}"
        self._sent += 1
        body = json.dumps({"sender": sender, "message": f"message {self._sent}"}).encode()
        self.transport.write(_HEAD % len(body) + body)
        self._answer = asyncio.get_running_loop().create_future()
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, end, body = self._read.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0] or -1)
        if not end or len(body) < length:
            return
        answer, self._answer, self._read = self._answer, None, b""
        assert answer is not None  # it answers a request
        if head.startswith(b"HTTP/1.1 200"):
            answer.set_result(None)
        else:
            answer.set_exception(RuntimeError(f"answered {head[:40]!r}: {body[:200]!r}"))

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the server hung up"))


async def connect(port: int, name: str) -> Connection:
    loop = asyncio.get_running_loop()
    _, made = await loop.create_connection(lambda: Connection(name), "127.0.0.1", port)
    return made


async def closed_loop(port: int, name: str, count: int, connections: int) -> float:
    """Each connection sends its next message when the last is answered. Returns messages a second."""
    made = [await connect(port, f"{name}-{i}") for i in range(connections)]
    numbers = iter(range(count))

    async def send(one: Connection) -> None:
        for _ in numbers:
            await one.post()

    began = time.perf_counter()
    try:
        await asyncio.gather(*map(send, made))
        return count / (time.perf_counter() - began)
    finally:
        await close(made)


async def open_loop(port: int, name: str, count: int, rate: float) -> list[float]:
    """Messages that come at a rate, whatever becomes of those before. Returns the seconds of each
    from when it was due, so that a late one does not hide the wait of the next."""
    free: list[Connection] = []
    made, took, sending = 0, list[float](), []

    async def send(due: float) -> None:
        nonlocal made
        if not free:
            made += 1
            free.append(await connect(port, f"{name}-{made}"))
        one = free.pop()
        await one.post()
        took.append(time.perf_counter() - due)
        free.append(one)

    began = time.perf_counter()
    for i in range(count):
        due = began + i / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        sending.append(asyncio.create_task(send(due)))
    await asyncio.gather(*sending)
    await close(free)
    return took


async def close(connections: Iterable[Connection]) -> None:
    for one in connections:
        one.transport.abort()
    await asyncio.sleep(0)  # then their sockets are closed
