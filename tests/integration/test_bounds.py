"""What strangers may make a server hold: each bound is hit at its default, on real sockets."""

from __future__ import annotations

import hashlib
import hmac
import json
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from servers.bot_server import ENGINES, Replica, answers, replicas
from servers.processes import child, free_port

WEBHOOK = "/webhooks/rest/webhook"
BOT = """
import asyncio

async def bot(turn, message):
    await asyncio.sleep(message.metadata.get("seconds", 0))
    yield message.text
"""
TOKEN = "token-of-the-tests"


def server_files(folder: Path, **keys: object) -> Path:
    (folder / "slow_bot.py").write_text(BOT)
    section = {"drain_timeout": 0, **keys}
    text = "".join(f"  {key}: {value}\n" for key, value in section.items())
    (folder / "endpoints.yml").write_text(f"server:\n{text}")
    return folder


on_each = pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)


@pytest.fixture
def engine() -> dict[str, str]:
    """The parser and the loop that are the default."""
    return {}


@pytest.fixture
def server(tmp_path: Path, engine: dict[str, str]) -> Iterator[Replica]:
    """An open server, stores in memory, every bound at its default."""
    with replicas(server_files(tmp_path, **engine), []) as [one]:
        yield one


@pytest.fixture
def closed(tmp_path: Path, engine: dict[str, str]) -> Iterator[Replica]:
    """The same with a token."""
    with replicas(server_files(tmp_path, auth_token=TOKEN, **engine), []) as [one]:
        yield one


def connect(server: Replica, sent: bytes = b"") -> socket.socket:
    made = socket.create_connection(("127.0.0.1", server.port), 60)
    made.sendall(sent)
    return made


def request(body: bytes, length: int | None = None, more: str = "") -> bytes:
    length = len(body) if length is None else length
    head = f"POST {WEBHOOK} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{more}\r\n"
    return head.encode() + body


def message(**fields: Any) -> bytes:
    return json.dumps({"message": "hi", **fields}).encode()


def answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an answer; status 0 where the server just hangs up."""
    with connection.makefile("rb") as lines:
        first = lines.readline()
        if not first:
            return 0, {}, b""
        headers = {}
        while line := lines.readline().decode().strip():
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        return int(first.split()[1]), headers, lines.read(int(headers["content-length"]))


def memory(server: Replica) -> float:
    """MiB of the process."""
    return float(psutil.Process(server.process.pid).memory_info().rss) / 2**20


def until(condition: Callable[[], bool], what: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what()
        time.sleep(0.02)


def status(server: Replica) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{server.url}/status", timeout=60).json()
    return found


def test_turns_of_clients_that_are_gone(server: Replica) -> None:
    """2,000 turns run and wait at most; more are answered 503, and are to come again."""
    for number in range(2000):
        body = message(sender=f"s{number}", metadata={"seconds": 3600})
        connect(server, request(body)).close()
    until(lambda: status(server)["turns_running"] == 2000, lambda: status(server))
    found = httpx.post(server.url + WEBHOOK, json={"message": "one more"})
    assert (found.status_code, found.json()["reason"]) == (503, "Overloaded")
    assert found.headers["retry-after"] == "1"
    events = f"{server.url}/conversations/b/tracker/events"
    assert httpx.post(events, json={"event": "restart"}).status_code == 503
    assert answers(f"{server.url}/health")


def test_duplicates_that_wait(server: Replica) -> None:
    """Ten requests of one message wait for its reply; the eleventh is sent away, others not."""
    body = message(sender="anna", message_id="1", metadata={"seconds": 3600})
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(connect(server, request(body)))
        until(lambda: sum(_turns(server)) == 10, lambda: status(server))
        code, headers, said = answer(stack.enter_context(connect(server, request(body))))
        assert (code, json.loads(said)["reason"], headers["retry-after"]) == (429, "QueueFull", "1")
        assert sum(_turns(server)) == 10
        other = {"message": "hi", "sender": "ben", "message_id": "1"}
        assert httpx.post(server.url + WEBHOOK, json=other).status_code == 200


def _turns(server: Replica) -> tuple[int, int]:
    found = status(server)
    return found["turns_running"], found["turns_waiting"]


@on_each
@pytest.mark.quiet
def test_heads_that_do_not_end(server: Replica) -> None:
    """Silent, cut off, dripping, or the second one of a connection: ten seconds are for all."""
    whole = request(message())
    with ExitStack() as stack:
        silent, cut, dripping, second = (
            stack.enter_context(connect(server, sent))
            for sent in (b"", whole[:40], whole[:10], whole)
        )
        assert answer(second)[0] == 200
        second.sendall(whole[:60])
        for byte in whole[10:34]:
            dripping.sendall(bytes([byte]))
            time.sleep(0.5)
            if dripping in _readable(dripping):
                break
        else:
            raise AssertionError("12 s of a head were waited for")
        assert answer(silent)[0] == 0
        for late in (cut, dripping, second):
            code, headers, said = answer(late)
            assert (code, headers["connection"]) == (408, "close")
            assert json.loads(said)["reason"] == "RequestTimeout"
            assert late.recv(1) == b""
    assert answers(f"{server.url}/health")


def _readable(connection: socket.socket) -> list[socket.socket]:
    return select.select([connection], [], [], 0)[0]


@on_each
def test_heads_without_end(server: Replica) -> None:
    """64 KiB of a head, then it is refused."""
    with connect(server, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 80_000) as sent:
        assert answer_line(sent).split()[1] in (b"400", b"431")


def answer_line(connection: socket.socket) -> bytes:
    with connection.makefile("rb") as lines:
        return lines.readline()


@on_each
@pytest.mark.quiet
def test_a_body_that_is_answered_before_its_end(closed: Replica) -> None:
    """A stranger's body is not waited for: 401, and soon the connection is closed."""
    with connect(closed, request(b"{", length=1_000_000)) as sent:
        assert answer(sent)[0] == 401
        assert sent.recv(1) == b""
    with connect(
        closed, b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"
    ) as sent:
        assert answer(sent)[0] == 200
        assert sent.recv(1) == b""
    with connect(closed, request(message())) as sent:  # one that has come does no harm
        assert answer(sent)[0] == 401
        sent.sendall(request(message(), more=f"Authorization: Bearer {TOKEN}\r\n"))
        assert answer(sent)[0] == 200


