"""The POST that is bounded: real receivers on 127.0.0.1, most of them with bad manners."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from servers.certificates import Certificates
from servers.deliveries import Flood, Receiver

from ticketlock import ConfigurationError
from ticketlock.deliveries.address import CheckedURL
from ticketlock.deliveries.poster import MOST_READ, Answer, Outgoing, Poster, PostFailed

POSTER = Poster(allow_private=True, timeout=5)


async def post(url: str, poster: Poster = POSTER, headers: Mapping[str, str] = {}) -> Answer:
    outgoing = Outgoing(
        CheckedURL.parse(url), {"content-type": "application/json", **headers}, b'{"a": 1}'
    )
    return await poster.post(outgoing)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


async def test_what_a_receiver_gets() -> None:
    async with Receiver().serving() as receiver:
        answer = await post(receiver.url.replace("//", "//anna:secret@") + "?token=x")
    assert (answer.status, answer.body) == (200, b"ok")
    (got,) = receiver.received
    assert got.target == "POST /bot?token=x HTTP/1.1"
    assert got.body == b'{"a": 1}'
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert got.headers["authorization"] == "Basic YW5uYTpzZWNyZXQ="
    assert got.headers["content-type"] == "application/json"


async def test_a_redirect_is_not_followed() -> None:
    async with Receiver().serving() as receiver:
        place = f"location: {receiver.url}\r\n"
        receiver.replies.append(f"HTTP/1.1 307 X\r\n{place}content-length: 0\r\n\r\n".encode())
        assert (await post(receiver.url)).status == 307
    assert len(receiver.received) == 1


async def test_proxy_variables_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Receiver().serving() as proxy, Receiver().serving() as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert (await post(receiver.url)).status == 200
    assert not proxy.received


async def test_of_a_gigabyte_little_is_read() -> None:
    flood = Flood()
    async with Receiver().serving() as receiver:
        receiver.replies.append(flood)
        answer = await post(receiver.url)
    assert answer.status == 200
    assert len(answer.body) <= MOST_READ
    assert flood.sent < 100 << 20  # what systems buffer, and no more


CLOSED = "it closed the connection before its answer ended"


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (b"", CLOSED),
        (b"HTTP/1.1 200 OK\r\n", CLOSED),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc", CLOSED),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc", CLOSED),
        (b"SSH-2.0\r\n\r\n", "the answer is not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 40_000, "the answer is not valid HTTP"),
    ],
)
async def test_half_an_answer_is_none(start: bytes, says: str) -> None:
    async with Receiver().serving() as receiver:
        receiver.replies.append(start)
        with pytest.raises(PostFailed, match=rf"^http://127.0.0.1:{receiver.port}: {says}"):
            await post(receiver.url)


async def test_answers_before_the_answer_are_bounded() -> None:
    async with Receiver().serving() as receiver:
        receiver.replies.append(b"HTTP/1.1 103 Early\r\n\r\n" * 5000)
        with pytest.raises(PostFailed, match="no status in the first 65536 bytes"):
            await post(receiver.url)
        receiver.replies.append(b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 204 X\r\n\r\n")
        assert (await post(receiver.url)).status == 204


@pytest.mark.parametrize("drops", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n"])
async def test_a_slow_receiver_has_its_time_in_total(drops: bytes) -> None:
    """A byte now and then does not prolong it."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(drops)
        for _ in range(200):
            writer.write(b"x" if drops else b"")
            await asyncio.sleep(0.05)

    async with Receiver().serving() as receiver:
        receiver.replies.append(drip)
        began = time.monotonic()
        with pytest.raises(PostFailed, match=r"no answer within 0.4 s"):
            await post(receiver.url, Poster(allow_private=True, timeout=0.4))
        assert time.monotonic() - began < 5


async def test_nothing_listens_there() -> None:
    async with Receiver().serving() as receiver:
        url = receiver.url
    with pytest.raises(PostFailed) as caught:
        await post(url.replace("//", "//anna:pass@") + "?token=abc")
    assert "pass" not in str(caught.value)
    assert "abc" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_private_addresses_need_permission(host: str) -> None:
    """Names are checked by the addresses that they have."""
    async with Receiver().serving() as receiver:
        url = f"http://{host}:{receiver.port}/bot"
        with pytest.raises(PostFailed, match="allow_private"):
            await post(url, Poster())
        assert (await post(url)).status == 200
    assert len(receiver.received) == 1


async def test_link_local_addresses_are_never_posted_to() -> None:
    for host in ("169.254.169.254", "[fe80::1]"):
        with pytest.raises(PostFailed, match="link-local"):
            await post(f"http://{host}/latest/meta-data")


async def test_the_checked_address_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that changes its address after the check leads nowhere else: it is resolved once."""
    loop, asked = asyncio.get_running_loop(), []

    async def resolve(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        asked.append(host)
        return [(2, 1, 6, "", ("127.0.0.1", port))]

    async with Receiver().serving() as receiver:
        original = loop.getaddrinfo

        async def once(host: str, port: int, **more: object) -> object:
            if host == "hooks.example":
                return await resolve(host, port)
            return await original(host, port, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(loop, "getaddrinfo", once)
        await post(f"http://hooks.example:{receiver.port}/bot")
    assert asked == ["hooks.example"]
    assert receiver.received[0].headers["host"] == f"hooks.example:{receiver.port}"


# -- TLS ------------------------------------------------------------------------------------------


def tls_of(certificates: Certificates, name: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates[f"{name}.pem"], certificates[f"{name}.key"])
    return context


async def test_tls(certificates: Certificates) -> None:
    async with Receiver().serving(tls_of(certificates, "server")) as receiver:
        url = receiver.url.replace("http:", "https:")
        trusting = Poster(allow_private=True, ssl_ca_certs=certificates["ca.pem"])
        assert (await post(url, trusting)).status == 200
        with pytest.raises(PostFailed, match="certificate"):
            await post(url)  # the system's authorities do not know it
    assert len(receiver.received) == 1


@pytest.mark.parametrize("name", ["elsewhere", "expired", "stranger"])
async def test_a_wrong_certificate_gets_nothing(certificates: Certificates, name: str) -> None:
    async with Receiver().serving(tls_of(certificates, name)) as receiver:
        url = receiver.url.replace("http:", "https:")
        with pytest.raises(PostFailed, match="certificate"):
            await post(url, Poster(allow_private=True, ssl_ca_certs=certificates["ca.pem"]))
    assert not receiver.received


@pytest.mark.parametrize(("text", "why"), [(None, "No such file"), ("no PEM", "no certificate")])
def test_a_wrong_file_of_authorities(tmp_path: Path, text: str | None, why: str) -> None:
    path = tmp_path / "ca.pem"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigurationError, match=f"ssl_ca_certs.*{why}"):
        Poster(ssl_ca_certs=str(path))
