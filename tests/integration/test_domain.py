"""A domain in replicas, as processes, of which one is killed while a turn runs."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import httpx
from servers.bot_server import Replica, replicas, write_files

from ticketlock.redis.embedded import EmbeddedRedis

BOT = """
import asyncio

async def bot(turn, message):
    turn.utter("utter_any")
    turn.utter("utter_city")
    if message.attempt == 1:
        await asyncio.sleep(60)  # its process is killed meanwhile
    yield f"attempt {message.attempt}"
"""
DOMAIN = {
    "slots.yml": 'slots: {city: {type: text, initial_value: Rome, mappings: [{type: custom}]}}',
    "responses.yml": "responses:\n  utter_city: [{text: 'in {city}'}]\n  utter_any:\n"
    + "".join(f"    - text: '{number}'\n" for number in range(1000)),
    "nlu.yml": "nlu: []",
}  # fmt: skip


async def said(to: Replica, http: httpx.AsyncClient) -> AsyncGenerator[str, None]:
    """The texts of the stream, as they come; the process may be killed in between."""
    url = f"{to.url}/webhooks/rest/webhook?stream=true"
    body = {"message": "hi", "sender": "anna", "message_id": "m1"}
    async with http.stream("POST", url, json=body) as response:
        async for line in response.aiter_lines():
            yield json.loads(line)["text"]


async def test_another_replica_says_the_same(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    """What a client has seen of the stream is not contradicted by the attempt that counts."""
    write_files(tmp_path, redis_server.url, domain="bot")
    (tmp_path / "slow_bot.py").write_text(BOT)
    (tmp_path / "bot").mkdir()
    for name, text in DOMAIN.items():
        (tmp_path / "bot" / name).write_text(text)
    with replicas(tmp_path, [], []) as (one, two):
        async with httpx.AsyncClient(timeout=50) as http:
            async with aclosing(said(one, http)) as stream:
                heard = [await anext(stream), await anext(stream)]
                assert heard[1] == "in Rome"
                one.process.kill()
            again = [text async for text in said(two, http)]
            assert again == [*heard, "attempt 2"]
            domain = (await http.get(f"{two.url}/domain")).json()
            assert [*domain["slots"]] == ["city"]
            state = (await http.get(f"{two.url}/conversations/anna/tracker")).json()
            assert state["slots"] == {"city": "Rome", "session_started_metadata": None}
        assert "bot: not used by ticketlock: slots.mappings" in two.log()
