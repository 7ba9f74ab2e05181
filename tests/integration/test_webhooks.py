"""Slack, Telegram and WhatsApp: platforms that want an answer at once, and send again."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from servers.examples import EXAMPLES, environment
from servers.platforms import SECRET, Platform, Slack, Telegram, WhatsApp
from servers.processes import child, free_port

from ticketlock import ConcurrentRedisLockStore, Conversations
from ticketlock.redis.embedded import EmbeddedRedis

PLATFORMS: dict[str, tuple[type[Platform], str]] = {
    "slack": (Slack, "slack_bot"),
    "telegram": (Telegram, "telegram_bot"),
    "whatsapp": (WhatsApp, "whatsapp_bot"),
}
VARIABLES = {
    "SLACK_BOT_TOKEN": "xoxb-1",
    "SLACK_SIGNING_SECRET": SECRET,
    "TELEGRAM_TOKEN": "42:token",
    "TELEGRAM_SECRET": SECRET,
    "WHATSAPP_ACCESS_TOKEN": "token",
    "WHATSAPP_APP_SECRET": SECRET,
    "WHATSAPP_VERIFY_TOKEN": "verify",
}
TESTS = Path(__file__).parents[1]


class Bots:
    """Two replicas of an example, and the platform that they serve."""

    def __init__(self, platform: Platform, folder: Path, redis: EmbeddedRedis) -> None:
        self.platform = platform
        self.folder = folder
        self.redis = redis
        self.ports = [free_port(), free_port()]
        self.urls = [f"http://127.0.0.1:{port}" for port in self.ports]
        self.pids: list[int] = []
        self.log = folder / "replicas.log"

    def deliver(self, text: str, replica: int = 0) -> httpx.Response:
        return self.platform.deliver(self.urls[replica], text)

    def chat(self, name: str) -> list[str]:
        """Begin another chat; the replies in it."""
        self.platform.chat = name
        self.platform.said = []
        self.platform.gate.set()
        return self.platform.said

    def history(self) -> list[str]:
        """The texts that are stored of the chat."""
        tracker = {"type": "sql", "db": str(self.folder / "bot.db")}
        with Conversations(None, tracker).sync() as conversations:
            found = conversations.retrieve(self.platform.conversation)
        events = [] if found is None else [event.as_dict() for event in found.events]
        return [event["text"] for event in events if event["event"] in ("user", "bot")]


def until(condition: Callable[[], object], what: str, seconds: float = 20) -> None:
    """Wait for a condition, never for a duration."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.01)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module", params=PLATFORMS)
def bots(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bots]:
    """Two replicas and a Redis of their own, for each platform in turn."""
    kind, name = PLATFORMS[request.param]
    with EmbeddedRedis() as redis:
        made = Bots(kind("1"), tmp_path_factory.mktemp(request.param), redis)
        with running(made, name):
            yield made


@contextmanager
def running(made: Bots, name: str) -> Iterator[None]:
    """The replicas, and their platform's API."""
    with made.platform.serving():
        words = [name, made.platform.url, *map(str, made.ports)]
        command = [sys.executable, "-m", "servers.webhook_app", *words]
        variables = environment(made.redis, PYTHONPATH=f"{TESTS}:{EXAMPLES}", **VARIABLES)

        def ready() -> bool:
            return all(map(listens, made.ports))

        with child(command, ready, made.log, cwd=made.folder, env=variables) as launcher:
            children = psutil.Process(launcher.pid).children()
            children.sort(key=psutil.Process.create_time)
            made.pids = [replica.pid for replica in children]
            yield
        for replica in children:
            if replica.is_running():  # it had time to end by itself
                replica.kill()


def test_in_order_and_once(bots: Bots) -> None:
    """Messages are answered with 200 while the bot is busy, and handled in order, each once.

    Each comes again, at the other replica, as if the first 200 had got lost.
    """
    said = bots.chat("100")
    bots.platform.gate.clear()
    for number in range(6):
        assert bots.deliver(f"text {number}", number % 2).status_code == 200
        assert bots.deliver(f"text {number}", 1 - number % 2).status_code == 200
    until(lambda: said, "the first reply")
    assert said == ["message 1: text 0"]
    bots.platform.gate.set()
    until(lambda: len(said) >= 6, "all replies")
    assert bots.deliver("text 0", 1).status_code == 200  # late, and still known
    assert bots.deliver("the last", 0).status_code == 200
    until(lambda: len(said) >= 7 and len(bots.history()) >= 14, "the last reply")
    texts = [*(f"text {number}" for number in range(6)), "the last"]
    assert said == [f"message {number + 1}: {text}" for number, text in enumerate(texts)]
    pairs = zip(texts, said, strict=True)
    assert bots.history() == [text for pair in pairs for text in pair]


