"""What the outbox costs: nothing that a turn notices, and no memory for a long backlog.

Numbers are printed (`-s`); docs/outbox.md has those of one run.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Sequence
from typing import Any

import psutil
import pytest
from contract_events import user
from faults.talk import drained

from ticketlock import Conversations
from ticketlock.endpoints.registry import create_tracker_store
from ticketlock.publishing import relay
from ticketlock.publishing.broker import EventBroker
from ticketlock.publishing.message import DELIVERED, BrokerMessage, Outcome
from ticketlock.tracker.store import TrackerStore

pytestmark = pytest.mark.slow

#: Turns that are measured of each kind.
TURNS = int(os.environ.get("TICKETLOCK_OUTBOX_TURNS", "200"))

#: Events of a backlog, and how many of them are of one conversation.
BACKLOG = int(os.environ.get("TICKETLOCK_OUTBOX_BACKLOG", "20000"))
EACH = 200

#: Part of each of those events: all of them together, in memory, are more than 40 MB.
TEXT = "x" * 500

#: Megabytes that the memory may grow by.
BOUND_MB = 30

#: RabbitMQ where nobody listens: each attempt fails.
AWAY = {"type": "pika", "url": "127.0.0.1", "port": 1, "username": "u", "password": "p"}


@pytest.fixture(params=["redis", "sqlite", "postgres"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def timed(conversations: Conversations, number: int) -> float:
    """Milliseconds of one turn."""
    begin = time.perf_counter()
    async with conversations.turn(f"c{number % 10}") as turn:
        turn.add(user(str(number), 1), user("yes", 2))
    return 1000 * (time.perf_counter() - begin)


@pytest.mark.quiet
async def test_no_turn_waits_for_a_broker_that_is_away(
    kind: str, tracker_sections: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turns take as long as without any broker, one of the one and one of the other kind by turns.

    The relay tries all the time, which is more than it does after some seconds.
    """
    monkeypatch.setattr("ticketlock.publishing.relay.LONGEST_PAUSE", relay.FIRST_PAUSE)
    away = {**AWAY, "connection_attempts": 1}
    async with (
        Conversations(None, tracker_sections(kind)) as without,
        Conversations(None, tracker_sections(kind), away) as broken,
    ):
        for conversations in (without, broken):
            for number in range(30):
                await timed(conversations, number)
        pairs = [(await timed(without, n), await timed(broken, n)) for n in range(TURNS)]
        assert broken.relay is not None
        assert broken.relay.counts.trouble
        assert broken.relay.counts.published == 0
    p50 = [statistics.median(side) for side in zip(*pairs, strict=True)]
    p99 = [statistics.quantiles(side, n=100)[-1] for side in zip(*pairs, strict=True)]
    print(f"\n{kind}: ms a turn, without a broker and with one that is away: "
          f"p50 {p50[0]:.2f} {p50[1]:.2f}, p99 {p99[0]:.2f} {p99[1]:.2f}")  # fmt: skip
    # On a machine that is busy with other things a turn takes longer, and so does every part of it.
    assert p50[1] - p50[0] < max(5.0, p50[0] / 2)


class Counter(EventBroker):
    """Confirms everything at once, and knows what was most."""

    def __init__(self) -> None:
        self.count = self.largest = self.rss = 0

    async def deliver(
        self, batch: Sequence[BrokerMessage], timeout: float | None = None
    ) -> list[Outcome]:
        self.count += len(batch)
        self.largest = max(self.largest, len(batch))
        self.rss = max(self.rss, psutil.Process().memory_info().rss)
        return [DELIVERED] * len(batch)


async def put_aside(store: TrackerStore) -> None:
    """Let a backlog wait."""
    store.publishes = True
    for number in range(0, BACKLOG, EACH):
        claim = await store.claim(f"old {number}", 1, "writer")
        await store.append(claim, [user(f"{n} {TEXT}", n) for n in range(EACH)])


@pytest.mark.parametrize("kind", ["redis", "sqlite"])
async def test_a_long_backlog_needs_little_memory(kind: str, tracker_sections: Any) -> None:
    """It drains by batches, whatever its length, while turns go on."""
    store, counter = create_tracker_store(tracker_sections(kind)), Counter()
    await put_aside(store)
    before, start = psutil.Process().memory_info().rss, time.perf_counter()
    turns = []
    async with Conversations(None, store, counter) as conversations:
        while counter.count < BACKLOG + 2 * len(turns):
            turns.append(await timed(conversations, len(turns)))
            await asyncio.sleep(0.01)
        seconds = time.perf_counter() - start
        await drained(store)
    grown = (counter.rss - before) / 1e6
    print(f"\n{kind}: {BACKLOG} events, {BACKLOG / seconds:.0f} a second, {grown:.0f} MB more "
          f"memory, turns beside: p50 {statistics.median(turns):.1f} ms")  # fmt: skip
    assert counter.count == BACKLOG + 2 * len(turns)
    assert counter.largest <= relay.EVENTS
    assert grown < BOUND_MB