@on_each
def test_strangers_make_it_hold_nothing(closed: Replica) -> None:
    """600 of them with a megabyte each, unfinished: before, 800 MB."""
    before = memory(closed)
    most = before
    with ExitStack() as stack:
        for _ in range(600):
            made = stack.enter_context(connect(closed))
            made.setblocking(False)
            sent = request(b" " * 1_000_000, length=1_000_001)
            try:
                made.send(sent)
            except OSError:  # it has hung up by now
                continue
            most = max(most, memory(closed))
        assert answers(f"{closed.url}/health")
        most = max(most, memory(closed))
    assert most - before < 150


@on_each
def test_bodies_have_a_budget(server: Replica) -> None:
    """64 MiB of bodies are held; a large one more is sent away, an ordinary message is not."""
    part = b" " * 1_040_000
    with ExitStack() as stack:
        held = [stack.enter_context(connect(server)) for _ in range(70)]
        whole = request(part, length=1_048_576)
        for made in held:
            made.sendall(whole[:900_000])
        httpx.get(f"{server.url}/health")
        server.process.send_signal(signal.SIGSTOP)  # it finds the rest of all of them at once
        for made in held:
            made.sendall(whole[900_000:])
        server.process.send_signal(signal.SIGCONT)
        refused = []
        until(lambda: bool(refused.extend(_readable_of(held)) or refused), lambda: "none refused")
        code, headers, said = answer(refused[0])
        assert (code, json.loads(said)["reason"]) == (503, "Overloaded")
        assert (headers["retry-after"], headers["connection"]) == ("1", "close")
        assert len(refused) <= 7
        found = httpx.post(server.url + WEBHOOK, json={"message": "x" * 10_000})
        assert found.status_code == 200
    until(
        lambda: httpx.post(server.url + WEBHOOK, content=message(message="x" * 65_000)).is_success,
        lambda: "the budget is not given back",
    )


def _readable_of(connections: list[socket.socket], seconds: float = 0.05) -> list[socket.socket]:
    return select.select(connections, [], [], seconds)[0]


def test_a_conversation_of_the_largest_messages(tmp_path: Path) -> None:
    """60 of them, of one sender, are no danger to a replica: before, 26 of 1 MB took 512 MiB."""
    files = server_files(tmp_path)
    with (files / "endpoints.yml").open("a") as file:
        file.write(f"tracker_store:\n  type: sql\n  db: {files}/bot.db\n")
    with replicas(files, []) as [server], httpx.Client(timeout=60) as http:
        before = memory(server)
        for size in (1_000_000, 65_537):
            assert http.post(server.url + WEBHOOK, json={"message": "x" * size}).status_code == 413
        largest = {"message": "x" * 65_536, "metadata": {"k": "x" * 65_500}}
        for _ in range(60):
            assert http.post(server.url + WEBHOOK, json=largest).status_code == 200
        assert memory(server) - before < 300


