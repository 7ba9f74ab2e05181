"""A process that is killed while it writes leaves whole turns, and its successor goes on."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from contract_events import user

from ticketlock.endpoints.registry import create_tracker_store

#: Bytes of text in each of a turn's three events: one that fits a transaction or a document
#: with ease, and one for which Mongo (16 MB) and Dynamo (4 MB) must write several times before
#: they commit.
SIZES = {
    "small": {"redis": 20, "mongo": 20, "dynamo": 20},
    # To Redis a script is one step however much it writes.
    "large": {"mongo": 6_000_000, "dynamo": 1_500_000},
}

#: Appends turns of three events for ever, telling each one that was acknowledged.
WRITER = """
import asyncio, json, sys
sys.path.insert(0, sys.argv[4])
from contract_events import user
from ticketlock.endpoints.registry import create_tracker_store

async def main(section, fence, size):
    async with create_tracker_store(section) as store:
        claim = await store.claim("a", fence, f"process {fence}")
        print("ready", flush=True)
        for number in range(1000):
            text = f"{fence}.{number} " + "x" * size
            events = [user(text, part) for part in range(3)]
            await store.append(claim, events, f"{fence}.{number}")
            print(f"{fence}.{number}", flush=True)

asyncio.run(main(json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
"""


def killed_writer(section: dict[str, Any], fence: int, size: int, after: float) -> list[str]:
    """Let a process write for `after` seconds; the turns it was told of.

    The first one counts them from its first turn on, the others from their claim on.
    """
    tests = str(Path(__file__).parent.parent)
    words = [sys.executable, "-c", WRITER, json.dumps(section), str(fence), str(size), tests]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stdout is not None  # it is a pipe
        assert process.stdout.readline() == "ready\n"
        told = process.stdout.readline().split() if fence == 1 else []
        time.sleep(after)
        process.send_signal(signal.SIGKILL)
        return told + process.stdout.read().split()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "backend"), [(kind, backend) for kind in SIZES for backend in SIZES[kind]]
)
def test_a_killed_writer_leaves_whole_turns(tracker_sections: Any, kind: str, backend: str) -> None:
    """Every turn is there three times or not at all, in order, and none that was told is missing;
    one that was not told yet may be stored. The mark is that of the last turn that is stored.
    """
    section, size = tracker_sections(backend), SIZES[kind][backend]
    told: list[str] = []
    rounds = 6 if kind == "small" else 3
    longest = 0.3 if kind == "small" else 1.0
    for fence in range(1, rounds + 1):
        told += killed_writer(section, fence, size, random.uniform(0, longest))

        async def look(fence: int) -> list[str]:
            async with create_tracker_store(section) as store:
                tracker = await store.retrieve_full_tracker("a")
                claim = await store.claim("a", fence, f"process {fence}")  # it was the last one
                assert claim.mark == claim.tracker.events[-1].text.strip("x ")
                return [event.text.strip("x ") for event in tracker.events] if tracker else []

        stored = asyncio.run(look(fence))
        turns = stored[::3]
        assert stored == [turn for turn in turns for _ in range(3)]
        assert [turn for turn in turns if turn in set(told)] == told
        assert len(turns) <= len(told) + fence
        assert len(set(turns)) == len(turns)
    assert told, "no turn was stored: the test tests nothing"

    async def go_on() -> None:
        async with create_tracker_store(section) as store:
            claim = await store.claim("a", 1000, "successor")
            assert claim.sequence == len(stored)
            await store.append(claim, [user("after", 1)])
            tracker = await store.retrieve_full_tracker("a")
            assert len(tracker.events) == len(stored) + 1

    asyncio.run(go_on())
