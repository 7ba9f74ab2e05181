"""Clients of a bot server, in a worker process: good ones, and those that would hurt it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

#: The bounds of a body, by default.
BYTES, VALUES = 1024 * 1024, 20_000


class Connection:
    """One connection to a server, kept for the next request."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def open(self) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)

    async def request(self, method: str, path: str, body: bytes) -> int:
        """The status of the answer, which is read to its end."""
        self.begin(method, path, len(body), body)
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        await self.reader.readexactly(int(head.partition(b"content-length:")[2].split()[0]))
        return int(head.split()[1])

    def begin(self, method: str, path: str, length: int, body: bytes) -> None:
        """Send a head, and of the body what is given."""
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
        self.writer.write(head.encode() + body)


async def talk(
    adapter: Any, port: int, name: str, conversations: int, gap: float, seconds: float
) -> list[float]:
    """Messages to conversations, one each `gap` seconds; how long each took from when it was due."""
    found: list[float] = []
    start = time.perf_counter() + 0.1

    async def converse(number: int) -> None:
        connection, due = Connection(port), start + gap * number / conversations
        await connection.open()
        body = json.dumps({"sender": f"{name}-{number}", "message": "hello"}).encode()
        while due < start + seconds:
            await asyncio.sleep(due - time.perf_counter())
            status = await connection.request("POST", "/webhooks/rest/webhook", body)
            if status != 200:
                raise RuntimeError(f"the server answered {status}")
            found.append(time.perf_counter() - due)
            due += gap
        connection.writer.close()

    await asyncio.gather(*map(converse, range(conversations)))
    return found


async def attack(adapter: Any, kind: str, port: int, name: str, seconds: float) -> dict[str, int]:
    """One of `ATTACKS` for so long; how often it was answered with which status."""
    statuses: Counter[str] = Counter()
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(ATTACKS[kind](port, name, statuses), seconds)
    return dict(statuses)


async def bodies(port: int, name: str, statuses: Counter[str]) -> None:
    """400 bodies that never end: some stop, some drip; one that is cut off comes again."""

    async def one(number: int) -> None:
        while True:
            connection = Connection(port)
            await connection.open()
            connection.begin("POST", "/webhooks/rest/webhook", BYTES, b" " * 16_000)
            answer = asyncio.ensure_future(connection.reader.readline())
            while not answer.done():
                if number % 2:
                    connection.writer.write(b" ")
                await asyncio.wait([answer], timeout=0.5)
            statuses[answer.result()[9:12].decode()] += 1
            connection.writer.close()

    await asyncio.gather(*map(one, range(400)))


async def lists(port: int, name: str, statuses: Counter[str]) -> None:
    """A megabyte of lists stored again and again: long ones, then as many as are taken."""
    connection, path = Connection(port), f"/conversations/{name}/tracker/events"
    await connection.open()
    many, parts = VALUES // 2 - 100, 1
    while True:
        for method, text in (("POST", "x" * (BYTES // many - 10)), ("PUT", ""), ("POST", "")):
            each = [[text]] * (many // parts) if text else [[]] * (many // parts)
            stored = {"event": "action", "name": "a", "metadata": {"lists": each}}
            body = json.dumps([stored] * parts, separators=(",", ":")).encode()
            status = await connection.request(method, path, body)
            statuses[str(status)] += 1
            if status == 413:
                parts *= 2


async def events(port: int, name: str, statuses: Counter[str]) -> None:
    """70,000 events for one conversation, as many at once as are taken; then for another one."""
    connection, most, lives = Connection(port), VALUES // 2 - 10, 0
    await connection.open()
    while True:
        lives, left = lives + 1, 70_000
        while left > 0:
            batch = min(most, left)
            body = json.dumps([{"event": "restart"}] * batch).encode()
            path = f"/conversations/{name}-{lives}/tracker/events"
            status = await connection.request("POST", path, body)
            statuses[str(status)] += 1
            if status == 413:
                most //= 2
            else:
                left -= batch


ATTACKS: dict[str, Callable[[int, str, Counter[str]], Coroutine[Any, Any, None]]] = {
    "bodies": bodies,
    "lists": lists,
    "events": events,
}
