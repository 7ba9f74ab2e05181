"""Both parsers and both event loops of the server: what is ambiguous, unfinished, or without end."""

from __future__ import annotations

import json
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from servers.bot_server import ENGINES, Replica, replicas
from servers.bot_server import answers as responds
from servers.processes import child, free_port

WEBHOOK = "/webhooks/rest/webhook"
BOT = """
import asyncio

async def bot(turn, message):
    await asyncio.sleep(message.metadata.get("seconds", 0))
    for _ in range(message.metadata.get("long", 0)):
        yield "x" * 60_000
    yield message.text
"""
#: Stored if the server takes the end of an ambiguous request for a request.
SMUGGLED = (
    b"POST /conversations/smuggled/tracker/events HTTP/1.1\r\nHost: localhost\r\n"
    b'Content-Length: 19\r\n\r\n{"event":"restart"}'
)
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
BODY = b'{"message":"hi","sender":"a"}'
CHUNKED = b"Transfer-Encoding: chunked"
LENGTH = b"Content-Length: %d" % len(BODY)
EMPTY = b"0\r\n\r\n"


def post(*lines: bytes, body: bytes = BODY) -> bytes:
    head = [b"POST %s HTTP/1.1" % WEBHOOK.encode(), b"Host: localhost", *lines]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def message(**fields: Any) -> bytes:
    body = json.dumps({"message": "hi", **fields}).encode()
    return post(b"Content-Length: %d" % len(body), body=body)


def folder(path: Path, engine: dict[str, str], **keys: object) -> Path:
    (path / "slow_bot.py").write_text(BOT)
    section = {"drain_timeout": 30, **engine, **keys}
    text = "".join(f"  {key}: {value}\n" for key, value in section.items())
    (path / "endpoints.yml").write_text(f"server:\n{text}")
    return path


@pytest.fixture(scope="module", params=ENGINES.values(), ids=ENGINES)
def engine(request: pytest.FixtureRequest) -> dict[str, str]:
    found: dict[str, str] = request.param
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, engine: dict[str, str]) -> Iterator[Replica]:
    """A server with stores in memory."""
    with replicas(folder(tmp_path_factory.mktemp("bot"), engine), []) as [one]:
        yield one


def connect(server: Replica, sent: bytes = b"") -> socket.socket:
    made = socket.create_connection(("127.0.0.1", server.port), 30)
    made.sendall(sent)
    return made


def answers(server: Replica, sent: bytes, last: bytes = b"") -> list[tuple[int, bytes]]:
    """The statuses and bodies of all answers, until the server hangs up.

    Args:
        last: a request that makes it hang up, if `sent` does not.
    """
    found = []
    with connect(server) as made, made.makefile("rb") as lines:
        try:
            made.sendall(sent + last)
            while first := lines.readline():
                headers = {}
                while line := lines.readline().strip():
                    name, _, value = line.decode().partition(": ")
                    headers[name.lower()] = value
                status = int(first.split()[1])
                if status != 100:
                    found.append((status, lines.read(int(headers.get("content-length", -1)))))
        except (ConnectionResetError, BrokenPipeError):
            pass  # unread bytes discard what was answered
    return found


LAST = HEALTH + b"Connection: close\r\n\r\n"

AMBIGUOUS = {
    "both lengths": post(b"Content-Length: 4", CHUNKED, body=EMPTY + SMUGGLED),
    "both, in the other order": post(CHUNKED, b"Content-Length: 4", body=EMPTY + SMUGGLED),
    "two lengths": post(b"Content-Length: 0", LENGTH, body=SMUGGLED),
    "a list of lengths": post(b"Content-Length: 29, 0", body=BODY + SMUGGLED),
    "a length with a sign": post(b"Content-Length: +29"),
    "a negative length": post(b"Content-Length: -1"),
    "a length with an underscore": post(b"Content-Length: 2_9"),
    "a length of thirty digits": post(b"Content-Length: " + b"9" * 30),
    "an unknown coding": post(b"Transfer-Encoding: xchunked", body=EMPTY + SMUGGLED),
    "chunked is not the last": post(CHUNKED + b", identity", body=EMPTY + SMUGGLED),
    "two codings": post(CHUNKED, b"Transfer-Encoding: identity", body=EMPTY + SMUGGLED),
    "a coding behind a tab": post(b"Transfer-Encoding: \x0bchunked", LENGTH, body=EMPTY + SMUGGLED),
    "space before a colon": post(b"Transfer-Encoding : chunked", LENGTH, body=EMPTY + SMUGGLED),
    "a header in a header, CR": post(b"X: a\rTransfer-Encoding: chunked", LENGTH),
    "a header in a header, LF": post(
        b"X: a\nTransfer-Encoding: chunked", LENGTH, body=EMPTY + SMUGGLED
    ),
    "a zero in a header": post(b"X: a\0b", LENGTH),
    "a header without a colon": post(b"X", LENGTH),
    "no size of a chunk": post(CHUNKED, body=b"zz\r\nabc\r\n" + EMPTY + SMUGGLED),
    "a negative chunk": post(CHUNKED, body=b"-1\r\n" + SMUGGLED),
    "a chunk's size with 0x": post(CHUNKED, body=b"0x1d\r\n" + BODY + b"\r\n" + EMPTY),
    "a chunk that is longer": post(CHUNKED, body=b"1d\r\n" + BODY + b"XX" + EMPTY + SMUGGLED),
    "an extension up to LF": post(CHUNKED, body=b"1d;a\n" + BODY + b"\r\n" + EMPTY + SMUGGLED),
    "chunks of HTTP/1.0": post(CHUNKED, body=EMPTY + SMUGGLED).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    "two hosts": HEALTH + b"Host: evil\r\n\r\n" + SMUGGLED,
    "no host": b"GET /health HTTP/1.1\r\n\r\n" + SMUGGLED,
    "no version": b"GET /health\r\n\r\n" + SMUGGLED,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
    "not ASCII": b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n" + SMUGGLED,
}


