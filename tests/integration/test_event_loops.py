"""Conversations that are used by one event loop after the other, as by several `asyncio.run`."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from servers.tracker_stores import TRACKER_STORES, Stores

from ticketlock import TrackerStoreError

#: In a process of its own: drivers complain of loops that are gone when they are collected.
TURNS = """
import asyncio, json, sys
from ticketlock import Conversations
conversations = Conversations(None, json.loads(sys.argv[1]))
async def turn(name, text):
    async with conversations.turn(name) as turn: turn.add({"event": "user", "text": text})
async def say(text):
    # Beside others: what they wait for belongs to the loop.
    await asyncio.gather(turn("a", text), *(turn(f"{text} {n}", text) for n in range(12)))
    async with conversations.turn("a") as last: print(*(event.text for event in last.tracker.events))
for text in "123": asyncio.run(say(text))
asyncio.run(conversations.close())
"""


def said_by(program: str, *args: str) -> str:
    words = [sys.executable, "-c", program, *args]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("backend", sorted(TRACKER_STORES))
def test_a_tracker_store_serves_the_next_loop(backend: str, tracker_sections: Any) -> None:
    """Its connections, locks and batches are those of the loop that runs."""
    said = said_by(TURNS, json.dumps(tracker_sections(backend)))
    assert said.splitlines() == ["1", "1 2", "1 2 3"]


@pytest.mark.parametrize("backend", ["postgres", "mariadb", "mongo"])
def test_a_second_loop_at_once(backend: str, tracker_sections: Any, run: Any) -> None:
    """Its connections are not used by another loop while theirs is open; the error says so."""
    stores = Stores(backend, tracker_sections(backend))

    async def both() -> None:
        store = stores.open()
        await store.claim("a", 1, "here")
        with pytest.raises(TrackerStoreError, match="in use on another event loop: make one store"):
            await asyncio.to_thread(asyncio.run, store.claim("b", 1, "elsewhere"))
        await store.claim("b", 1, "here")
        await stores.close()

    run(both())


RELAYED = """
import asyncio, json, sys
from pathlib import Path
from ticketlock import Conversations
path = Path(sys.argv[2])
conversations = Conversations(None, {"type": "sql", "db": sys.argv[1]}, {"type": "file", "path": str(path)})
def published():
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line)["text"] for line in lines]
async def say(text, wait):
    async with conversations.turn("a") as turn: turn.add({"event": "user", "text": text})
    while wait and text not in published(): await asyncio.sleep(0.01)
for text in "12": asyncio.run(asyncio.wait_for(say(text, True), 20))
asyncio.run(say("3", False))
asyncio.run(conversations.close())
print(*published())
"""


def test_a_relay_serves_the_next_loop(tmp_path: Path) -> None:
    """It publishes what each loop commits, and `close` what the last one has left."""
    published = said_by(RELAYED, str(tmp_path / "events.db"), str(tmp_path / "events")).split()
    # What was confirmed as its loop ended comes once more: that was not noted any more.
    assert list(dict.fromkeys(published)) == ["1", "2", "3"]
