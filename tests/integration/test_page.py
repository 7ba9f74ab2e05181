"""The operator's page, in a real browser, on replicas that are processes with a Redis."""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from servers.chromium import Browser, chromium
from servers.replicas import Replica

from ticketlock.embedded import EmbeddedRedis

TOKEN = "the operator's"
#: Markup, a hash tag's end, a change of the reading direction, and a line end.
HOSTILE = "<img src=x onerror=\"document.title='owned'\">{}'\"\u202e`</script>\n&amp;"
#: Holds the turn of a message `hang` until a file is there; echoes the others.
BOT = """
import asyncio, pathlib

async def bot(turn, message):
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


def live(url: str, token: str | None = None) -> Any:
    request = urllib.request.Request(f"{url}/live")
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
    """Two replicas, and messages that are sent beside the test."""

    def __init__(self, folder: Path, lock_store: str, server: str) -> None:
        self.folder = folder
        (folder / "hanging.py").write_text(BOT)
        endpoints = folder / "endpoints.yml"
        endpoints.write_text(
            f"lock_store: {lock_store}\n"
            "tracker_store: {type: sql, db: bot.db}\n"
            "event_broker: {type: file, path: events.log}\n"
            f"server: {server}\n"
        )
        self.replicas = [Replica(endpoints, "--bot", "hanging:bot") for _ in range(2)]
        self.answers: dict[str, tuple[int, Any]] = {}
        self.threads: list[threading.Thread] = []

    def send(self, replica: int, sender: str, text: str, message_id: str) -> None:
        def body() -> None:
            url = self.replicas[replica].url
            self.answers[message_id] = send(url, sender, text, message_id)

        self.threads.append(threading.Thread(target=body))
        self.threads[-1].start()

    def end(self) -> None:
        (self.folder / "go on").touch()
        for thread in self.threads:
            thread.join()
        for replica in self.replicas:
            replica.kill()


@contextmanager
def started(folder: Path, lock_store: dict[str, str], **server: str) -> Iterator[Fleet]:
    """Two replicas that are ready."""
    fleet = Fleet(folder, json.dumps(lock_store), json.dumps(server))
    try:
        for replica in fleet.replicas:
            replica.wait_ready()
        yield fleet
    finally:
        fleet.end()


@pytest.fixture
def fleet(own_redis: EmbeddedRedis, tmp_path: Path) -> Iterator[Fleet]:
    section = {"type": "concurrent_redis", "url": own_redis.url}
    with started(tmp_path, section, admin_token=TOKEN) as fleet:
        yield fleet


@pytest.fixture
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def row(id_part: str) -> str:
    """JavaScript: the row of the first conversation whose id has that part."""
    rows = "[...document.querySelectorAll('#conversations tbody tr')]"
    return f"{rows}.find((r) => r.innerText.includes({json.dumps(id_part)}))"


def hang(fleet: Fleet) -> None:
    """A stuck turn at the first replica, two that wait behind it at the other, a normal one."""
    fleet.send(0, HOSTILE, "hang", "first")
    until(lambda: live(fleet.replicas[0].url)["totals"]["held"], "the turn is not held")
    fleet.send(1, HOSTILE, "second", "second")
    fleet.send(1, HOSTILE, "third", "third")
    assert send(fleet.replicas[1].url, "other", "hello", "fourth")[0] == 200
    assert send(fleet.replicas[0].url, "other", "hello", "fourth")[0] == 200  # a duplicate
    until(lambda: live(fleet.replicas[0].url)["totals"]["waiting"] == 2, "two do not wait")


def test_a_stuck_turn_is_seen_and_broken(fleet: Fleet, browser: Browser, tmp_path: Path) -> None:
    """On the page of either replica, by its button, and nobody but the operator."""
    hang(fleet)
    browser.size(1200, 900)
    browser.open(fleet.replicas[1].url + "/")
    browser.until(row("onerror"))
    assert browser.text("#scope") == "2 replicas"
    browser.until("document.querySelector('#handled').innerText === '1'")
    assert browser.text("#duplicates") == "1"
    pid = fleet.replicas[0].process.pid  # type: ignore[union-attr]  # it runs
    seen = browser.run(row("onerror") + ".innerText")
    assert f":{pid}\nfirst\n" in seen
    # Its own characters, as text; those that cannot be seen are spelled out.
    assert browser.run(row("onerror") + ".querySelector('bdi').textContent") == (
        HOSTILE.replace("\u202e", "\\u202e").replace("\n", "\\u000a")
    )
    assert browser.run("document.title") == "ticketlock"
    assert browser.run("document.images.length") == 0

    browser.run(row("onerror") + ".querySelector('button').id = 'break'")
    browser.click("#break")
    browser.until("document.querySelector('dialog').open")
    browser.type("wrong")
    browser.click("#ask-go")
    browser.until("document.querySelector('#ask-error').innerText.includes('not accepted')")
    assert "first" not in fleet.answers
    browser.type(TOKEN)
    browser.click("#ask-go")
    said = browser.until("document.querySelector('#log li')?.innerText")
    assert "Broken: " in said
    assert "Next: " in said
    until(lambda: len(fleet.answers) == 3, "those that waited did not go on")
    assert fleet.answers["first"][0] == 503
    assert fleet.answers["second"] == (200, [{"recipient_id": HOSTILE, "text": "second"}])
    assert fleet.answers["third"][0] == 200
    browser.until("!document.querySelector('#quiet').hidden")
    # A failed request of ours is a line in the console: the wrong token.
    assert [c for c in browser.complaints if "401" not in c] == []
    browser.complaints.clear()
    assert browser.run("Object.keys(localStorage).length + document.cookie.length") == 0


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_needs_no_sideways_scrolling(
    fleet: Fleet, browser: Browser, tmp_path: Path, dark: bool
) -> None:
    """However long the id, and in a dark room too; pictures for people who want to look."""
    hang(fleet)
    fleet.send(1, "x" * 255, "hang", "long")
    pictures = Path(os.environ.get("TICKETLOCK_PICTURES") or tmp_path)
    for width, height, phone in ((1200, 900, False), (390, 844, True)):
        browser.size(width, height, phone=phone, dark=dark)
        browser.open(fleet.replicas[0].url + "/")
        browser.until(f"{row('xxxx')} && {row('onerror')}")
        browser.until("document.querySelectorAll('svg .stroke')[1].getAttribute('d').includes('L')")
        assert browser.run("document.documentElement.scrollWidth") <= width
        name = f"page-{width}-{'dark' if dark else 'light'}.png"
        browser.screenshot(pictures / name)
        assert (pictures / name).stat().st_size > 10_000
    assert browser.complaints == []
