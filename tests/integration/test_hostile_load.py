"""What one client asks for does not hold up the others: how many are answered meanwhile, counted.

Counts do not depend on how busy the machine is: what is large and what is small slow down alike.
`python -m benchmarks n` has the times.
"""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from servers.bot_server import Replica, replicas, write_files

from ticketlock.redis.embedded import EmbeddedRedis

BOT = """
import gc

async def bot(turn, message):
    yield f"{gc.get_freeze_count()} {len(gc.get_objects())} {gc.get_threshold()[0]}"
"""

SAID = {
    "event": "user", "text": "hello", "metadata": {}, "message_id": "1", "input_channel": "rest",
    "parse_data": {"intent": {"name": "hello", "confidence": 1.0}, "entities": [], "text": "hello"},
}  # fmt: skip
MANY = json.dumps([SAID] * 1000).encode()
#: Almost a megabyte, with almost as many values as a body may have.
LISTS = json.dumps(
    [{"event": "action", "name": "a", "metadata": {"x": [["x" * 90]] * 2450}}] * 4
).encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: Any, redis_server: EmbeddedRedis) -> Iterator[Replica]:
    """Redis and SQLite, every bound at its default but one: a body has a second."""
    folder: Path = tmp_path_factory.mktemp("server")
    write_files(folder, redis_server.url, body_timeout=1, drain_timeout=0)
    (folder / "slow_bot.py").write_text(BOT)
    with replicas(folder, []) as [one]:
        yield one


def answered_beside(server: Replica, work: Callable[[httpx.Client], Any]) -> int:
    """How often `/health` is answered, one request after the other, while `work` lasts."""
    count = 0
    with (
        ThreadPoolExecutor(1) as thread,
        httpx.Client(base_url=server.url, timeout=60) as busy,
        httpx.Client(base_url=server.url, timeout=60) as other,
    ):
        other.get("/health")
        working = thread.submit(work, busy)
        while not working.done():
            assert other.get("/health").status_code == 200
            count += 1
        working.result()
    return count


@pytest.mark.alone  # how often others are answered depends on the processor that is left to it
@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("body", [MANY, LISTS], ids=["events", "lists"])
def test_others_are_answered_meanwhile(server: Replica, method: str, body: bytes) -> None:
    """A request with as much as one may have leaves others most of the server."""

    def store(http: httpx.Client) -> None:
        for _ in range(3):
            answer = http.request(method, "/conversations/a/tracker/events", content=body)
            assert answer.status_code == 200, answer.text[:300]

    assert answered_beside(server, store) >= 250


def test_others_are_answered_while_a_long_history_is_read(server: Replica) -> None:
    """All of it is read, in slices."""
    with httpx.Client(base_url=server.url, timeout=60) as http:
        for _ in range(12):
            http.post("/conversations/long/tracker/events", content=MANY).raise_for_status()

    for path in ("tracker?include_events=ALL", "story?all_sessions=true"):

        def read(http: httpx.Client, path: str = path) -> None:
            assert http.get(f"/conversations/long/{path}").text.count("hello") >= 12_000

        assert answered_beside(server, read) >= 30


def test_bodies_are_given_up_one_by_one(server: Replica) -> None:
    """400 that end at the same moment, unfinished: others are answered between them."""
    head = (
        b"POST /webhooks/rest/webhook HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999\r\n\r\n"
    )
    between = 0
    with ExitStack() as stack:
        waiting = set()
        for _ in range(400):
            made = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 60))
            made.sendall(head)
            waiting.add(made)
        other = stack.enter_context(httpx.Client(base_url=server.url, timeout=60))
        while waiting:
            over = select.select(list(waiting), [], [], 0)[0]
            for made in over:
                assert made.recv(12) == b"HTTP/1.1 408"
            waiting.difference_update(over)
            assert other.get("/health").status_code == 200
            between += 0 < len(waiting) < 400
    assert between >= 100


def test_garbage_is_not_looked_for_in_what_stays(server: Replica) -> None:
    """To look through all modules and classes holds up everybody for 50 ms each time."""
    said = httpx.post(f"{server.url}/webhooks/rest/webhook", json={"message": "hi"}).json()
    stays, looked_at, threshold = map(int, said[0]["text"].split())
    assert stays > 10_000
    assert stays > looked_at
    assert threshold == 10_000
