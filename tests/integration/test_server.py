"""The bot server as processes: replicas, real Redis, real sockets, signals."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import until
from servers.bot_server import Replica, answers, replicas, write_files

from ticketlock.endpoints.registry import create_tracker_store
from ticketlock.redis.embedded import EmbeddedRedis, free_port


@pytest.fixture(scope="module")
def pair(
    redis_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Replica, Replica]]:
    """Two replicas for tests that leave them as they are; with own conversations."""
    folder = tmp_path_factory.mktemp("pair")
    write_files(folder, redis_server.url, max_waiting=3, request_timeout=5, body_timeout=0.5)
    with replicas(folder, [], []) as (one, two):
        yield one, two


async def send(http: httpx.AsyncClient, to: Replica, text: str, **body: Any) -> httpx.Response:
    sent = {"message": text, "message_id": text, **body}
    return await http.post(f"{to.url}/webhooks/rest/webhook", json=sent)


async def texts(http: httpx.AsyncClient, at: Replica, sender: str) -> list[str]:
    """What was said in a conversation, in the stored order."""
    url = f"{at.url}/conversations/{sender}/tracker?include_events=ALL"
    events = (await http.get(url)).json()["events"]
    return [event["text"] for event in events if "text" in event]


async def begun(http: httpx.AsyncClient, at: Replica, sender: str, waiting: int = 0) -> None:
    """Wait until a turn of the conversation runs, and so many wait for theirs."""
    while True:
        found = (await http.get(f"{at.url}/conversations/{sender}/lock")).json()
        if found["holder"] is not None and found["waiting_count"] == waiting:
            return
        await asyncio.sleep(0.01)


async def runs(http: httpx.AsyncClient, at: Replica) -> None:
    """Wait until a replica has claimed a turn, too: one that is only granted is given back at a stop."""
    while (await http.get(f"{at.url}/status")).json()["turns_running"] == 0:
        await asyncio.sleep(0.01)


def said(*names: str) -> list[str]:
    return [text for name in names for text in (name, f"begun: {name}", f"done: {name}")]


async def test_one_at_a_time_across_replicas(pair: tuple[Replica, Replica]) -> None:
    """Messages to both replicas are answered in the order in which they came."""
    async with httpx.AsyncClient() as http:
        answers = []
        for number in range(4):
            to = pair[number % 2]
            slow = {"seconds": 0.5 if number == 0 else 0}
            job = asyncio.create_task(send(http, to, str(number), sender="fifo", metadata=slow))
            answers.append(job)
            await begun(http, pair[0], "fifo", waiting=number)
        assert [(await answer).status_code for answer in answers] == [200] * 4
        assert await texts(http, pair[1], "fifo") == said("0", "1", "2", "3")


async def test_the_stored_history_is_the_tracker_stores(pair: tuple[Replica, Replica]) -> None:
    """What went over HTTP is what the library reads: no server between."""
    async with httpx.AsyncClient() as http:
        await send(http, pair[0], "a", sender="x/ü")
    db = str(pair[0].folder / "bot.db")
    async with create_tracker_store({"type": "sql", "db": db}) as store:
        tracker = await store.retrieve("x/ü")
        assert tracker is not None
        wires = [event.as_dict() for event in tracker.events]
        assert [wire["text"] for wire in wires if "text" in wire] == said("a")


async def test_a_duplicate_waits_for_the_first_reply(pair: tuple[Replica, Replica]) -> None:
    """At the other replica, while the first is being handled; the bot is called once."""
    async with httpx.AsyncClient() as http:
        slow = {"sender": "twice", "metadata": {"seconds": 0.4}}
        first = asyncio.create_task(send(http, pair[0], "m", **slow))
        await begun(http, pair[0], "twice")
        second = await send(http, pair[1], "m", **slow)
        assert second.json() == (await first).json()
        assert [reply["text"] for reply in second.json()] == ["begun: m", "done: m"]
        assert await texts(http, pair[1], "twice") == said("m")


async def test_reject_across_replicas(pair: tuple[Replica, Replica]) -> None:
    """409 at the other replica, at once."""
    async with httpx.AsyncClient() as http:
        slow = {"sender": "reject", "metadata": {"seconds": 0.4}}
        first = asyncio.create_task(send(http, pair[0], "a", **slow))
        await begun(http, pair[0], "reject")
        second = await send(http, pair[1], "b", sender="reject", double_texting="reject")
        assert (second.status_code, first.done()) == (409, False)
        assert (await first).status_code == 200
        assert await texts(http, pair[0], "reject") == said("a")


async def test_a_flood_is_limited(pair: tuple[Replica, Replica]) -> None:
    """Beyond `max_waiting` of one conversation, at whichever replica: 429 with Retry-After."""
    async with httpx.AsyncClient() as http:
        slow = {"sender": "flood", "metadata": {"seconds": 0.5}}
        first = asyncio.create_task(send(http, pair[0], "first", **slow))
        await begun(http, pair[0], "flood")
        jobs = [send(http, pair[i % 2], str(i), sender="flood") for i in range(10)]
        answered = await asyncio.gather(*jobs)
        assert sorted(answer.status_code for answer in answered) == [200] * 3 + [429] * 7
        assert all("retry-after" in a.headers for a in answered if a.status_code == 429)
        assert (await first).status_code == 200


async def test_a_stream_comes_while_the_turn_runs(pair: tuple[Replica, Replica]) -> None:
    """The first line is here before the bot has said the second one."""
    async with httpx.AsyncClient() as http:
        sent = {"message": "s", "sender": "stream", "metadata": {"seconds": 0.4}}
        url = f"{pair[0].url}/webhooks/rest/webhook?stream=true"
        async with http.stream("POST", url, json=sent) as response:
            lines = response.aiter_lines()
            assert json.loads(await anext(lines))["text"] == "begun: s"
            assert await texts(http, pair[0], "stream") == []  # stored when it has ended
            assert json.loads(await anext(lines))["text"] == "done: s"
            assert [line async for line in lines] == []
        assert await texts(http, pair[0], "stream") == said("s")


async def test_tickets_tell_the_order_across_replicas(pair: tuple[Replica, Replica]) -> None:
    """Each is told at once, before the turns come; a duplicate elsewhere gets none."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient())
        told: list[int] = []
        answers = []
        for number, name in enumerate(("t1", "t2", "t3", "t2")):
            sent = {"message": name, "sender": "tickets", "message_id": name}
            sent["metadata"] = {"seconds": 0.4 if number == 0 else 0}
            url = f"{pair[number % 2].url}/webhooks/rest/webhook?ticket=true"
            answer = await stack.enter_async_context(http.stream("POST", url, json=sent))
            answers.append(answer.aiter_lines())
            told.append(json.loads(await anext(answers[-1]))["ticket"])
        assert told[0] > 0
        assert told == [told[0], told[0] + 1, told[0] + 2, 0]
        assert await texts(http, pair[0], "tickets") == []
        replies = []
        for lines in answers:
            replies.append([json.loads(line)["text"] async for line in lines])
        assert replies[3] == replies[1] == ["begun: t2", "done: t2"]
        assert await texts(http, pair[1], "tickets") == said("t1", "t2", "t3")


