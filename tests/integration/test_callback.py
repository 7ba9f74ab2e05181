"""The channel callback: what receivers get, signed and in order, and what dies on the way."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from servers.deliveries import Received, Receiver, RedisBox
from servers.processes import popen

from ticketlock import InvalidSignature, verify_webhook
from ticketlock.deliveries.callback import Callback
from ticketlock.deliveries.sender import Sender
from ticketlock.deliveries.settings import CallbackSettings
from ticketlock.redis.embedded import EmbeddedRedis

OLD = "whsec_dGhlIG9sZCBzZWNyZXQsIDI0IGJ5dGVz"
NEW = "whsec_dGhlIG5ldyBzZWNyZXQsIDI0IGJ5dGVz"

_prefixes = itertools.count(1)


def stored(conversation_id: str, number: int, replies: int = 1) -> str:
    texts = [{"recipient_id": conversation_id, "text": f"{number}.{n}"} for n in range(replies)]
    return json.dumps(
        {"number": number, "message_id": f"m{number}", "to": "callback", "replies": texts,
         "at": 1, "fence": 70 + number}
    )  # fmt: skip


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver().serving() as made:
        yield made


@pytest.fixture
async def box(redis_server: EmbeddedRedis) -> AsyncIterator[RedisBox]:
    async with RedisBox.on(redis_server.url, f"callback{next(_prefixes)}") as made:
        yield made


async def send(box: RedisBox, receiver: Receiver, *texts: str, **keys: Any) -> Sender:
    """Send these of conversation `c` with fitting settings, until nothing is left."""
    settings = CallbackSettings(**{"url": receiver.url, "allow_private": True, **keys})
    sender = Sender(box.store, {"callback": Callback(settings)})
    for text in texts:
        await box.append("c", text)
    sender.due("c")
    while await box.left("c"):
        await asyncio.sleep(0.02)
    await sender.close()
    return sender


async def test_the_documented_receiver(box: RedisBox, receiver: Receiver) -> None:
    """One POST for each reply, which is the object that the REST channel answers with."""
    await send(box, receiver, stored("c", 1, replies=2), stored("c", 2, replies=0), stored("c", 3))
    assert [json.loads(got.body) for got in receiver.received] == [
        {"recipient_id": "c", "text": "1.0"},
        {"recipient_id": "c", "text": "1.1"},
        {"recipient_id": "c", "text": "3.0"},
    ]
    first = receiver.received[0].headers
    assert first["content-type"] == "application/json"
    assert first["ticketlock-conversation"] == "c"
    assert [r.headers["ticketlock-number"] for r in receiver.received] == ["1", "1", "3"]
    assert [r.headers["ticketlock-part"] for r in receiver.received] == ["1/2", "2/2", "1/1"]
    assert "webhook-signature" not in first


async def test_a_turn_in_one_post_signed_with_two_secrets(
    box: RedisBox, receiver: Receiver
) -> None:
    receiver.replies = [500]
    await send(box, receiver, stored("c", 1, replies=2), body="turn", secrets=(OLD, NEW))
    first, second = receiver.received
    for got in (first, second):
        verify_webhook(got.body, got.headers, OLD)
        verify_webhook(got.body, got.headers, NEW)
    with pytest.raises(InvalidSignature):
        verify_webhook(second.body + b" ", second.headers, OLD, NEW)
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    body = json.loads(second.body)
    assert body == {
        "recipient_id": "c", "number": 1, "message_id": "m1", "attempt": 2,
        "idempotency_key": body["idempotency_key"],
        "replies": [{"recipient_id": "c", "text": "1.0"}, {"recipient_id": "c", "text": "1.1"}],
    }  # fmt: skip
    assert second.headers["webhook-id"] == f"{body['idempotency_key']}-1"


async def test_trouble_keeps_the_order(box: RedisBox, receiver: Receiver) -> None:
    """500, a broken answer, a redirect, 429 with a pause, and then the next reply."""
    receiver.replies = [
        500, b"", b"HTTP/1.1 302 X\r\nlocation: /there\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 429 X\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n",
    ]  # fmt: skip
    sender = await send(box, receiver, stored("c", 1), stored("c", 2), max_pause=1.0)
    got = [
        (r.headers["ticketlock-number"], r.headers["ticketlock-attempt"]) for r in receiver.received
    ]
    assert got == [("1", "1"), ("1", "2"), ("1", "3"), ("1", "4"), ("1", "5"), ("2", "1")]
    assert sender.counts.retried == 4


@pytest.mark.parametrize(
    ("status", "tries", "reason"),
    [(404, 1, "answered 404"), (410, 1, "answered 410"), (503, 2, "after 2 tries: answered 503"),
     (307, 2, "after 2 tries: answered 307 (redirects are not followed)")],
)  # fmt: skip
async def test_dead_letters(
    box: RedisBox, receiver: Receiver, status: int, tries: int, reason: str
) -> None:
    receiver.replies = [status] * tries
    await send(box, receiver, stored("c", 1), stored("c", 2), max_tries=2)
    (letter,) = map(json.loads, await box.dead("c"))
    assert (letter["reason"], letter["tries"]) == (reason, tries)
    assert [r.headers["ticketlock-number"] for r in receiver.received] == ["1"] * tries + ["2"]


async def test_secrets_are_in_no_log(
    box: RedisBox, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    receiver.replies = [b"", 404]
    url = receiver.url.replace("//", "//anna:hunter2@") + "?key=sesame"
    await send(box, receiver, stored("c", 1), url=url, secrets=(OLD,))
    (letter,) = await box.dead("c")
    settings = CallbackSettings(url=url, secrets=(OLD,), allow_private=True)
    for text in (caplog.text, letter, repr(settings)):
        for secret in ("hunter2", "sesame", OLD, OLD[6:20]):
            assert secret not in text
    assert "again in" in caplog.text


# -- processes ------------------------------------------------------------------------------------


@contextmanager
def worker(redis: EmbeddedRedis, prefix: str, url: str, *names: str) -> Iterator[Any]:
    script = Path(__file__).parents[1] / "faults" / "delivery_worker.py"
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
    process = popen(
        [sys.executable, str(script), redis.url, prefix, url, *names],
        stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.kill()  # one that is stopped, too
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


def numbers(received: list[Received], name: str) -> list[int]:
    """The numbers of a conversation as they came."""
    return [
        int(r.headers["ticketlock-number"])
        for r in received
        if r.headers["ticketlock-conversation"] == name
    ]


async def until(ready: Any, seconds: float = 30) -> None:
    async def wait() -> None:
        while not ready():
            await asyncio.sleep(0.02)

    await asyncio.wait_for(wait(), seconds)


async def test_one_that_is_stopped_within_a_post(
    redis_server: EmbeddedRedis, receiver: Receiver
) -> None:
    """Another one goes on from there; the first one, once it continues, sends nothing more."""
    prefix = f"callback{next(_prefixes)}"
    inside, go = asyncio.Event(), asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inside.set()
        await go.wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()

    receiver.replies = [200, 200, hold]
    async with RedisBox.on(redis_server.url, prefix) as box:
        for number in range(1, 6):
            await box.append("c", stored("c", number))
        with worker(redis_server, prefix, receiver.url, "c") as first:
            await inside.wait()
            os.kill(first.pid, signal.SIGSTOP)
            with worker(redis_server, prefix, receiver.url, "c"):
                await until(lambda: 5 in numbers(receiver.received, "c"))
                go.set()  # its answer is there when it continues
                os.kill(first.pid, signal.SIGCONT)
                await box.append("c", stored("c", 6))
                await until(lambda: 6 in numbers(receiver.received, "c"))
                while await box.left("c"):
                    await asyncio.sleep(0.02)
    assert numbers(receiver.received, "c") == [1, 2, 3, 3, 4, 5, 6]


@pytest.mark.slow
async def test_processes_that_stop_and_die(redis_server: EmbeddedRedis, receiver: Receiver) -> None:
    """Of 3 processes one is killed and another stopped for longer than its lease, and again:
    each reply arrives, and without repeats in order."""
    prefix, names = f"callback{next(_prefixes)}", [f"c{n}" for n in range(20)]
    dice = random.Random(5)

    async def moody(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.005)
        status = dice.choice([200] * 19 + [503])
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n".encode())

    receiver.replies = [moody] * 100_000
    async with RedisBox.on(redis_server.url, prefix) as box:

        def start() -> Any:
            return worker(redis_server, prefix, receiver.url, *names)

        with start() as one, start() as two, start():

            async def trouble() -> None:
                await asyncio.sleep(0.5)
                os.kill(two.pid, signal.SIGSTOP)
                await asyncio.sleep(0.5)
                one.kill()
                await asyncio.sleep(2.5)
                os.kill(two.pid, signal.SIGCONT)

            task = asyncio.create_task(trouble())
            for number in range(1, 41):
                for name in names:
                    await box.append(name, stored(name, number))
                await asyncio.sleep(0.05)
            await task

            async def settled() -> None:
                while any([await box.left(name) for name in names]):
                    await asyncio.sleep(0.05)

            await asyncio.wait_for(settled(), 40)
    for name in names:
        firsts = list(dict.fromkeys(numbers(receiver.received, name)))
        assert firsts == list(range(1, 41)), name