@on_each
@pytest.mark.slow
def test_connections(tmp_path: Path, engine: dict[str, str]) -> None:
    """4,096 that all have a request in hand: one more gets 503. Idle ones make room."""
    files = server_files(tmp_path, body_timeout=600, head_timeout=600, **engine)
    with ExitStack() as stack:
        [server] = stack.enter_context(replicas(files, []))
        first = stack.enter_context(connect(server, request(message())))
        assert answer(first)[0] == 200  # is kept
        silent = [stack.enter_context(connect(server)) for _ in range(4095)]
        assert answers(f"{server.url}/health")  # in the place of the oldest silent one
        assert silent[0].recv(1) == b""
        first.sendall(request(message()))
        assert answer(first)[0] == 200  # those that said something are kept longer
        for made in [first, *silent]:
            made.close()
        unfinished = request(b"", length=50, more="Expect: 100-continue\r\n")
        busy = [stack.enter_context(connect(server, unfinished)) for _ in range(4096)]
        for made in busy:
            assert made.recv(100).startswith(b"HTTP/1.1 100 ")  # its body is being waited for
        code, headers, said = answer(stack.enter_context(connect(server)))
        assert (code, json.loads(said)["reason"]) == (503, "Overloaded")
        assert (headers["retry-after"], headers["connection"]) == ("1", "close")
        for made in busy:
            made.close()
        until(lambda: answers(f"{server.url}/health"), lambda: "it does not recover")


SIGNED = """
import uvicorn, asyncio, sys
from starlette.responses import JSONResponse
from starlette.routing import Route
from ticketlock import Conversations
from ticketlock.server import create_app
from ticketlock.server.intake import read_signed, signed_by
from ticketlock.server.json_limits import parse


async def hook(request):
    given = request.headers.get("x-signature", "")
    body = await read_signed(request, lambda body: signed_by("the secret", body, given))
    return JSONResponse(parse(body, request.app.settings))


app = create_app(Conversations())
app.routes.append(Route("/webhooks/signed", hook, methods=["POST"]))
uvicorn.run(app, port=int(sys.argv[1]), lifespan="off", log_level="error")
"""


@pytest.fixture
def signing(tmp_path: Path) -> Iterator[int]:
    """The port of a server with a channel whose senders sign their bodies."""
    (tmp_path / "signed.py").write_text(SIGNED)
    port = free_port()
    command = [sys.executable, str(tmp_path / "signed.py"), str(port)]
    with child(command, lambda: answers(f"http://127.0.0.1:{port}/health"), tmp_path / "log"):
        yield port


def signed(body: bytes, secret: bytes = b"the secret", length: int | None = None) -> bytes:
    made = hmac.new(secret, body, hashlib.sha256).hexdigest()
    sent = request(body, length, f"X-Signature: sha256={made}\r\n")
    return sent.replace(WEBHOOK.encode(), b"/webhooks/signed", 1)


@pytest.mark.quiet
def test_signed_bodies(signing: int) -> None:
    """256 KiB, 5 s and 8 MiB of them all, at their defaults; verified before it is parsed."""

    def exchange(sent: bytes) -> tuple[int, dict[str, str], bytes]:
        with socket.create_connection(("127.0.0.1", signing), 60) as made:
            made.sendall(sent)
            return answer(made)

    assert exchange(signed(b'{"a": 1}'))[::2] == (200, b'{"a":1}')
    assert exchange(signed(b'{"a": 1}', b"another"))[0] == 401
    assert exchange(signed(b"no JSON", b"another"))[0] == 401
    assert exchange(signed(b"no JSON"))[0] == 400
    assert exchange(signed(b" " * 262_143 + b"1"))[0] == 200
    assert exchange(signed(b" " * 262_144 + b"1"))[0] == 413
    assert exchange(signed(b"{", length=50))[0] == 408
    with ExitStack() as stack:
        held = []
        for _ in range(45):
            made = socket.create_connection(("127.0.0.1", signing), 60)
            stack.enter_context(made).sendall(signed(b" " * 262_000, length=262_144))
            held.append(made)
        code, headers, said = answer(_readable_of(held, 60)[0])
        assert (code, json.loads(said)["reason"]) == (503, "Overloaded")
        assert headers["retry-after"] == "1"
        assert exchange(signed(b'{"a": 2}'))[0] == 200  # an ordinary one is let in
