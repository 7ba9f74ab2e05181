"""One bounded HTTP POST: to a checked address, with no redirects, proxies or kept connections."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import h11

from ..errors import ConfigurationError, TicketLockError
from .address import CheckedURL, allowed

T = TypeVar("T")

#: Bytes of an answer that are read, with its head, unless a poster sets its own limit.
MOST_READ = 64 * 1024
_HEAD = 16 * 1024
#: Addresses of a host that are tried.
_ADDRESSES = 3


class PostFailed(TicketLockError):
    """A POST got no answer; the text says why, without path, query and credentials.

    Attributes:
        unsent: whether it is certain that nothing of it was sent, and may be sent at another time.
    """

    def __init__(self, text: str, unsent: bool = False) -> None:
        self.unsent = unsent
        super().__init__(text, unsent)

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class Outgoing:
    """A request to be posted. What may be secret is not in its repr."""

    url: CheckedURL
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class Answer:
    """The answer to a POST.

    Attributes:
        headers: by names in lower case.
        body: as much of it as the poster reads.
        whole: whether that is all of it.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    whole: bool = True


class Poster:
    """Posts to URLs of a configuration.

    Args:
        allow_private: whether loopback and private addresses may be posted to. Link-local ones,
            where clouds hand out credentials, never are.
        ssl_ca_certs: authorities to trust, a PEM file; default: the system's.
        timeout: seconds for all of a POST: from the resolution of the name to the answer's end.
        most_read: bytes of an answer that are read, with its head; the rest is left.
        context: for TLS, instead of `ssl_ca_certs`.

    Raises ConfigurationError if the file of authorities cannot be read.
    """

    def __init__(
        self,
        *,
        allow_private: bool = False,
        ssl_ca_certs: str | None = None,
        timeout: float = 10.0,
        most_read: int = MOST_READ,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.timeout = timeout
        self._private = allow_private
        self._most_read = most_read
        self._context = context if ssl_ca_certs is None else _trusting(ssl_ca_certs)

    async def post(self, outgoing: Outgoing) -> Answer:
        """Post it once. Raises PostFailed."""
        connected: list[bool] = []
        return await self._bounded(outgoing.url, self._post(outgoing, connected), connected)

    async def reach(self, url: CheckedURL) -> None:
        """Connect, and send nothing. Raises PostFailed."""
        _, writer = await self._bounded(url, self._connect(url), [])
        writer.transport.abort()

    async def _bounded(self, url: CheckedURL, work: Awaitable[T], connected: list[bool]) -> T:
        try:
            return await asyncio.wait_for(work, self.timeout)
        except asyncio.TimeoutError:  # not yet TimeoutError in Python 3.10
            text = f"{url}: no answer within {self.timeout:g} s"
            raise PostFailed(text, not connected) from None
        except h11.RemoteProtocolError as error:
            raise PostFailed(f"{url}: the answer is not valid HTTP: {error}") from None
        except ssl.SSLCertVerificationError as error:
            text = f"{url}: its certificate: {error.verify_message}"
            raise PostFailed(text, not connected) from None
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise PostFailed(f"{url}: {why}", not connected) from None

    async def _post(self, outgoing: Outgoing, connected: list[bool]) -> Answer:
        """Post it; `connected` has an item as soon as something may have been sent."""
        reader, writer = await self._connect(outgoing.url)
        connected.append(True)
        try:
            return await _exchange(outgoing, reader, writer, self._most_read)
        finally:
            # Not closed in order: a receiver that does not read or close would be waited for.
            writer.transport.abort()

    async def _connect(self, url: CheckedURL) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Resolve the name once, check, and connect to what was checked."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
        usable = [a for a in addresses if allowed(a, private=self._private)][:_ADDRESSES]
        if not usable:
            raise PostFailed(
                f"{url}: its address is private or link-local; allow_private permits private ones",
                unsent=True,
            )
        end = time.monotonic() + self.timeout
        for left, address in zip(range(len(usable), 0, -1), usable, strict=True):
            try:
                # Each address gets its share of the time.
                return await asyncio.wait_for(
                    asyncio.open_connection(
                        address, url.port, limit=_HEAD,
                        ssl=self._tls() if url.tls else None,
                        server_hostname=url.host if url.tls else None,
                    ),
                    max(0.1, (end - time.monotonic()) / left),
                )  # fmt: skip
            except (OSError, asyncio.TimeoutError):
                if left == 1:
                    raise
        raise AssertionError("the last address connects or raises")

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = ssl.create_default_context()  # milliseconds: not for plain HTTP
        return self._context


def _trusting(path: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=path)
    except OSError as error:  # ssl.SSLError among them
        why = "has no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigurationError(f"ssl_ca_certs: {path}: {why}") from None


async def _exchange(
    outgoing: Outgoing, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most: int
) -> Answer:
    url, wire = outgoing.url, h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD)
    headers = {
        "host": url.authority,
        "content-length": str(len(outgoing.body)),
        "connection": "close",
        "user-agent": "ticketlock",
        **({"authorization": url.authorization} if url.authorization else {}),
        **{name.lower(): value for name, value in outgoing.headers.items()},
    }
    request = h11.Request(method="POST", target=url.target, headers=[*headers.items()])
    for event in (request, h11.Data(data=outgoing.body), h11.EndOfMessage()):
        writer.write(wire.send(event) or b"")
    # A receiver may answer before it has read everything: both at once, or neither would end.
    sending = asyncio.ensure_future(writer.drain())
    try:
        return await _answer(url, wire, reader, most)
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def _answer(
    url: CheckedURL, wire: h11.Connection, reader: asyncio.StreamReader, most: int
) -> Answer:
    status, headers, body, read, whole, data = 0, {}, bytearray(), 0, True, b"-"
    while True:
        try:
            event = wire.next_event()
        except h11.RemoteProtocolError:
            if data:
                raise
            raise PostFailed(f"{url}: it closed the connection before its answer ended") from None
        if event is h11.NEED_DATA:
            if read >= most:
                whole = False
                break
            data = await reader.read(min(_HEAD, most - read))
            read += len(data)
            wire.receive_data(data)
        elif isinstance(event, h11.Response):
            status = event.status_code
            headers = {name.decode("latin-1"): v.decode("latin-1") for name, v in event.headers}
        elif isinstance(event, h11.Data):
            body += event.data
        elif not isinstance(event, h11.InformationalResponse):
            break  # the end
    if not status:
        raise PostFailed(f"{url}: no status in the first {read} bytes of its answer")
    return Answer(status, headers, bytes(body), whole)
