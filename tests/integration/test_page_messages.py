"""Accepted messages on the operator's page: seen, withdrawn; dead ones resent and dropped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from servers.chromium import Browser, chromium
from servers.paged import TOKEN, Fleet, live, post, started, until

from ticketlock import ConcurrentRedisLockStore, Conversations
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.server import Settings, create_app

#: Markup, a change of the reading direction, a line end.
HOSTILE = "<img src=x onerror=\"document.title='owned'\">\u202e'\n&amp;"
SPELLED = HOSTILE.replace("\u202e", "\\u202e").replace("\n", "\\u000a")


@pytest.fixture
def fleet(own_redis: EmbeddedRedis, tmp_path: Path) -> Iterator[Fleet]:
    section = {"type": "concurrent_redis", "url": own_redis.url}
    with started(tmp_path, section, lock_lifetime=600, admin_token=TOKEN, max_attempts=1) as fleet:
        yield fleet


@pytest.fixture
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def accept(fleet: Fleet, text: str, message_id: str) -> None:
    body = {"sender": HOSTILE, "message": text, "message_id": message_id}
    status, answer = post(f"{fleet.replicas[0].url}/webhooks/rest/webhook?async=true", body)
    assert status == 202, answer


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (320, True)])
def test_messages_are_withdrawn_resent_and_dropped(
    fleet: Fleet, browser: Browser, width: int, dark: bool
) -> None:
    """With a name and a reason, by whoever has the token; texts of messages are not shown."""
    url = fleet.replicas[1].url
    for text, message_id in (("fail", "m1"), ("fail", "m2"), ("hang", "m3")):
        accept(fleet, text, message_id)
    until(lambda: len(live(url)["inbox"]["rows"]) == 2, "no dead letters")
    until(lambda: live(url)["totals"]["held"], "the turn is not held")
    accept(fleet, "a secret", "m4")
    accept(fleet, "the last", HOSTILE)

    browser.size(width, 900, phone=width < 400, dark=dark)
    browser.open(url + "/")
    browser.until("document.querySelector('#given-up').innerText === '2 dead'")
    browser.until("document.querySelector('#accepted').innerText === '3'")
    assert browser.run("document.documentElement.scrollWidth") <= width
    browser.press("button", f"Drop message m2 of {SPELLED}")
    browser.fill("textbox", "Token", TOKEN)
    browser.fill("textbox", "Your name", "Anna")
    browser.press("button", "Drop")
    assert "Enter a reason" in browser.read("alert", "")
    browser.fill("textbox", "Why", "sent by a test")
    browser.press("button", "Drop")
    browser.until("document.querySelector('#given-up').innerText === '1 dead'")

    browser.run(f"openConversation({HOSTILE!r})")
    browser.element("dialog", SPELLED)
    browser.until_read("list", "Waiting (2)", "message m4.*any replica.*message .*img")
    browser.until_read("list", "Dead messages (1)", "message m1.*ValueError")
    assert "a secret" not in browser.text("main") + browser.text("#opened")
    browser.press("button", "Withdraw message m4")
    browser.fill("textbox", "Why", "sent twice")
    browser.press("button", "Withdraw")
    browser.until_read("list", "Waiting (1)", "message .*img")
    browser.press("button", f"Withdraw message {SPELLED}")
    browser.fill("textbox", "Why", "odd")
    browser.press("button", "Withdraw")
    browser.until("document.querySelector('#opened').innerText.includes('No message waits.')")
    browser.press("button", f"Resend message m1 of {SPELLED}")
    browser.fill("textbox", "Why", "the bot is repaired")
    browser.press("button", "Resend")
    browser.until_read("list", "Waiting (1)", "message m1")
    browser.press("button", "Close")
    browser.until_read("list", "What operators did", "resend.*repaired.*withdraw.*drop.*Anna")
    assert [c for c in browser.complaints if "401" not in c] == []
    assert browser.run("document.title") == "ticketlock"
    deeds = [(deed["action"], deed["what"], deed["who"]) for deed in live(url)["audit"]]
    assert deeds == [
        ("resend", "message 'm1': resent", "Anna"),
        ("withdraw", f"message {HOSTILE!r}: withdrawn", "Anna"),
        ("withdraw", "message 'm4': withdrawn", "Anna"),
        ("drop", "message 'm2': dropped", "Anna"),
    ]


async def test_what_a_request_may_do(own_redis: EmbeddedRedis) -> None:
    store = ConcurrentRedisLockStore(url=own_redis.url)
    settings = Settings(admin_token="the operator's")
    async with Conversations(store) as conversations:
        app = create_app(conversations, settings=settings)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://bot") as http:

            async def ask(body: Any, token: str = "the operator's") -> tuple[int, Any]:
                headers = {"authorization": f"Bearer {token}"}
                answer = await http.post("/live/messages", json=body, headers=headers)
                return answer.status_code, answer.json()

            await conversations.submit("c", "x", message_id="1")
            one = {"conversation": "c", "message_id": "1"}
            good = {"action": "withdraw", "messages": [one], "who": "anna", "why": "w"}
            assert (await ask(good, "wrong"))[0] == 401
            for wrong in (
                {"action": "break"}, {"messages": []}, {"messages": [{}]}, {"why": "x" * 501},
                {"messages": [{**one, "kind": "event"}]}, {"messages": [{"conversation": "c"}]},
            ):  # fmt: skip
                assert (await ask({**good, **wrong}))[0] == 400, wrong
            assert len(await conversations.inbox.waiting("c")) == 1
            assert (await ask(good))[1] == {"done": 1, "left": 0, "problem": ""}
            again = (await ask({**good, "action": "resend"}))[1]
            assert (again["done"], again["left"]) == (0, 1)
            assert "it is not a dead letter" in again["problem"]
