"""Takes the pictures of docs/operations/page.md: `make screenshots`, in a minute.

A fleet with a few turns that hang, in a real browser. Look at each picture before it is committed.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from servers.chromium import Browser, chromium
from servers.paged import TOKEN, Fleet, live, send, started, until
from servers.processes import temporary_folder

from ticketlock import Conversations
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.tracker.outbox import DeadLetter

PICTURES = Path(__file__).parents[1] / "docs/operations/images"
USER = "whatsapp:+491701234567"
STUCK = {USER: "Elm Street 4", "telegram:88120417": "hang", "<img src=x onerror=alert(1)>": "hang"}
SLOW = [f"web:session-{name}" for name in ("15b9103b", "42a5ca43", "c939ac6b", "e6cb311e")]

BOT = """
import asyncio, random, socket

socket.gethostname = lambda: "bot"  # the same name wherever the pictures are taken
SAID = {
    "Where is my parcel?": "It is on its way. You have it before noon tomorrow.",
    "Can I change the address?": "Yes. What is the new address?",
}

async def bot(turn, message):
    if message.text in ("hang", "Elm Street 4"):
        await asyncio.Event().wait()
    await asyncio.sleep(random.lognormvariate(-2.5, 0.7))
    if message.text == "fail":
        raise ValueError("not shown")
    yield SAID.get(message.text, "Thank you.")