async def test_a_client_that_leaves(pair: tuple[Replica, Replica]) -> None:
    """Its message is handled to the end all the same."""
    async with httpx.AsyncClient() as http:
        sent = {"message": "gone", "sender": "leaves", "metadata": {"seconds": 0.3}}
        with socket.create_connection(("127.0.0.1", pair[0].port)) as connection:
            connection.sendall(request(json.dumps(sent).encode()))
            await begun(http, pair[1], "leaves")
        while not (stored := await texts(http, pair[1], "leaves")):
            await asyncio.sleep(0.02)
        assert stored == said("gone")


def request(body: bytes, length: int | None = None) -> bytes:
    """A POST as bytes; `length` is what it announces."""
    head = f"POST /webhooks/rest/webhook HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length or len(body)}"
    return f"{head}\r\n\r\n".encode() + body


def exchange(port: int, sent: bytes) -> bytes:
    """What the server says to these bytes until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(sent)
        answer = b""
        while part := connection.recv(65536):
            answer += part
        return answer


def test_bodies_too_large_or_too_slow(pair: tuple[Replica, Replica]) -> None:
    """413 as soon as the size is announced or passed, 408 for a body that does not come."""
    port = pair[0].port
    for sent in (
        request(b"", length=100 * 1024 * 1024),
        request(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        + b"180000\r\n" + b"x" * 0x180000 + b"\r\n",
    ):  # fmt: skip
        answer = exchange(port, sent)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b'"reason":"ContentTooLarge"' in answer
    assert exchange(port, request(b"{", length=50)).startswith(b"HTTP/1.1 408 ")
    assert answers(f"{pair[0].url}/ready")


def test_schemathesis(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    """Nothing that its cases, good and bad, with and without a token, do to the server is amiss."""
    write_files(
        tmp_path,
        redis_server.url,
        auth_token="of-the-test",
        admin_token="of-the-test",
        request_timeout=5,
    )
    # What goes together in the query and the body of a message is not in its schema.
    (tmp_path / "schemathesis.toml").write_text(
        '[[operations]]\ninclude-name = "POST /webhooks/rest/webhook"\n'
        "[operations.checks]\npositive_data_acceptance.enabled = false\n"
    )
    phases = os.environ.get("TICKETLOCK_SCHEMATHESIS", "fuzzing")  # "coverage,fuzzing": a minute
    program = Path(sys.executable).with_name("schemathesis")
    with replicas(tmp_path, []) as [server]:
        done = subprocess.run(
            [
                program, "run", f"{server.url}/openapi.json", "-H", "Authorization: Bearer of-the-test",
                "--max-examples", "5", "--seed", "1", "--generation-database", "none",
                "--phases", phases, "--no-color",
            ],
            check=False, capture_output=True, text=True, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
        assert "Traceback" not in server.log()


async def test_ready_follows_the_stores(own_redis: EmbeddedRedis, tmp_path: Path) -> None:
    """503 while Redis is away, 200 when it is back; the process lives all the while."""
    write_files(tmp_path, own_redis.url, request_timeout=1)
    with replicas(tmp_path, []) as [server]:
        ready, alive = f"{server.url}/ready", f"{server.url}/health"
        assert answers(ready)
        assert own_redis.process is not None
        own_redis.process.send_signal(signal.SIGSTOP)
        try:
            await until(lambda: not answers(ready), "it is not ready", 15)
            assert answers(alive)
        finally:
            own_redis.process.send_signal(signal.SIGCONT)
        await until(lambda: answers(ready), "it is ready again", 15)


def test_a_store_that_is_away_at_the_start(tmp_path: Path) -> None:
    """The command ends with a status and a text that names the server."""
    port = free_port()
    file = write_files(tmp_path, f"redis://127.0.0.1:{port}/1")
    done = subprocess.run(
        [sys.executable, "-m", "ticketlock", "run", "--port", "0", "--endpoints", str(file)],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 3
    assert f"127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr


class Sender:
    """Sends the messages of one conversation, each again until it is answered.

    Attributes:
        slowest: seconds from a message's first sending to its reply, at most.
        resent: how often a message had to be sent again.
    """

    def __init__(self, name: str, http: httpx.AsyncClient, replicas: list[Replica]) -> None:
        self.name = name
        self._http = http
        self._replicas = replicas
        self._random = random.Random(name)
        self.slowest = 0.0
        self.resent = 0
        self.sent: list[str] = []

    async def run(self, stop: asyncio.Event, at_least: int) -> None:
        while not stop.is_set() or len(self.sent) < at_least:
            text = f"{self.name}-{len(self.sent)}"
            self.sent.append(text)
            since = time.monotonic()
            while not await self._once(text):
                self.resent += 1
                await asyncio.sleep(0.02)
            self.slowest = max(self.slowest, time.monotonic() - since)

    async def _once(self, text: str) -> bool:
        to = self._random.choice(self._replicas)
        slow = {"seconds": self._random.choice((0, 0, 0.02, 0.05))}
        try:
            answer = await send(self._http, to, text, sender=self.name, metadata=slow)
        except httpx.TransportError:
            return False  # it has gone, before or after it was told
        if answer.status_code == 200:
            assert [reply["text"] for reply in answer.json()] == said(text)[1:]
            return True
        assert answer.status_code == 503
        assert answer.json()["reason"] == "Draining"
        assert answer.headers["retry-after"]
        return False


@pytest.mark.quiet  # how long a message takes says little where much else runs
async def test_a_rolling_stop_under_load(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    """One of two replicas is ended by SIGTERM: no message is lost, doubled or out of order."""
    write_files(tmp_path, redis_server.url, drain_timeout=5)
    async with httpx.AsyncClient(timeout=20) as http:
        with replicas(tmp_path, [], []) as (one, two):
            senders = [Sender(f"roll-{i}", http, [one, two]) for i in range(8)]
            stop = asyncio.Event()
            jobs = [asyncio.create_task(sender.run(stop, 8)) for sender in senders]
            await until(lambda: all(len(s.sent) > 3 for s in senders), "traffic", 30)
            one.process.send_signal(signal.SIGTERM)
            await until(lambda: one.process.poll() is not None, "it ends", 30)
            stop.set()
            await asyncio.gather(*jobs)
            assert one.process.returncode == 0, one.log()
            assert "Traceback" not in one.log()
            assert sum(sender.resent for sender in senders) > 0
            assert max(sender.slowest for sender in senders) < 5
            for sender in senders:
                assert await texts(http, two, sender.name) == said(*sender.sent)


async def test_waiters_go_to_another_replica(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    """At SIGTERM a holder ends its turn, a waiter is answered 503 at once and goes elsewhere."""
    write_files(tmp_path, redis_server.url)
    async with httpx.AsyncClient(timeout=20) as http:
        with replicas(tmp_path, [], []) as (one, two):
            slow = {"sender": "hand", "metadata": {"seconds": 1}}
            holder = asyncio.create_task(send(http, one, "a", **slow))
            await runs(http, one)
            named = {"sender": "hand", "message_id": "2"}
            waiter = asyncio.create_task(send(http, one, "b", **named))
            await begun(http, two, "hand", waiting=1)
            one.process.send_signal(signal.SIGTERM)
            refused = await waiter
            assert (refused.status_code, holder.done()) == (503, False)
            late = await send(http, one, "c", sender="other")  # the port is still open
            assert (late.status_code, late.headers["connection"]) == (503, "close")
            assert not answers(f"{one.url}/ready")
            assert (await send(http, two, "b", **named)).status_code == 200
            assert [r["text"] for r in (await holder).json()] == ["begun: a", "done: a"]
            await until(lambda: one.process.poll() is not None, "it ends")
            assert one.process.returncode == 0
            assert await texts(http, two, "hand") == said("a", "b")


@pytest.mark.parametrize("hurried", [False, True], ids=["deadline", "second signal"])
async def test_a_turn_that_does_not_end(
    redis_server: EmbeddedRedis, tmp_path: Path, hurried: bool
) -> None:
    """It is taken back at the deadline, or at a second signal, and the message goes elsewhere."""
    write_files(tmp_path, redis_server.url)
    sender = f"stuck-{hurried}"
    async with httpx.AsyncClient(timeout=20) as http:
        words = ["--drain-timeout", "60" if hurried else "0.2"]
        with replicas(tmp_path, words, []) as (one, two):
            slow = {"sender": sender, "message_id": "1", "metadata": {"seconds": 3}}
            holder = asyncio.create_task(send(http, one, "a", **slow))
            await begun(http, two, sender)
            one.process.send_signal(signal.SIGTERM)
            if hurried:
                await until(lambda: "stopping" in one.log(), "it stops")
                one.process.send_signal(signal.SIGINT)
            assert (await holder).status_code == 503
            await until(lambda: one.process.poll() is not None, "it ends")
            assert one.process.returncode == 0
            again = await send(http, two, "a", sender=sender, message_id="1")
            assert (again.status_code, len(again.json())) == (200, 2)
            assert await texts(http, two, sender) == said("a")
