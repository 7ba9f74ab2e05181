"""The same reminders, over HTTP, at a real Rasa and at our bot server: who fires what.

Each case is a conversation. Its steps are events, with their side effects, or messages. What fires
is what the history has of external messages; a second after the last one is due it is read.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
from servers.bot_server import replicas, write_files

from .fleet import Fleet, text

Event = dict[str, Any]

#: Our bot beside Rasa's: one that answers.
BOT = """
async def bot(turn, message):
    yield f"done: {message.text}"
"""
#: Seconds until most reminders are due, and after which the history is read.
SOON, READ = 4.0, 8.0


def reminder(name: str, after: float = SOON, *, zone: Any = timezone.utc, **more: Any) -> Event:
    """A reminder that carries its name as its entity."""
    at = (datetime.now(timezone.utc) + timedelta(seconds=after)).astimezone(zone)
    entities = [{"entity": "n", "value": name}]
    made = {"event": "reminder", "intent": "say", "date_time": at.isoformat(), "name": name}
    return {**made, "entities": entities, "kill_on_user_msg": True, **more}


def naive(name: str) -> Event:
    """One whose time has no zone."""
    made = reminder(name, zone=None)
    return {**made, "date_time": made["date_time"][:26]}


def cancel(**fields: Any) -> Event:
    return {"event": "cancel_reminder", "name": None, "intent": None, "entities": None, **fields}


def user(**more: Any) -> Event:
    return {"event": "user", "text": "hi", "parse_data": {"intent": {"name": "say"}}, **more}


KEPT = {"kill_on_user_msg": False}
LONG_AGO = 2 * 3600.0
FORM, LISTEN = ({"event": "action", "name": name} for name in ("form", "action_listen"))

#: name -> its steps: a list of events is posted with side effects, a text is a message.
CASES: dict[str, Callable[[], list[list[Event] | str]]] = {
    "one is due": lambda: [[reminder("a")]],
    "a time without a zone is local": lambda: [[naive("a")]],
    "cancelled by its name": lambda: [[reminder("a"), reminder("b", **KEPT)], [cancel(name="a")]],
    "cancelled by its intent": lambda: [[reminder("a")], [cancel(intent="say")]],
    "another intent is cancelled": lambda: [[reminder("a")], [cancel(intent="other")]],
    "cancelled by its entities": lambda: [
        [reminder("a"), reminder("b", **KEPT)], [cancel(entities=reminder("a")["entities"])],
    ],
    "name and another intent": lambda: [[reminder("a")], [cancel(name="a", intent="other")]],
    "all are cancelled": lambda: [[reminder("a"), reminder("b")], [cancel()]],
    "the name again, earlier": lambda: [[reminder("a", 60)], [reminder("a")]],
    "the name again, later": lambda: [[reminder("a")], [reminder("a", 60)]],
    "a message of the user after it": lambda: [[reminder("a"), reminder("b", **KEPT)], text(0)],
    "another reminder fires before it": lambda: [[reminder("a", 3), reminder("b", 5)]],
    "both are kept": lambda: [[reminder("a", 3), reminder("b", 5, **KEPT)]],
    "a restart": lambda: [[reminder("a")], [{"event": "restart"}]],
    "a session starts": lambda: [[reminder("a")], [{"event": "session_started"}]],
    "the session has expired when it is due": lambda: [
        [user(timestamp=time.time() - LONG_AGO)], [reminder("a")],
    ],
    "the user's message is taken back": lambda: [
        [{"event": "action", "name": "action_listen"}, user(), reminder("a")],
        [{"event": "rewind"}],
    ],
    "a form goes on after it": lambda: [
        [{"event": "active_loop", "name": "form"}, FORM, LISTEN, user(), FORM, reminder("a", **KEPT),
         LISTEN, user(), FORM, LISTEN],
    ],
    "due an hour ago": lambda: [[reminder("a", -3600)]],
    "cancelled before it, in one request": lambda: [[cancel(name="a"), reminder("a")]],
}  # fmt: skip
#: Where the two differ, and why: (Rasa, ours).
DIFFERENT = {
    "a form goes on after it": ([], ["a"]),
    "due an hour ago": ([], ["a"]),
    "cancelled before it, in one request": ([], ["a"]),
    "one name in two conversations, the first": ([], ["a"]),
    "the process dies meanwhile": ([], ["a"]),
}


async def compare(fleet: Fleet, folder: Path) -> list[tuple[str, list[str], list[str]]]:
    """(case, what fired in Rasa, in ours) for each case."""
    home = folder / "reminders"
    home.mkdir()
    write_files(home, fleet.redis.url)
    (home / "slow_bot.py").write_text(BOT)
    with replicas(home, []) as [ours]:
        theirs = await _fired(fleet.client, fleet.address(0), _nothing)
        found = await _fired(fleet.client, ours.url, _nothing)

        async def kill() -> None:
            await fleet.restart(0)

        theirs |= await _death(fleet.client, fleet.address(0), kill)
        at = await _schedule(fleet.client, ours.url, "dies")
        ours.process.kill()
        ours.process.wait()
        with replicas(home, []) as [other]:
            found |= await _after(fleet.client, other.url, "dies", at)
    return [(name, theirs[name], found[name]) for name in theirs]


async def _nothing() -> None:
    pass


async def _fired(
    http: httpx.AsyncClient, url: str, then: Callable[[], Awaitable[None]]
) -> dict[str, list[str]]:
    """What fires in each case, at one server."""
    steps = [_case(http, url, f"reminders-{n}", made()) for n, made in enumerate(CASES.values())]
    await asyncio.gather(*steps)
    for name in ("first", "second"):
        await _post(http, url, f"reminders-{name}", [reminder("a")])
    await then()
    await asyncio.sleep(READ)
    found = {name: await _history(http, url, f"reminders-{n}") for n, name in enumerate(CASES)}
    for name in ("first", "second"):
        case = f"one name in two conversations, the {name}"
        found[case] = await _history(http, url, f"reminders-{name}")
    return found


async def _case(
    http: httpx.AsyncClient, url: str, name: str, steps: list[list[Event] | str]
) -> None:
    for step in steps:
        if isinstance(step, str):
            body = {"sender": name, "message": step}
            (await http.post(f"{url}/webhooks/rest/webhook", json=body)).raise_for_status()
        else:
            # In Rasa a name is one for all conversations.
            named = [{**e, "name": f"{name}-{e['name']}"} if _has_name(e) else e for e in step]
            await _post(http, url, name, named)


def _has_name(event: Event) -> bool:
    return "reminder" in event["event"] and event["name"] is not None


async def _post(http: httpx.AsyncClient, url: str, name: str, events: list[Event]) -> None:
    where = f"{url}/conversations/{name}/tracker/events?execute_side_effects=true"
    answer = await http.post(where, json=events)
    assert answer.status_code == 200, answer.text


async def _history(http: httpx.AsyncClient, url: str, name: str) -> list[str]:
    """The reminders that have fired, by their entity."""
    answer = await http.get(f"{url}/conversations/{name}/tracker?include_events=ALL")
    events = [e for e in answer.json()["events"] if str(e.get("text")).startswith("EXTERNAL: ")]
    for event in events:
        assert event["event"] == "user", json.dumps(event)
        assert event["text"] == "EXTERNAL: say", json.dumps(event)
        assert event["metadata"]["is_external"] is True, json.dumps(event)
    return [event["parse_data"]["entities"][0]["value"] for event in events]


async def _death(
    http: httpx.AsyncClient, url: str, kill: Callable[[], Awaitable[None]]
) -> dict[str, list[str]]:
    at = await _schedule(http, url, "dies")
    await kill()
    return await _after(http, url, "dies", at)


async def _schedule(http: httpx.AsyncClient, url: str, name: str) -> float:
    at = time.time() + SOON
    await _post(http, url, name, [reminder("a")])
    return at


async def _after(http: httpx.AsyncClient, url: str, name: str, at: float) -> dict[str, list[str]]:
    await asyncio.sleep(max(0.0, at - time.time()) + READ - SOON)
    return {"the process dies meanwhile": await _history(http, url, name)}


def table(rows: list[tuple[str, list[str], list[str]]]) -> str:
    """The rows as a table of Markdown."""
    lines = ["| case | Rasa 3.6.21 | here |", "|---|---|---|"]
    shown = [(name, *(", ".join(one) or "nothing" for one in both)) for name, *both in rows]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in shown)])


def wrong(rows: list[tuple[str, list[str], list[str]]]) -> list[str]:
    """The cases in which the two differ, or agree, against what is known."""
    return [
        name
        for name, theirs, ours in rows
        if (theirs, ours) != DIFFERENT.get(name, (theirs, theirs))
    ]
