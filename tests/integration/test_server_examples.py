"""The applications in `docs/examples/` run, on real stores."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest
from servers.bot_server import write_files
from serving import client, send

from ticketlock import Conversations
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.server.bot import load_bot

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
NAMES = ("slots_bot", "fastapi_app", "custom_stores")


@pytest.fixture
def example(
    redis_server: EmbeddedRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Any]]:
    """Imports an example, with an endpoints.yml of its own."""
    monkeypatch.setenv("ENDPOINTS", str(write_files(tmp_path, redis_server.url)))
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield import_module
    for name in NAMES:
        sys.modules.pop(name, None)


async def test_slots(example: Callable[[str], Any]) -> None:
    """It asks once, remembers, answers a repeated message as before, and forgets."""
    async with client(load_bot("slots_bot:bot", EXAMPLES)) as http:
        said = []
        for text in ("hi", "Anna", "Anna", "nice", "forget me", "hi"):
            answer = await send(http, text, message_id=f"{text} {len(said) // 5}")
            said.append(answer.json()[0]["text"])
        assert said == [
            "What is your name?", "Hello Anna!", "Hello Anna!", "Anna, you said: nice",
            "Who was that?", "What is your name?",
        ]  # fmt: skip


async def test_mounted_in_fastapi(example: Callable[[str], Any]) -> None:
    """Webhook, conversations and errors under the mount; the app's own endpoints beside it."""
    app = example("fastapi_app").app
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://a/bot") as http:
            for text, reply in (("hi", "What is your name?"), ("Anna", "Hello Anna!")):
                answer = await send(http, text, sender="fast/api")
                assert answer.json()[0]["text"] == reply
            state = (await http.get("/conversations/fast/api/tracker")).json()
            assert state["slots"] == {"asked": True, "name": "Anna"}
            missing = (await http.get("/nothing")).json()
            assert missing["reason"] == "NotFound"
            assert missing["message"] == "GET /bot/nothing: Not Found"
            missing = (await http.post("/webhooks/slack/webhook")).json()
            assert missing["message"].endswith("; the section channels of this server has no slack")
            document = (await http.get("/openapi.json")).json()
            assert document["servers"] == [{"url": "/bot"}]
            own = await http.get("http://a/conversations/nobody/slots")
            assert own.json() == {}


async def test_custom_stores(example: Callable[[str], Any], tmp_path: Path) -> None:
    """Turns one at a time, a history that is kept, and every event published, in order."""
    endpoints = tmp_path / "custom.yml"
    types = {"lock_store": "Lock", "tracker_store": "Tracker"}
    sections = {
        name: {"type": f"custom_stores.Folder{kind}Store", "url": str(tmp_path / name)}
        for name, kind in types.items()
    }
    broker = {"type": "custom_stores.LineBroker", "url": str(tmp_path / "events")}
    endpoints.write_text(json.dumps({**sections, "event_broker": broker}))  # JSON is YAML
    async with Conversations.from_endpoints(endpoints) as conversations:

        async def say(number: int) -> None:
            async with conversations.turn("a/b") as turn:
                turn.add({"event": "user", "text": str(len(turn.tracker.events))})

        await asyncio.gather(*(say(number) for number in range(8)))
    texts = [str(number) for number in range(8)]
    stored = json.loads((tmp_path / "tracker_store" / "a%2Fb").read_text())
    assert [event["text"] for event in stored] == texts
    lines = (tmp_path / "events").read_text().splitlines()
    assert [json.loads(line)["text"] for line in lines] == texts
    assert not any((tmp_path / "lock_store").iterdir())
