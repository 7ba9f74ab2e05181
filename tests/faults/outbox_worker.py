"""Replicas that kill themselves: `python outbox_worker.py SECTION FILE LEASE_MS`.

For each line of input, the name of a point, it forks a replica: turns, and a relay that publishes
them to FILE. The replica comes to that point a few times and dies there, by SIGKILL. It tells each
turn that is stored, and its parent how it ended. The points are in what the test wraps around
the parts of the product, which know nothing of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from contract_events import user
from ticketlock.brokers.file.broker import FileEventBroker

from ticketlock import Conversations
from ticketlock.endpoints.registry import create_tracker_store
from ticketlock.publishing import relay
from ticketlock.publishing.message import BrokerMessage, Outcome, in_order, poisoned
from ticketlock.tracker import outbox
from ticketlock.tracker.outbox import Batch, Lease, Outbox

AFTER_COMMIT = "after the commit"

#: Where a replica dies, in the order of a turn's way to the broker.
POINTS = (
    "before the commit",
    AFTER_COMMIT,
    "after the relay has taken it",
    "after half of a batch is published",
    "after a batch is published",
    "after a dead letter is kept",
    "while it is acknowledged",
    "after it is acknowledged",
    "at any time",
)

NAMES = ("a", "b", "c")

#: What begins like this is not published, but a dead letter.
BAD = "bad "


class Death:
    """Comes when the replica has reached the point for the third or a later time."""

    def __init__(self, point: str) -> None:
        assert point in POINTS, point
        self._point, self._left = point, random.randint(3, 9)
        if point == "at any time":
            self.soon(0.3)

    def at(self, point: str) -> None:
        if self._reached(point):
            os.kill(os.getpid(), signal.SIGKILL)

    def near(self, point: str) -> None:
        """As `at`, but some moment within what follows."""
        if self._reached(point):
            self.soon(0.004)

    def _reached(self, point: str) -> bool:
        self._left -= point == self._point
        return point == self._point and self._left <= 0

    def soon(self, seconds: float) -> None:
        kill = threading.Timer(random.uniform(0, seconds), os.kill, (os.getpid(), signal.SIGKILL))
        kill.daemon = True
        kill.start()


class Broker(FileEventBroker):
    """A file that takes no bad events."""

    def __init__(self, path: str, death: Death) -> None:
        super().__init__(path)
        self._death = death

    async def deliver(
        self, batch: Sequence[BrokerMessage], timeout: float | None = None
    ) -> list[Outcome]:
        good = [m for m in batch if not m.body["text"].startswith(BAD)]
        half = len(good) // 2
        sent = await super().deliver(good[:half], timeout)
        if good:
            self._death.at("after half of a batch is published")
        sent += await super().deliver(good[half:], timeout)
        if good:
            self._death.at("after a batch is published")
        fates = iter(sent)
        return in_order(batch, [next(fates) if m in good else poisoned("bad") for m in batch])


def mined(part: Any, name: str, before: Callable[[], None], after: Callable[[], None]) -> None:
    """Let something happen before and after each call of a method."""
    original: Callable[..., Awaitable[Any]] = getattr(part, name)

    async def method(*words: Any) -> Any:
        before()
        answer = await original(*words)
        after()
        return answer

    setattr(part, name, method)


def mine_exchanges(outbox: Outbox, death: Death) -> None:
    """The points of what a relay asks its store for."""
    original = outbox.exchange

    async def exchange(
        reached: Sequence[tuple[Batch, int]], names: Sequence[str], lease: Lease, limit: int
    ) -> tuple[list[bool], list[Batch | None]]:
        if reached:
            death.near(POINTS[6])
        answer = await original(reached, names, lease, limit)
        if names:
            death.at(POINTS[2])
        if reached:
            death.at(POINTS[7])
        return answer

    outbox.exchange = exchange  # type: ignore[method-assign]  # of this one


def nothing() -> None:
    """No point is here."""


async def replica(section: dict[str, Any], file: str, point: str) -> None:
    death = Death(point)
    store = create_tracker_store(section)
    mined(store, "append", lambda: death.at(POINTS[0]), lambda: death.at(POINTS[1]))
    mine_exchanges(store.outbox, death)
    mined(store.outbox, "add_dead_letters", nothing, lambda: death.at(POINTS[5]))
    async with Conversations(None, store, Broker(file, death)) as conversations:
        for number in range(10_000):
            name = random.choice(NAMES)
            bad = BAD if random.random() < 0.2 else ""
            texts = [f"{bad}{os.getpid()}.{number}.{i}" for i in range(random.randint(1, 3))]
            async with conversations.turn(name) as turn:
                turn.add(*(user(text, 1) for text in texts))
            # In one write: where it is not buffered, a process may die between text and line end.
            print(json.dumps([name, *texts]) + "\n", end="", flush=True)


def main() -> None:
    section, file, lease = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    outbox.LEASE_MS, relay.SWEEP_SECONDS, relay.LEFT_SECONDS = lease, 0.05, 0.05
    create_tracker_store(section)  # imports what replicas need, once
    for line in sys.stdin:
        child = os.fork()
        if not child:
            random.seed()
            asyncio.run(replica(section, file, line.strip()))
            os._exit(0)  # it should have died
        print(json.dumps(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])), flush=True)


if __name__ == "__main__":
    main()
