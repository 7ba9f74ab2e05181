"""What a proxy does to some of its connections, and bells of a Redis that it loses."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from ticketlock.stress.proxy import Proxy, without_bells

#: From where a client and a server of a set connect.
CLIENT, SERVER = "127.0.0.1", "127.0.0.7"


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(100):
        writer.write(data)
    writer.close()


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """One before a server that says what it is told."""
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, Proxy(server.sockets[0].getsockname()[1]) as proxy:
        yield proxy


class Connection:
    """A connection to a proxy, from an address."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def say(self, what: bytes) -> None:
        """Say something, and hear it."""
        self._writer.write(what)
        assert await self._reader.readexactly(len(what)) == what

    async def is_gone(self) -> bool:
        try:
            return await self._reader.read(1) == b""
        except ConnectionError:
            return True

    async def close(self) -> None:
        self._writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


Open = Callable[[str], Awaitable[Connection]]


@pytest.fixture
async def opened(proxy: Proxy) -> AsyncIterator[Open]:
    """Opens connections to it that work, from an address."""
    found = []

    async def connect(address: str) -> Connection:
        one = await asyncio.open_connection("127.0.0.1", proxy.port, local_addr=(address, 0))
        found.append(Connection(*one))
        await found[-1].say(b"hello")
        return found[-1]

    yield connect
    for each in found:
        await each.close()


async def test_a_black_hole_of_some_addresses(proxy: Proxy, opened: Open) -> None:
    """As of a master that its clients reach, and other servers do not."""
    client = await opened(CLIENT)
    server = await opened(SERVER)
    proxy.concerns = lambda address: address == SERVER
    proxy.mood = "black hole"
    await client.say(b"still here")
    swallowed = asyncio.create_task(server.say(b"lost"))
    await client.say(b"after it")
    proxy.mood = "pass"
    proxy.reset()
    await client.say(b"not reset")
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await swallowed
    await opened(SERVER)


async def test_all_are_reset_where_all_are_concerned(proxy: Proxy, opened: Open) -> None:
    found = [await opened(address) for address in (CLIENT, SERVER)]
    proxy.reset()
    assert [await one.is_gone() for one in found] == [True, True]


async def test_pieces_are_late_in_both_directions(proxy: Proxy, opened: Open) -> None:
    """Each way has its own delay, and what has ended is forgotten."""
    client = await opened(CLIENT)
    asked: list[float] = []

    def delay() -> float:
        asked.append(0.05)
        return 0.05

    proxy.delay = delay
    before = asyncio.get_running_loop().time()
    await client.say(b"late")
    assert asyncio.get_running_loop().time() - before >= 0.1
    assert len(asked) == 2


BELL = b">3\r\n$7\r\nmessage\r\n$4\r\nbell\r\n$13\r\ngrant 1\r\n$9\r\n\r\n"
SHARDED = BELL.replace(b"$7\r\nmessage", b"$8\r\nsmessage")
BEFORE, BEHIND = b":1\r\n", b"$3\r\nabc\r\n>3\r\n$9\r\nsubscribe\r\n$4\r\nbell\r\n:1\r\n"


def test_all_but_bells_goes_through() -> None:
    """Those of a cluster's sharded channels are bells too."""
    for bells in (BELL + BELL, SHARDED, SHARDED + BELL, BELL + SHARDED):
        assert without_bells(BEFORE + bells + BEHIND) == (BEFORE + BEHIND, b"")
    assert without_bells(BEFORE + BEHIND) == (BEFORE + BEHIND, b"")


@pytest.mark.parametrize("cut", range(1, len(BEFORE + SHARDED + BELL + BEHIND)))
def test_a_bell_may_come_in_pieces(cut: int) -> None:
    data = BEFORE + SHARDED + BELL + BEHIND
    first, rest = without_bells(data[:cut])
    second, left = without_bells(rest + data[cut:])
    assert (first + second, left) == (BEFORE + BEHIND, b"")
