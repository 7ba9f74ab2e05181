"""The demo's HTTP client, against servers that answer in pieces, refuse, and hang up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ticketlock.demo.client import HttpClient, Refused

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


class Server:
    """Answers each request with the next of some pieces; an empty one ends the connection."""

    def __init__(self, *answers: list[bytes]) -> None:
        self._answers = list(answers)
        self.connections = 0
        self.requests: list[bytes] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                for piece in self._answers.pop(0):
                    writer.write(piece)
                    await writer.drain()
                    if not piece:
                        return
                    await asyncio.sleep(0)
        except asyncio.IncompleteReadError:
            pass  # the client has gone
        finally:
            writer.close()

    async def __aenter__(self) -> HttpClient:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._client = HttpClient(self._server.sockets[0].getsockname()[1], "secret")
        return self._client

    async def __aexit__(self, *_: object) -> None:
        self._client.close()
        self._server.close()
        await self._server.wait_closed()


async def ask(client: HttpClient) -> list[Any]:
    async with client.post("/path?x=1", {"a": "ä"}) as lines:
        return [line async for line in lines]


async def test_lines_come_in_any_pieces_and_the_connection_is_used_again() -> None:
    whole = CHUNKED + b'8\r\n{"a":1}\n\r\n8\r\n{"b":2}\n\r\n0\r\n\r\n'
    server = Server(
        [whole],
        [whole[i : i + 1] for i in range(len(whole))],
        [CHUNKED, b'b\r\n{"a":1}\n{"b\r\n', b'5\r\n":2}\n\r\n', b"0\r\n\r\n"],
        [CHUNKED, b"0\r\n\r\n"],
    )
    async with server as client:
        for _ in range(3):
            assert await ask(client) == [{"a": 1}, {"b": 2}]
        assert await ask(client) == []
    assert server.connections == 1
    assert server.requests[0].startswith(b"POST /path?x=1 HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nAuthorization: Bearer secret\r\n" in server.requests[0]
    assert server.requests[0].endswith(b'\r\n\r\n{"a": "\\u00e4"}')


@pytest.mark.parametrize(
    "pieces",
    [
        [b""],
        [b"HTTP/1.1 200 OK\r\n", b""],
        [CHUNKED, b""],
        [CHUNKED, b'8\r\n{"a":1}\n\r\n', b""],
        [CHUNKED, b'8\r\n{"a"', b""],
    ],
)
async def test_an_answer_that_is_cut_short_is_never_taken_for_whole(
    pieces: list[bytes], run: Callable[..., None]
) -> None:
    server = Server(pieces, [CHUNKED, b"0\r\n\r\n"])
    async with server as client:
        with pytest.raises((OSError, EOFError)):
            await ask(client)
        assert await ask(client) == []
    assert server.connections == 2


async def test_an_error_answer_is_raised_with_its_words(run: Callable[..., None]) -> None:
    answer = b'HTTP/1.1 503 X\r\nConnection: close\r\nContent-Length: 18\r\n\r\n{"message": "why"}'
    server = Server([answer])
    async with server as client:
        with pytest.raises(Refused, match="503 why") as caught:
            await ask(client)
    assert caught.value.status == 503


async def test_a_connection_that_is_to_be_closed_is_not_used_again(
    run: Callable[..., None],
) -> None:
    last = [HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"]
    server = Server(last, [CHUNKED, b"0\r\n\r\n", b""], last)
    async with server as client:
        assert await ask(client) == []
        assert await ask(client) == []
        while not client._idle[0][0].at_eof():  # the server closes it
            await asyncio.sleep(0.01)
        assert await ask(client) == []
    assert server.connections == 3


async def test_a_server_that_is_not_there_is_told(run: Callable[..., None]) -> None:
    async with Server() as client:
        pass
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await ask(client)