"""
#: Two windows of a phone side by side.
PHONES = """<body style="margin: 0; display: flex; justify-content: space-between">
<style>img {{ width: 390px; border: 1px solid #8888; border-radius: 16px }}</style>
<img src="data:image/png;base64,{}"><img src="data:image/png;base64,{}">
"""


@contextmanager
def traffic(fleet: Fleet) -> Iterator[None]:
    """Messages of other users, some of which fail, until the block ends."""
    over = threading.Event()

    def users(number: int) -> None:
        chosen = random.Random(number)
        while not over.wait(chosen.uniform(0.1, 0.6)):
            url = fleet.replicas[chosen.randrange(3)].url
            text = "fail" if chosen.random() < 0.03 else "hello"
            send(url, f"web:user-{chosen.randrange(400)}", text, f"{chosen.getrandbits(48):012x}")

    threads = [threading.Thread(target=users, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def totals(fleet: Fleet) -> Any:
    return live(fleet.replicas[0].url)["totals"]


def processes(fleet: Fleet) -> Any:
    return live(fleet.replicas[0].url)["processes"]


def row(fleet: Fleet, conversation: str) -> Any:
    """What the page shows of a conversation; nothing while it is neither held nor waiting."""
    found = live(fleet.replicas[0].url, q=conversation)["conversations"]
    return found and found[0]


def waits(fleet: Fleet, messages: int) -> bool:
    return bool(row(fleet, USER)["waiting"] == messages)


def trouble(fleet: Fleet) -> None:
    """Three stuck turns, messages that wait behind one, four slow turns, a replica that died."""
    for number in range(8):
        send(fleet.replicas[3].url, f"web:user-{number}", "hello", f"before {number}")
    until(lambda: 8 in (p["counters"]["handled"] for p in processes(fleet)), "8 are not reported")
    fleet.replicas[3].kill()
    for number, text in enumerate(("Where is my parcel?", "Can I change the address?")):
        send(fleet.replicas[number].url, USER, text, f"wamid.HBgLND{number}")
    for number, (sender, text) in enumerate(STUCK.items()):
        fleet.send(number, sender, text, f"wamid.HBgLNE{number}")
        until(partial(row, fleet, sender), f"{sender} is not held")
    for number, text in enumerate(("hello?", "are you there?", "please answer")):
        fleet.send(number, USER, text, f"wamid.HBgLNF{number}")
        until(partial(waits, fleet, number + 1), f"{text} does not wait")
    until(lambda: totals(fleet)["slow"] == len(STUCK), "they are not slow", 30)
    for number, sender in enumerate(SLOW):
        fleet.send(number % 3, sender, "hang", f"a11677f3e7c{number}")
    until(lambda: totals(fleet)["stuck"] == len(STUCK), "they are not stuck", 60)


async def dead_letters(folder: Path) -> None:
    """Two events that the broker refused."""
    async with Conversations(None, {"type": "sql", "db": str(folder / "bot.db")}) as conversations:
        outbox = conversations.tracker_store.outbox
        assert outbox is not None
        said = {"event": "bot", "text": "a very long text"}
        why = "message of 1.3 MB is larger than the broker takes (max.message.bytes)"
        await outbox.add_dead_letters([DeadLetter("web:user-17", 0, 3, said, why)])
        await outbox.add_dead_letters([DeadLetter(USER, 0, 4, said, why)])


def phone(browser: Browser, url: str, dark: bool, shown: str) -> str:
    """A picture of a phone's window, as base64."""
    browser.size(390, 844, phone=True, dark=dark)
    browser.open(url)
    browser.until(f"document.body.innerText.includes({json.dumps(shown)})")
    return str(browser.call("Page.captureScreenshot", format="png")["data"])


def take(browser: Browser, fleet: Fleet, redis: EmbeddedRedis) -> None:
    url = fleet.replicas[0].url
    browser.size(1200, 900)
    browser.open(f"{url}/#show=slow")
    browser.press("button", f"Break the turn of {SLOW[0]}")
    browser.fill("textbox", "Token", TOKEN)
    browser.fill("textbox", "Your name", "Anna")
    browser.fill("textbox", "Why", "the payment service does not answer")
    browser.screenshot(PICTURES / "break.webp", whole=False)
    browser.press("button", "Break it")
    browser.until_read("list", "What operators did", "Anna")
    browser.press("radio", "All")
    browser.until("location.hash === ''")
    browser.until_read("table", "Errors by kind", r"LockLost\s+1\s+1")
    browser.until_read("table", "Dead letters", "web:user-17")
    browser.until_read("table", "Replicas", "gone", 30)
    browser.screenshot(PICTURES / "page-light.webp")
    browser.size(1200, 900, dark=True)
    browser.screenshot(PICTURES / "page-dark.webp")
    browser.size(1200, 900)
    browser.press("button", USER)
    browser.until_read("list", "Transcript", "new address")
    browser.screenshot(PICTURES / "conversation.webp", whole=False)

    open_it = f"{url}/?phone#open={USER.replace('+', '%2B')}"
    phones = [
        phone(browser, f"{url}/?", False, USER),
        phone(browser, open_it, True, "new address"),
    ]
    with temporary_folder() as folder:
        page = Path(folder, "phones.html")
        page.write_text(PHONES.format(*phones))
        browser.call("Emulation.setDefaultBackgroundColorOverride", color=dict.fromkeys("rgba", 0))
        browser.size(820, 846)
        browser.open(page.as_uri())
        browser.screenshot(PICTURES / "phones.webp")
        browser.call("Emulation.setDefaultBackgroundColorOverride")

    browser.size(1200, 420)
    browser.open(f"{url}/")
    browser.until("document.querySelector('#conversations').innerText.includes('whatsapp')")
    redis.stop()
    browser.until("document.title.includes('lock store away')", 30)
    browser.screenshot(PICTURES / "away.webp", whole=False)


def main() -> None:
    with EmbeddedRedis() as redis, temporary_folder() as name, chromium() as browser:
        folder = Path(name)
        locks = {"type": "concurrent_redis", "url": redis.url}
        with started(folder, locks, replicas=4, bot=BOT, admin_token=TOKEN) as fleet:
            with traffic(fleet):
                trouble(fleet)
                asyncio.run(dead_letters(folder))
                take(browser, fleet, redis)


if __name__ == "__main__":
    main()
