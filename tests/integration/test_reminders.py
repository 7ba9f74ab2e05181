"""Reminders of replicas that are killed, stopped, rolled or away: each fires once, or as it should."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest
from integration.test_inbox import accept, outcome
from servers import versions
from servers.bot_server import Replica, replicas, write_files
from servers.inboxes import until
from servers.reminding import id_of, reminder

from ticketlock import Conversations
from ticketlock.redis.embedded import EmbeddedRedis

#: A bot that schedules what its message says, as JSON, and answers to what fires. Where the folder
#: has a file `KILL-<place>` or `STOP-<place>`, the first process that comes there dies or stops.
BOT = """
import json, os, signal, time

from ticketlock.events.event import Event


def trouble(place):
    for name in ("KILL", "STOP"):
        try:
            os.unlink(f"{name}-{place}")
        except FileNotFoundError:
            continue
        os.kill(os.getpid(), getattr(signal, f"SIG{name}"))


try:
    from ticketlock.server import reminders
except ImportError:  # 0.5.0
    pass
else:
    class Commits(reminders._Commits):
        async def before(self, events):
            if self.own.startswith("reminder:"):
                trouble("before-the-end-of-its-turn")
            await super().before(events)
            trouble("between-put-and-commit")

        async def after(self):
            trouble("between-commit-and-end")
            await super().after()

    reminders._Commits = Commits


async def bot(turn, message):
    if message.text.startswith("EXTERNAL: "):
        trouble("in-its-turn")
        yield f"fired: {message.text}"
        return
    for event in json.loads(message.text):
        if message.attempt > 1:  # at another moment, so that it is another reminder
            event["timestamp"] = time.time()
        turn.add(Event.from_dict(event))
    yield "done"
