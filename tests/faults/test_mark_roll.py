"""Tracker stores that the version before and this one write in turn: events and marks are kept."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest
from contract_events import user
from servers import versions
from servers.tracker_stores import TRACKER_STORES, Stores

from ticketlock.tracker.store import TrackerStore

#: A replica of the version before, with its connections open all the time. A line is a fence, or
#: "replace"; it answers with the number of events.
OLD = """
import asyncio, json, sys
import ticketlock
from ticketlock.endpoints.registry import create_tracker_store
from ticketlock.tracker.tracker import Tracker

assert ".tools" in ticketlock.__file__, "this is no old version"

async def main():
    loop = asyncio.get_running_loop()
    async with create_tracker_store(json.loads(sys.argv[1])) as store:
        while line := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
            event = {"event": "user", "text": line, "timestamp": 1.0, "metadata": {}, "parse_data": {}}
            if line == "replace":
                await store.update(Tracker.from_dict("a", [event]))
            else:
                claim = await store.claim("a", int(line), "old")
                await store.append(claim, [event])
            print(len((await store.retrieve_full_tracker("a")).events), flush=True)

asyncio.run(main())
"""


class OldReplica:
    """It ends when the block does, which the pipe tells it."""

    def __init__(self, section: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", OLD, json.dumps(section)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd="/",  # else it would import this checkout
            env=versions.environment(versions.before()),
        )  # fmt: skip

    def __enter__(self) -> OldReplica:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate(timeout=30)
        assert self._process.returncode == 0

    async def does(self, line: object) -> int:
        """Let it take a turn; how many events there are then."""
        return int(await asyncio.to_thread(self._say, line))

    def _say(self, line: object) -> str:
        print(line, file=self._process.stdin, flush=True)
        assert self._process.stdout is not None  # it is a pipe
        return self._process.stdout.readline()


async def turn(store: TrackerStore, fence: int, mark: str) -> str | None:
    """Take a turn with one event; the mark that it found."""
    claim = await store.claim("a", fence, "new")
    await store.append(claim, [user("new", 1)], mark)
    return claim.mark


@pytest.mark.slow
@pytest.mark.parametrize("backend", [name for name in TRACKER_STORES if name != "memory"])
async def test_two_versions_take_turns(backend: str, tracker_sections: Any) -> None:
    """Upgraded and downgraded, with a replica of the version before that runs all the time."""
    section = await asyncio.to_thread(tracker_sections, backend)
    stores = Stores(backend, section)
    with OldReplica(section) as old:
        assert await old.does(1) == 1  # it makes the tables
        store = stores.open()
        assert await turn(store, 2, "first") == ""
        assert await old.does(3) == 3  # with the connection that it has had
        assert await turn(store, 4, "second") == "first"
        await stores.close()
        with OldReplica(section) as again:  # rolled back: it finds what this version has left
            assert await again.does(5) == 5
            assert await old.does(6) == 6
        store = stores.open()
        claim = await store.claim("a", 7, "new")
        assert (claim.mark, claim.sequence) == ("second", 6)
        assert await old.does("replace") == 1
        claim = await store.claim("a", 8, "new")
        assert (claim.mark, claim.sequence) == ("second", 7)
        await stores.close()