@pytest.mark.parametrize("sent", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_what_can_be_read_in_two_ways(server: Replica, sent: bytes) -> None:
    """It is answered 400, and what comes behind it is not read."""
    assert [status for status, _ in answers(server, sent)] == [400]
    stored = httpx.get(f"{server.url}/conversations/smuggled/tracker").json()
    assert stored["events"] == []


ORDINARY = {
    "chunks": post(CHUNKED, body=b"5\r\n" + BODY[:5] + b"\r\n18\r\n" + BODY[5:] + b"\r\n" + EMPTY),
    "an extension": post(CHUNKED, body=b"1d;a=b\r\n" + BODY + b"\r\n" + EMPTY),
    "a trailer": post(CHUNKED, body=b"1d\r\n" + BODY + b"\r\n0\r\nX: y\r\n\r\n"),
    "an upgrade that Java asks for": post(
        b"Connection: Upgrade, HTTP2-Settings", b"UPGRADE: h2c", b"HTTP2-Settings: AAM", LENGTH
    ),
    "100-continue": post(b"Expect: 100-continue", LENGTH),
}  # fmt: skip


@pytest.mark.parametrize("sent", ORDINARY.values(), ids=ORDINARY)
def test_what_is_unusual_is_answered(server: Replica, sent: bytes) -> None:
    """And the connection goes on."""
    said = answers(server, sent, LAST)
    assert [status for status, _ in said] == [200, 200]
    assert json.loads(said[0][1]) == [{"recipient_id": "a", "text": "hi"}]


@pytest.mark.parametrize("sent", ["ordinary", "an upgrade that Java asks for"])
def test_in_single_bytes(server: Replica, sent: str) -> None:
    """A request that comes byte by byte, and the next one behind it."""
    first = {**ORDINARY, "ordinary": post(LENGTH)}[sent]
    with connect(server) as made, made.makefile("rb") as lines:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in first + LAST:
            made.sendall(bytes([byte]))
        assert lines.read().count(b"HTTP/1.1 200") == 2


def test_a_head_that_is_cut_behind_a_request(server: Replica) -> None:
    """Its first part, of any length, comes with the request before."""
    for count in range(1, len(LAST)):
        first = HEALTH + b"\r\n" + LAST[:count]
        with connect(server, first) as made, made.makefile("rb") as lines:
            while lines.readline().strip():
                pass  # the head of the first answer: the server has read the part
            made.settimeout(5)
            made.sendall(LAST[count:])
            assert lines.read().count(b"HTTP/1.1 200") == 1, first


def test_requests_behind_one_are_answered_in_order(server: Replica) -> None:
    """The first takes longest."""
    sent = message(message="0", sender="p0", metadata={"seconds": 0.5})
    sent += b"".join(message(message=str(i), sender=f"p{i}") for i in range(1, 10))
    said = [json.loads(body) for status, body in answers(server, sent, LAST) if status == 200][:-1]
    assert [reply["text"] for [reply] in said] == [str(i) for i in range(10)]


def test_many_requests_behind_one(server: Replica, engine: dict[str, str]) -> None:
    """h11 reads them one by one; httptools, which would make an object of each, refuses them."""
    statuses = [status for status, _ in answers(server, (HEALTH + b"\r\n") * 100, LAST)]
    if engine["http"] == "h11":
        assert statuses == [200] * 101
    else:
        assert len(statuses) < 101
        assert statuses == [200] * (len(statuses) - 1) + [400]


INVALID = {
    "no request": b"BAD\r\n\r\n",
    "TLS": b"\x16\x03\x01" + bytes(50),
    "a negative length": post(b"Content-Length: -1"),
    "no size of a chunk": post(CHUNKED, body=b"zz\r\n"),
}


@pytest.mark.parametrize("behind", INVALID.values(), ids=INVALID)
def test_an_invalid_request_behind_one(server: Replica, behind: bytes) -> None:
    """Each is answered, in order: 400 in place of the first answer would say it was not handled."""
    sent = message(sender="before", metadata={"seconds": 0.5}) + HEALTH + b"\r\n"
    assert [status for status, _ in answers(server, sent + behind)] == [200, 200, 400]


def test_an_invalid_body_of_a_request_that_is_refused(server: Replica) -> None:
    """Its head is answered without reading the body, which is answered 400 first."""
    sent = post(CHUNKED, body=b"zz\r\n").replace(WEBHOOK.encode(), b"/nowhere", 1)
    assert [status for status, _ in answers(server, sent)] == [400]
    assert answers(server, LAST)[0][0] == 200
    assert "Traceback" not in server.log()


def test_an_upgrade_behind_a_request(server: Replica, engine: dict[str, str]) -> None:
    """It is ignored, or refused: with httptools what follows would never be read."""
    sent = HEALTH + b"\r\n" + ORDINARY["an upgrade that Java asks for"]
    statuses = [status for status, _ in answers(server, sent, LAST)]
    assert statuses == ([200, 400] if engine["http"] == "httptools" else [200, 200, 200])


def test_connect(server: Replica, engine: dict[str, str]) -> None:
    """It is no method of a path; the connection does not become a tunnel."""
    sent = HEALTH.replace(b"GET", b"CONNECT") + b"\r\n"
    statuses = [status for status, _ in answers(server, sent, LAST)]
    assert statuses == ([400] if engine["http"] == "httptools" else [405, 200])


def test_a_trailer_that_closes(server: Replica, engine: dict[str, str]) -> None:
    """h11 ignores it; httptools parses no more, so the connection is closed."""
    sent = post(CHUNKED, body=b"1d\r\n" + BODY + b"\r\n0\r\nConnection: close\r\n\r\n")
    statuses = [status for status, _ in answers(server, sent, LAST)]
    assert statuses == ([200] if engine["http"] == "httptools" else [200, 200])


def test_a_client_that_goes_with_a_request_behind_one(server: Replica) -> None:
    """The message is handled, and what cannot be answered is no error."""
    with connect(server, message(sender="gone", metadata={"seconds": 0.5}) + HEALTH + b"\r\n"):
        wait_for_turn(server)
    end = time.monotonic() + 20
    while httpx.get(f"{server.url}/status").json()["turns_running"]:
        assert time.monotonic() < end, "the turn does not end"
        time.sleep(0.05)
    assert httpx.get(f"{server.url}/conversations/gone/tracker").json()["events"]
    assert answers(server, LAST)[0][0] == 200
    assert "Traceback" not in server.log()


def wait_for_turn(server: Replica) -> None:
    end = time.monotonic() + 20
    while httpx.get(f"{server.url}/status").json()["turns_running"] == 0:
        assert time.monotonic() < end, "the turn does not begin"


def memory(server: Replica) -> float:
    """MiB of the process."""
    return float(psutil.Process(server.process.pid).memory_info().rss) / 2**20


def taken(server: Replica, first: bytes, part: bytes, most: int = 64 * 2**20) -> int:
    """How many bytes it takes behind a beginning: until it hangs up, or reads no more for a second."""
    count = 0
    with connect(server, first) as made:
        made.settimeout(1)
        try:
            while count < most:
                count += made.send(part)
        except (TimeoutError, ConnectionError):
            pass
    return count


ENDLESS = {
    "a head": (HEALTH + b"X: ", b"x"),
    "heads": (HEALTH, b"X: y\r\n"),
    "a trailer": (post(CHUNKED, body=b"1d\r\n" + BODY + b"\r\n0\r\nX: "), b"x"),
    "trailers": (post(CHUNKED, body=b"1d\r\n" + BODY + b"\r\n0\r\n"), b"X: y\r\n"),
    "an extension": (post(CHUNKED, body=b"1d;"), b"x"),
    "a head behind a request": (
        message(sender="e1", metadata={"seconds": 8}) + HEALTH + b"X: ",
        b"x",
    ),
    "requests behind one": (message(sender="e2", metadata={"seconds": 8}), HEALTH + b"\r\n"),
}


@pytest.mark.parametrize(("first", "part"), ENDLESS.values(), ids=ENDLESS)
def test_what_has_no_end_is_not_kept(server: Replica, first: bytes, part: bytes) -> None:
    """Some megabytes are taken, most of them by the system's buffers."""
    before = memory(server)
    assert taken(server, first, part * (32 * 1024 // len(part))) < 10 * 2**20
    assert memory(server) - before < 25
    assert answers(server, LAST)[0][0] == 200


def test_an_answer_before_a_large_body(tmp_path: Path, engine: dict[str, str]) -> None:
    """It is the only one: the body is no head that is too large, and the connection goes on."""
    size = 900_000
    sent = post(b"Content-Length: %d" % size, body=b"x" * size)
    with replicas(folder(tmp_path, engine, auth_token="ZmfQx81nLq0vTr5k"), []) as [one]:
        assert [status for status, _ in answers(one, sent, LAST)] == [401, 200]


def test_a_head_without_end_behind_such_a_body(tmp_path: Path, engine: dict[str, str]) -> None:
    """It is refused when it is too large, and not only when the rest of a body would be late."""
    with replicas(folder(tmp_path, engine, auth_token="ZmfQx81nLq0vTr5k"), []) as [one]:
        with connect(one, post(LENGTH, body=BODY[:5])) as made:
            said = b""
            while b'"code":401}' not in said:
                said += made.recv(65536)
            made.sendall(BODY[5:] + HEALTH + b"X: ")
            sent = 0
            while not select.select([made], [], [], 0.001)[0]:
                made.sendall(b"x" * 4096)
                sent += 4096
            assert made.recv(65536).split()[1] in (b"400", b"431")
            assert sent < 1_000_000


def test_a_sender_that_sends_no_more(server: Replica) -> None:
    """A half-closed connection is closed, as uvicorn does; its message is handled."""
    with connect(server, message(sender="half", metadata={"seconds": 0.2})) as made:
        made.shutdown(socket.SHUT_WR)
        assert made.recv(1) == b""
    end = time.monotonic() + 20
    while not httpx.get(f"{server.url}/conversations/half/tracker").json()["events"]:
        assert time.monotonic() < end, "the message of a half-closed connection was dropped"
        time.sleep(0.05)


@pytest.mark.parametrize("signals", [1, 2])
def test_a_stop_while_a_turn_runs(tmp_path: Path, engine: dict[str, str], signals: int) -> None:
    """After a signal it ends in order; a second one cancels it. The process ends with 0."""
    with replicas(folder(tmp_path, engine), []) as [one]:
        seconds = 1 if signals == 1 else 600
        with connect(one, message(metadata={"seconds": seconds})) as made:
            wait_for_turn(one)
            for _ in range(signals):
                one.process.send_signal(signal.SIGTERM)
                time.sleep(0.1)
            with made.makefile("rb") as lines:
                said = lines.read()
        assert said.startswith(b"HTTP/1.1 200" if signals == 1 else b"HTTP/1.1 503"), said
        assert b"connection: close" in said.lower()
        assert one.process.wait(30) == 0
        assert "Traceback" not in one.log()


def test_closed_standard_streams(tmp_path: Path, engine: dict[str, str]) -> None:
    """As a service manager may start it: no socket has the number of one."""
    folder(tmp_path, engine)
    port, log = free_port(), tmp_path / "replica.log"
    command = ["sh", "-c", 'exec "$0" "$@" <&- >&-', sys.executable, "-m", "ticketlock", "run"]
    command += ["--port", str(port), "--bot", "slow_bot:bot", "--endpoints", "endpoints.yml"]
    with child(
        command, lambda: responds(f"http://127.0.0.1:{port}/health"), log, cwd=tmp_path
    ) as made:
        one = Replica(port, made, log)
        assert [status for status, _ in answers(one, message(sender="a"), LAST)] == [200, 200]
        made.send_signal(signal.SIGTERM)
        assert made.wait(30) == 0, one.log()


def test_a_stop_while_a_client_does_not_read(tmp_path: Path, engine: dict[str, str]) -> None:
    """It is cut off after some seconds, which is no error of the server."""
    sent = message(sender="silent", metadata={"long": 100})
    with replicas(folder(tmp_path, engine), []) as [one]:
        with connect(one, sent.replace(b" HTTP", b"?stream=true HTTP", 1)) as made:
            made.recv(1)
            end = time.monotonic() + 20
            while httpx.get(f"{one.url}/status").json()["turns_running"]:
                assert time.monotonic() < end, "the turn does not end"
            one.process.send_signal(signal.SIGTERM)
            assert one.process.wait(30) == 0
        assert "Traceback" not in one.log()
