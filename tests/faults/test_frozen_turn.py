"""A replica frozen in its turn, and what it can still do when it wakes: nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from contract_events import user
from servers.tracker_stores import TRACKER_STORES

from ticketlock import ConcurrentRedisLockStore, Conversations
from ticketlock.endpoints.registry import create_tracker_store
from ticketlock.redis.embedded import EmbeddedRedis

CHILD = """
    import asyncio, json, sys
    from ticketlock import Conversations, LockLost, StaleFence
    from ticketlock.locks.grant import Grant
    locks, tracker, fooled = json.loads(sys.argv[1])
    if fooled:  # as if it were frozen just behind the last check
        Grant.ensure_held = lambda self: None
        Grant.lose = lambda self, reason: None
    async def main():
        async with Conversations(locks, tracker) as conversations:
            async with conversations.turn("a") as turn:
                turn.add({"event": "user", "text": "by the frozen one"})
                print("in", flush=True)
                await asyncio.sleep(1)
    try:
        asyncio.run(main())
    except (LockLost, StaleFence) as error:
        print(type(error).__name__, flush=True)
"""

#: Those that more than one process can open.
SHARED = [name for name in TRACKER_STORES if name != "memory"]


@pytest.fixture
def child() -> Iterator[Callable[[Any], subprocess.Popen[str]]]:
    """Start the replica; it does not outlive the test."""
    children: list[subprocess.Popen[str]] = []

    def start(argument: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", textwrap.dedent(CHILD), json.dumps(argument)]
        children.append(
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        )
        return children[-1]

    yield start
    for process in children:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


@pytest.fixture(params=SHARED)
def section(request: pytest.FixtureRequest, tracker_sections: Any) -> dict[str, Any]:
    """A section of a new, empty database."""
    made: dict[str, Any] = tracker_sections(request.param)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("fooled", [False, True], ids=["frozen", "frozen-behind-its-last-check"])
async def test_a_frozen_turn_changes_no_history(
    fooled: bool, section: dict[str, Any], own_redis: EmbeddedRedis, child: Any
) -> None:
    """Resumed while its successor works, and after: the history is the successor's."""
    locks = {"type": "concurrent_redis", "url": own_redis.url, "lease": 1}
    frozen = child([locks, section, fooled])
    assert frozen.stdout.readline() == "in\n"
    frozen.send_signal(signal.SIGSTOP)
    ours = ConcurrentRedisLockStore(url=own_redis.url)
    async with Conversations(ours, create_tracker_store(section)) as conversations:
        async with conversations.turn("a", wait_timeout=30) as turn:
            turn.add(user("by the successor", 1))
            frozen.send_signal(signal.SIGCONT)
            assert frozen.stdout.readline() in ("LockLost\n", "StaleFence\n")
            turn.add(user("to its end", 2))
        async with conversations.turn("a", wait_timeout=10) as turn:
            texts = [event.as_dict()["text"] for event in turn.tracker.events]
    assert texts == ["by the successor", "to its end"]
