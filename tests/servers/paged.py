"""A fleet of replicas with turns that hang, for tests that look at the operator's page."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .replicas import Replica

TOKEN = "the operator's"
#: Markup, a hash tag's end, a change of the reading direction, and a line end.
HOSTILE = "<img src=x onerror=\"document.title='owned'\">{}'\"\u202e`</script>\n&amp;"
#: Holds the turn of a message `hang` until a file is there, one of `for ever` to the end, fails with
#: `fail`, and echoes the others.
BOT = """
import asyncio, pathlib

async def bot(turn, message):
    if message.text == "for ever":
        await asyncio.Event().wait()
    if message.text == "fail":
        raise ValueError("a secret of the bot")
    while message.text == "hang" and not pathlib.Path("go on").exists():
        await asyncio.sleep(0.02)
    yield message.text
"""


def send(url: str, sender: str, text: str, message_id: str) -> tuple[int, Any]:
    body = {"sender": sender, "message": text, "message_id": message_id}
    return post(f"{url}/webhooks/rest/webhook", body)


def post(url: str, body: Any, token: str | None = None) -> tuple[int, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), method="POST")
    request.add_header("Content-Type", "application/json")
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    return _answer(request)


def live(url: str, token: str | None = None, path: str = "/live", **query: Any) -> Any:
    """What a GET of the page's answers."""
    request = urllib.request.Request(f"{url}{path}?{urllib.parse.urlencode(query)}")
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    return _answer(request)[1]


def _answer(request: urllib.request.Request) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def until(condition: Any, what: str, seconds: float = 15) -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, what
        time.sleep(0.05)
    return value


class Fleet:
    """Replicas of a bot, and messages that are sent beside the test."""

    def __init__(
        self, folder: Path, lock_store: str, server: str, replicas: int = 2, bot: str = BOT
    ) -> None:
        self.folder = folder
        (folder / "hanging.py").write_text(bot)
        endpoints = folder / "endpoints.yml"
        endpoints.write_text(
            f"lock_store: {lock_store}\n"
            "tracker_store: {type: sql, db: bot.db}\n"
            "event_broker: {type: file, path: events.log}\n"
            f"server: {server}\n"
        )
        self.replicas = [Replica(endpoints, "--bot", "hanging:bot") for _ in range(replicas)]
        self.answers: dict[str, tuple[int, Any]] = {}
        self.threads: list[threading.Thread] = []

    def send(self, replica: int, sender: str, text: str, message_id: str) -> None:
        def body() -> None:
            url = self.replicas[replica].url
            try:
                self.answers[message_id] = send(url, sender, text, message_id)
            except OSError as error:  # the replica was killed
                self.answers[message_id] = (0, str(error))

        self.threads.append(threading.Thread(target=body))
        self.threads[-1].start()

    def end(self) -> None:
        (self.folder / "go on").touch()
        for thread in self.threads:
            thread.join()
        for replica in self.replicas:
            replica.kill()


@contextmanager
def started(
    folder: Path, lock_store: dict[str, str], *, replicas: int = 2, bot: str = BOT, **server: Any
) -> Iterator[Fleet]:
    """Replicas that are ready."""
    fleet = Fleet(folder, json.dumps(lock_store), json.dumps(server), replicas, bot)
    try:
        for replica in fleet.replicas:
            replica.wait_ready()
        yield fleet
    finally:
        fleet.end()
