"""The operator's page, in a real browser, on replicas that are processes with a Redis."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from servers.chromium import Browser, chromium
from servers.paged import HOSTILE, TOKEN, Fleet, live, send, started, until

from ticketlock.redis.embedded import EmbeddedRedis

VIEW = "the night shift's"


@pytest.fixture
def fleet(own_redis: EmbeddedRedis, tmp_path: Path) -> Iterator[Fleet]:
    """`lock_lifetime` so short that a turn is stuck after ten seconds, and long enough to look."""
    section = {"type": "concurrent_redis", "url": own_redis.url}
    tokens = {"admin_token": TOKEN, "view_token": VIEW}
    with started(tmp_path, section, lock_lifetime=20, **tokens) as fleet:
        yield fleet


@pytest.fixture
def patient(own_redis: EmbeddedRedis, tmp_path: Path) -> Iterator[Fleet]:
    """Turns that are slow after 100 seconds, and no token is needed to look."""
    section = {"type": "concurrent_redis", "url": own_redis.url}
    with started(tmp_path, section, lock_lifetime=600, admin_token=TOKEN) as fleet:
        yield fleet


@pytest.fixture
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def hang(fleet: Fleet, token: str | None = None) -> None:
    """A stuck turn at the first replica, two that wait behind it at the other, a normal one."""
    fleet.send(0, HOSTILE, "before", "before")
    until(lambda: fleet.answers, "the first message is not answered")
    fleet.send(0, HOSTILE, "hang", "first")
    url = fleet.replicas[0].url
    until(lambda: live(url, token)["totals"]["held"], "the turn is not held")
    fleet.send(1, HOSTILE, "second", "second")
    until(lambda: live(url, token)["totals"]["waiting"] == 1, "one does not wait")
    fleet.send(1, HOSTILE, "third", "third")
    assert send(fleet.replicas[1].url, "other", "hello", "fourth")[0] == 200
    assert send(fleet.replicas[0].url, "other", "hello", "fourth")[0] == 200  # a duplicate
    assert send(fleet.replicas[0].url, "unlucky", "fail", "fifth")[0] == 500
    until(lambda: live(url, token)["totals"]["waiting"] == 2, "two do not wait")


#: As the page says it: what cannot be seen is spelled out.
SPELLED = HOSTILE.replace("\u202e", "\\u202e").replace("\n", "\\u000a")


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (320, True)])
def test_the_stuck_conversation_is_found_understood_and_broken(
    fleet: Fleet, browser: Browser, width: int, dark: bool
) -> None:
    """By a script that uses roles and labels only, with a mouse or a finger, in any light."""
    hang(fleet, VIEW)
    browser.size(width, 900, phone=width < 400, dark=dark)
    browser.open(fleet.replicas[1].url + "/")
    browser.fill("textbox", "Token", VIEW)
    browser.press("button", "Continue")
    assert browser.element("button", "read only")
    browser.until("document.title === '(1 stuck) ticketlock'")

    browser.press("radio", "Stuck")
    browser.until("location.hash === '#show=stuck'")
    browser.press("button", SPELLED)
    browser.element("dialog", SPELLED)
    pid = fleet.replicas[0].process.pid  # type: ignore[union-attr]  # it runs
    browser.until(f"document.querySelector('dialog').innerText.includes(':{pid} (message first)')")
    assert browser.found("meter", "Used of its lock_lifetime")
    browser.until_read("list", "Waiting (2)", "message second.*message third")
    browser.until_read("list", "Transcript", "User.*before.*Bot.*before")

    browser.press("button", "Break this turn…")
    browser.fill("textbox", "Token", "wrong")
    browser.fill("textbox", "Your name", "Anna")
    browser.press("button", "Break it")
    assert "Enter a reason" in browser.read("alert", "")
    browser.fill("textbox", "Why", "the payment service hangs")
    browser.press("button", "Break it")
    browser.until("document.querySelector('#ask [role=alert]').innerText.includes('not accepted')")
    assert "first" not in fleet.answers
    browser.fill("textbox", "Token", TOKEN)
    browser.press("button", "Break it")
    until(lambda: len(fleet.answers) == 4, "those that waited did not go on")
    assert fleet.answers["first"][0] == 503
    assert fleet.answers["second"] == (200, [{"recipient_id": HOSTILE, "text": "second"}])

    browser.press("button", "Close")
    browser.until_read("list", "What operators did", "Anna.*the payment service hangs")
    assert browser.element("button", "operator: Anna")
    assert "Broken: " in browser.text("#log")
    browser.until("document.title === 'ticketlock'")
    assert "No conversation matches." in browser.text("main")
    # A failed request of ours is a line in the console: without a token, with the wrong one.
    assert [c for c in browser.complaints if "401" not in c] == []
    kept = "Object.keys(localStorage).length + document.cookie.length + document.images.length"
    assert browser.run(kept) == 0
    assert browser.run("document.documentElement.scrollWidth") <= width


def test_a_phone_needs_no_sideways_scrolling(
    patient: Fleet, browser: Browser, tmp_path: Path
) -> None:
    """However long the id, and in a dark room too; pictures for people who want to look."""
    hang(patient)
    patient.send(1, "x" * 255, "hang", "long")
    pictures = Path(os.environ.get("TICKETLOCK_PICTURES") or tmp_path)
    sizes = ((1200, 900, False), (390, 844, True), (320, 700, True))
    for (width, height, phone), dark in product(sizes, (False, True)):
        browser.size(width, height, phone=phone, dark=dark)
        browser.open(f"{patient.replicas[0].url}/?{width}{dark}#show=held")
        browser.element("button", SPELLED)
        browser.element("button", "x" * 255)
        browser.until("document.querySelectorAll('svg .stroke')[1].getAttribute('d').includes('L')")
        assert browser.run("document.documentElement.scrollWidth") <= width
        # A turn that is not slow has no button here; there is one where it is opened.
        assert browser.found("button", re.compile("^Break the turn")) == []
        name = f"page-{width}-{'dark' if dark else 'light'}.png"
        browser.screenshot(pictures / name)
        assert (pictures / name).stat().st_size > 10_000
        browser.press("button", "x" * 255)
        assert browser.element("button", "Break this turn…")
        assert browser.run("document.querySelector('#opened').scrollWidth") <= width
    assert browser.complaints == []


def test_what_went_wrong_and_who_is_gone_can_be_read(patient: Fleet, browser: Browser) -> None:
    """Errors by kind with their texts, never the bot's own; a replica that was killed, with its
    counters; the filter in the address, and back."""
    hang(patient)
    first, second = patient.replicas
    browser.size(1200, 900)
    browser.open(first.url + "/#q=OTHER&sort=id")
    browser.until_read("table", "Errors by kind", r"ConversationError\s+1\s+1")
    errors = browser.read("list", "The last errors")
    assert "unlucky" in errors
    assert "the bot failed: ValueError" in errors
    assert "a secret of the bot" not in browser.text()
    browser.until("document.querySelector('#quiet').innerText === 'No conversation matches.'")
    browser.fill("searchbox", "Search", "ONERROR")
    browser.element("button", SPELLED)
    browser.until("location.hash === '#q=ONERROR&sort=id'")
    browser.press("button", SPELLED)
    browser.element("dialog", SPELLED)
    browser.run("history.back()")
    browser.until("!document.querySelector('#opened').open")
    pid = second.process.pid  # type: ignore[union-attr]  # it runs
    replicas = browser.read("table", "Replicas")
    assert second.url.removeprefix("http://") in replicas
    second.kill()
    # It is known by its name, where it listened, its version, how long it lived, and its counters.
    about = rf"gone\s+127\.0\.0\.1:{second.port} · ticketlock \d[^\n]*was up[^\n]*"
    dead = rf":{pid}{about}\s+\S\s+\S\s+1\s+0"  # what it held and who waited is not known
    browser.until_read("table", "Replicas", dead, 30)


def test_a_redis_that_is_away_is_said(
    own_redis: EmbeddedRedis, patient: Fleet, browser: Browser
) -> None:
    """What is wrong, in words and in the tab's title; and when all is well again, that."""
    browser.size(1200, 900)
    browser.open(patient.replicas[0].url + "/")
    browser.until("document.querySelector('#quiet').innerText.startsWith('No conversation')")
    own_redis.stop()
    browser.until("document.title === 'lock store away - ticketlock'", 30)
    said = browser.text("#problems")
    assert "The lock store has not answered for " in said
    assert str(own_redis.port) in said
    assert browser.text("#quiet").startswith("Not known")
    own_redis.start()
    browser.until("document.title === 'ticketlock'", 30)
    browser.until("document.querySelector('#quiet').innerText.startsWith('No conversation')", 30)
    patient.replicas[0].kill()
    browser.until("document.title === 'no answer - ticketlock'", 30)
    assert "This replica has not answered for " in browser.text("#problems")


