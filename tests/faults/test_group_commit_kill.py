"""Processes that are killed in the middle of group commits: what they acknowledged is there."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ticketlock.endpoints.registry import create_tracker_store

#: Turns of three events in 32 conversations at once, for ever. It tells each commit, and each turn
#: that was acknowledged.
WRITER = """
import asyncio, json, os, sys
import sqlalchemy as sa
sys.path.insert(0, sys.argv[3])
from contract_events import user
from ticketlock.endpoints.registry import create_tracker_store

def tell(line):
    os.write(1, f"{line}\\n".encode())

async def talk(store, name):
    claim = await store.claim(name, 1, name)
    for number in range(10_000):
        await store.append(claim, [user(f"{number}", part) for part in range(3)])
        tell(f"{name} {number}")

async def main(section, process):
    async with create_tracker_store(section) as store:
        await store.claim(f"{process}", 1, "x")
        sa.event.listen(store._engine._engine, "commit", lambda _: tell("commit"))
        names = [f"{process}.{n}" for n in range(32)]
        await asyncio.gather(*(talk(store, name) for name in names))

asyncio.run(main(json.loads(sys.argv[1]), sys.argv[2]))
"""


@pytest.mark.slow
def test_what_was_acknowledged_survives(tracker_sections: Any) -> None:
    """Two processes on one file, killed one after the other: each turn is there whole or not at
    all, in order, and none that was told is missing.
    """
    section = tracker_sections("sqlite")
    tests = str(Path(__file__).parent.parent)
    told: Counter[str] = Counter()
    commits = 0
    for pair in range(3):
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, json.dumps(section), f"{pair}.{number}", tests],
                stdout=subprocess.PIPE, text=True, env=os.environ,
            )
            for number in range(2)
        ]  # fmt: skip
        lines: list[str] = []
        for process in processes:
            assert process.stdout is not None  # it is a pipe
            while "." not in (line := process.stdout.readline()):
                commits += line == "commit\n"
            lines.append(line)
        for process in processes:
            time.sleep(random.uniform(0, 0.5))
            process.send_signal(signal.SIGKILL)
            lines += process.communicate()[0].splitlines()
        commits += lines.count("commit")
        told.update(line.split()[0] for line in lines if "." in line)

    async def look() -> dict[str, list[str]]:
        async with create_tracker_store(section) as store:
            found = {name: await store.retrieve_full_tracker(name) for name in told}
            return {
                name: [event.text for event in tracker.events] if tracker else []
                for name, tracker in found.items()
            }

    for name, texts in asyncio.run(look()).items():
        turns = len(texts) // 3
        assert texts == [f"{turn}" for turn in range(turns) for _ in range(3)], name
        assert told[name] <= turns <= told[name] + 1
    assert sum(told.values()) > commits, "they shared no transactions: the test tests nothing"
