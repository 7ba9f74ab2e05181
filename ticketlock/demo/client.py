"""A small HTTP/1.1 client, for sending messages to a replica."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

#: Longest line of a head, and of a chunk's length, in bytes.
_LINE = 65536


class Refused(Exception):
    """An error answer.

    Attributes:
        status: its status code.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class HttpClient:
    """Sends requests to one server on this machine, over connections that are reused."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._head = f"Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n"
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    @asynccontextmanager
    async def post(self, path: str, body: Any) -> AsyncIterator[AsyncIterator[Any]]:
        """The answer to a POST of JSON: one JSON value per line, each as soon as it arrives.

        Raises Refused; OSError or EOFError if the connection fails, also between lines.
        """
        reader, writer = await self._connection()
        try:
            data = json.dumps(body).encode()
            head = f"POST {path} HTTP/1.1\r\n{self._head}Content-Length: {len(data)}\r\n\r\n"
            writer.write(head.encode() + data)
            status, headers = await _read_head(reader)
            if status != 200:
                error = json.loads(await reader.readexactly(int(headers["content-length"])))
                raise Refused(status, f"{status} {error['message']}")
            lines = _lines(_chunks(reader))
            yield lines
            if await anext(lines, None) is None and headers.get("connection") != "close":
                self._idle.append((reader, writer))
                return
        except BaseException:
            writer.close()
            raise
        writer.close()

    async def request(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of an answer that is no stream.

        Raises Refused; OSError or EOFError if the connection fails.
        """
        reader, writer = await self._connection()
        try:
            data = b"" if body is None else json.dumps(body).encode()
            head = f"{method} {path} HTTP/1.1\r\n{self._head}Content-Length: {len(data)}\r\n\r\n"
            writer.write(head.encode() + data)
            status, headers = await _read_head(reader)
            answer = json.loads(await reader.readexactly(int(headers["content-length"])))
        except BaseException:
            writer.close()
            raise
        if headers.get("connection") == "close":
            writer.close()
        else:
            self._idle.append((reader, writer))
        if status >= 300:
            raise Refused(status, f"{status} {answer['message']}")
        return answer

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self._port, limit=_LINE)

    def close(self) -> None:
        """Close the connections that are not in use."""
        while self._idle:
            self._idle.pop()[1].close()


async def _read_line(reader: asyncio.StreamReader) -> str:
    line = await reader.readline()
    if not line.endswith(b"\r\n"):
        raise EOFError("the server ended the connection")
    return line[:-2].decode("latin-1")


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Status and headers of an answer."""
    status = int((await _read_line(reader)).split(" ")[1])
    headers = {}
    while line := await _read_line(reader):
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return status, headers


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int(await _read_line(reader), 16):
        yield (await reader.readexactly(size + 2))[:-2]
    await _read_line(reader)


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[Any]:
    left = b""
    async for chunk in chunks:
        *lines, left = (left + chunk).split(b"\n")
        for line in lines:
            yield json.loads(line)