def test_all_that_the_filter_shows_is_broken_once_it_is_counted(
    fleet: Fleet, browser: Browser
) -> None:
    """The number is shown and must be typed; what does not match goes on."""
    for i in range(3):
        fleet.send(i % 2, f"group {i}", "hang", f"g{i}")
    fleet.send(0, "alone", "hang", "a")
    url = fleet.replicas[0].url
    until(lambda: live(url, VIEW)["totals"]["held"] == 4, "four are not held")
    assert len(live(url, VIEW, "/live/turns", q="GROUP")["turns"]) == 3
    browser.size(1200, 900)
    browser.open(url + "/#q=group")
    browser.fill("textbox", "Token", TOKEN)
    browser.press("button", "Continue")
    browser.press("button", "Break all 3…")
    assert "3 turns" in browser.read("dialog", re.compile("Break 3 turns"))
    browser.fill("textbox", "Your name", "Anna")
    browser.fill("textbox", "Why", "a test")
    browser.fill("textbox", "Type 3 to confirm", "4")
    browser.press("button", "Break 3")
    assert "Type 3" in browser.read("alert", "")
    assert fleet.answers == {}
    browser.fill("textbox", "Type 3 to confirm", "3")
    browser.press("button", "Break 3")
    until(lambda: len(fleet.answers) == 3, "three are not broken")
    assert {status for status, _ in fleet.answers.values()} == {503}
    assert "a" not in fleet.answers
    browser.until_read("list", "What operators did", "3 of 3 turns broken")
    log = until(lambda: [r.log for r in fleet.replicas if "a test" in r.log], "no audit line")
    assert log[0].count("because: 'a test'") == 3