def test_signatures(bots: Bots) -> None:
    """What the platform has not signed is refused, and takes no place."""
    said = bots.chat("200")
    signed = bots.platform.signature(bots.platform.body("text"))
    (name,) = (key for key in signed if "Signature" in key or "Token" in key)
    forged = signed[name][:-1] + ("0" if signed[name][-1] != "0" else "1")
    for signature in ({**signed, name: forged}, {}):
        answer = bots.platform.deliver(bots.urls[0], "text", signature)
        assert answer.status_code in (401, 403)
    assert bots.deliver("signed").status_code == 200
    until(lambda: said, "a reply")
    assert said == ["message 1: signed"]


async def test_a_full_queue(bots: Bots, run: Callable[..., None]) -> None:
    """A message that gets no place is refused, and handled when the platform sends it again."""
    said = bots.chat("300")
    async with ConcurrentRedisLockStore(url=bots.redis.url) as store:
        locks = [store.lock(bots.platform.conversation) for _ in range(101)]
        await asyncio.gather(*(lock.queue() for lock in locks))
        answer = await asyncio.to_thread(bots.deliver, "too many", 1)
        assert answer.status_code >= 500
        for lock in locks:
            lock.withdraw()
    assert bots.deliver("too many").status_code == 200
    until(lambda: said, "the reply to what was sent again")
    assert said == ["message 1: too many"]


def test_redis_away(bots: Bots) -> None:
    """A message without a place is not answered with 200, and comes again, to be handled once."""
    said = bots.chat("350")
    bots.redis.stop()
    with pytest.raises(httpx.ReadTimeout):
        bots.deliver("a")
    bots.redis.start()
    for replica in (0, 1):
        assert bots.deliver("a", replica).status_code == 200
        assert bots.deliver("b", replica).status_code == 200
    until(lambda: len(said) >= 2 and len(bots.history()) == 4, "the replies")
    assert said == ["message 1: a", "message 2: b"]


@pytest.mark.parametrize("bots", ["whatsapp"], indirect=True)
def test_subscribing(bots: Bots) -> None:
    """Meta's question whether the webhook is ours is answered, if it knows the token."""
    for token, answer in (("verify", (200, "42")), ("guess", (403, '{"detail":"Forbidden"}'))):
        asked = {"hub.mode": "subscribe", "hub.verify_token": token, "hub.challenge": "42"}
        got = httpx.get(bots.urls[0] + "/whatsapp", params=asked)
        assert (got.status_code, got.text) == answer


@pytest.mark.parametrize("bots", ["whatsapp"], indirect=True)
def test_a_killed_replica(bots: Bots) -> None:
    """What a killed replica has begun is handled by the one that a retry has reached.

    The reply is sent again, as nobody can know whether it was; the history has it once.
    """
    said = bots.chat("400")
    bots.platform.gate.clear()
    assert bots.deliver("a", 0).status_code == 200
    until(lambda: said, "the first reply")
    assert bots.deliver("a", 1).status_code == 200
    os.kill(bots.pids[0], signal.SIGKILL)
    bots.platform.gate.set()
    until(lambda: len(said) == 2 and bots.history(), "the second reply")
    assert said == ["message 1: a"] * 2
    assert bots.history() == ["a", "message 1: a"]


def test_a_stopped_replica(bots: Bots) -> None:
    """SIGTERM: it takes no more messages, and does first what it has answered for."""
    said = bots.chat("500")
    bots.platform.gate.clear()
    assert bots.deliver("a", 1).status_code == 200
    assert bots.deliver("b", 1).status_code == 200
    until(lambda: said, "the first reply")
    os.kill(bots.pids[1], signal.SIGTERM)
    until(lambda: not listens(bots.ports[1]), "the port is closed")
    with pytest.raises(psutil.TimeoutExpired):  # it does not end before its turns
        psutil.Process(bots.pids[1]).wait(1.5)
    bots.platform.gate.set()
    until(lambda: f"{bots.pids[1]} ended with" in bots.log.read_text(), "its end")
    assert said == ["message 1: a", "message 2: b"]
    assert bots.history() == ["a", said[0], "b", said[1]]