"""
PLACES = (
    "between-put-and-commit", "between-commit-and-end", "in-its-turn", "before-the-end-of-its-turn",
)  # fmt: skip


def write(folder: Path, redis_url: str, **server: object) -> None:
    write_files(folder, redis_url, **server)
    (folder / "slow_bot.py").write_text(BOT)


async def schedule(
    http: httpx.AsyncClient, at: Replica, sender: str, events: list[dict[str, Any]]
) -> dict[str, Any]:
    """Have the bot add these events in an accepted message; the body of the 202."""
    text, made = json.dumps(events), uuid.uuid4().hex
    return await accept(http, at, sender, text, message_id=made)


async def history(http: httpx.AsyncClient, at: Replica, sender: str) -> list[dict[str, Any]]:
    url = f"{at.url}/conversations/{sender}/tracker?include_events=ALL"
    events: list[dict[str, Any]] = (await http.get(url)).json()["events"]
    return events


def fired(events: list[dict[str, Any]]) -> list[str]:
    """The intents that have fired, in order."""
    return [str(e["text"])[10:] for e in events if str(e.get("text")).startswith("EXTERNAL: ")]


async def all_fired(
    http: httpx.AsyncClient, at: Replica, sender: str, *intents: str, seconds: float = 30
) -> list[dict[str, Any]]:
    """The history once as many have fired; then nothing more waits to be due or handled."""
    events: list[dict[str, Any]] = []

    async def there() -> bool:
        nonlocal events
        events = await history(http, at, sender)
        return len(fired(events)) >= len(intents) and not await left(at.folder, sender)

    await until(there, seconds)
    events = await history(http, at, sender)
    assert sorted(fired(events)) == sorted(intents)
    return events


async def left(folder: Path, sender: str) -> list[str]:
    """The ids of what waits in a conversation until it is due, or handled."""
    async with Conversations.from_endpoints(folder / "endpoints.yml") as conversations:
        inbox = conversations.inbox
        found = [*await inbox.due(sender), *await inbox.waiting(sender)]
        return [one.message_id for one in found]


async def command(folder: Path, *words: str, env: Any = None) -> Any:
    """The JSON that `ticketlock inbox` prints."""
    line = [sys.executable, "-m", "ticketlock", "inbox", *words]
    line += ["--endpoints", str(folder / "endpoints.yml")]
    done = await asyncio.to_thread(
        subprocess.run, line, capture_output=True, text=True, check=False, cwd=folder, env=env
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.bound(120)
@pytest.mark.parametrize(
    ("what", "place"),
    [*(("KILL", place) for place in PLACES), ("STOP", PLACES[0]), ("STOP", PLACES[2])],
)
async def test_a_process_dies_or_stops(
    redis_server: EmbeddedRedis, tmp_path: Path, what: str, place: str
) -> None:
    """The other replica goes on; a late write of the one that stood still is refused."""
    write(tmp_path, redis_server.url)
    (tmp_path / f"{what}-{place}").touch()
    async with httpx.AsyncClient(timeout=60) as http:
        with replicas(tmp_path, [], []) as both:
            made = await schedule(http, both[0], "c", [reminder(intent="tea")])
            await until(lambda: not (tmp_path / f"{what}-{place}").exists(), 30)
            [lives] = [one for one in both if await _answers(http, one)]
            [other] = [one for one in both if one is not lives]
            assert (await outcome(http, lives, made, wait=30))["state"] == "replied"
            events = await all_fired(http, lives, "c", "tea")
            if what == "STOP":
                other.process.send_signal(signal.SIGCONT)
                assert await _answers(http, other)
                events = await all_fired(http, other, "c", "tea")
            kinds = [event["event"] for event in events[3:]]
            assert kinds == ["user", "reminder", "bot", "user", "bot"]


async def _answers(http: httpx.AsyncClient, one: Replica) -> bool:
    """Whether a replica lives, and is not stopped."""
    try:
        return (await http.get(f"{one.url}/health", timeout=3)).status_code == 200
    except httpx.HTTPError:
        return False


async def test_all_replicas_are_away(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    """What is due meanwhile fires when one is there again; what was cancelled does not."""
    write(tmp_path, redis_server.url)
    async with httpx.AsyncClient(timeout=30) as http:
        with replicas(tmp_path, []) as [one]:
            at = time.time() + 12
            tea = reminder("tea", 12, intent="tea", kill_on_user_msg=False)
            milk = reminder("milk", 12, intent="milk", kill_on_user_msg=False)
            await outcome(http, one, await schedule(http, one, "c", [tea, milk]))
            listed = (await command(tmp_path, "list", "c", "--json"))["due"]
            assert {row["message_id"] for row in listed} == {id_of(tea), id_of(milk)}
            cancel = {"event": "cancel_reminder", "name": "milk", "intent": None, "entities": None}
            await outcome(http, one, await schedule(http, one, "c", [cancel]))
            one.process.kill()
            one.process.wait()
        await asyncio.sleep(max(0.0, at - time.time()) + 0.5)
        with replicas(tmp_path, []) as [two]:
            await all_fired(http, two, "c", "tea")


@pytest.mark.slow
@pytest.mark.bound(180)
async def test_a_small_storm(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    """Replicas are killed and started while reminders fire: each once."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    write(tmp_path, redis_server.url, max_attempts=50)
    each = {
        f"c{n}": [
            reminder(f"r{i}", chance.uniform(0, 6), intent=f"i{i}", kill_on_user_msg=False)
            for i in range(4)
        ]
        for n in range(15)
    }
    gone = {"event": "cancel_reminder", "name": "r0", "intent": None, "entities": None}
    async with httpx.AsyncClient(timeout=60) as http:
        with replicas(tmp_path, []) as [keeper]:
            began = time.time()
            for _ in range(2):
                with replicas(tmp_path, [], []) as two:
                    for name, wires in [*each.items()][:8] if _ == 0 else [*each.items()][8:]:
                        at = chance.choice(two)
                        late = [{**reminder(w["name"], chance.uniform(1, 5)), "intent": w["intent"],
                                 "kill_on_user_msg": False} for w in wires]  # fmt: skip
                        await schedule(http, at, name, [*late, gone])
                    await asyncio.sleep(1.5)
                    for one in two:
                        one.process.kill()
            print(f"{time.time() - began:.1f} s")
            for name in each:
                await all_fired(http, keeper, name, "i1", "i2", "i3", seconds=60)


@pytest.mark.slow
@pytest.mark.bound(120)
async def test_a_roll_beside_the_version_before(
    redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    """Both serve: what one of them schedules fires once, whichever calls the bot with it."""
    write(tmp_path, redis_server.url)
    old = versions.environment(versions.before())
    async with httpx.AsyncClient(timeout=30) as http:
        with (
            replicas(tmp_path, []) as [new],
            replicas(tmp_path, [], env=old) as [before],
        ):
            for number in range(8):
                one, other = (new, before) if number % 2 else (before, new)
                wires = [reminder("tea", 1, intent="tea", kill_on_user_msg=False)]
                done = await schedule(http, one, f"c{number}", wires)
                assert (await outcome(http, other, done))["state"] == "replied"
            for number in range(8):
                await all_fired(http, new, f"c{number}", "tea")
