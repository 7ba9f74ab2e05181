"""A process that is killed while it writes and relays leaves nothing that is never published."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from contract_events import user
from servers import dynamo, mongo

from ticketlock.outbox import LEASE_MS, Lease, now_ms
from ticketlock.registry import create_tracker_store
from ticketlock.tracker_store import TrackerStore

MANAGERS = {"mongo": mongo.tracker_sections, "dynamo": dynamo.tracker_sections}

NAMES = "abc"

#: Appends turns of one to three events and relays some of what waits, for ever, telling what it
#: was acknowledged and what it published.
PROCESS = """
import asyncio, json, random, sys
sys.path.insert(0, sys.argv[3])
from contract_events import user
from ticketlock.outbox import Lease
from ticketlock.registry import create_tracker_store

async def main(section, fence):
    async with create_tracker_store(section) as store:
        store.publishes = True
        claims = {name: await store.claim(name, fence, "process") for name in "abc"}
        print("ready", flush=True)
        for number in range(10000):
            name = random.choice("abc")
            count = random.choice((1, 2, 3))
            await store.append(claims[name], [user(f"{fence}.{number}", n) for n in range(count)])
            print("stored", name, claims[name].sequence, flush=True)
            name, lease = random.choice("abc"), Lease.of(f"relay {fence}")
            parcel = await store.outbox.take(name, lease, random.choice((1, 5, 100)))
            if parcel is not None:
                for place, event in enumerate(parcel.events, parcel.first):
                    print("published", name, place, event["text"], flush=True)
                await store.outbox.advance(parcel, lease, parcel.first + len(parcel.events))

asyncio.run(main(json.loads(sys.argv[1]), int(sys.argv[2])))
"""


@pytest.fixture(scope="module", params=list(MANAGERS))
def section(request: pytest.FixtureRequest) -> Iterator[Callable[[], dict[str, Any]]]:
    with MANAGERS[request.param]() as made:
        yield made


def killed(section: dict[str, Any], fence: int, after: float) -> list[list[str]]:
    """Let a process work for `after` seconds; what it told, word by word."""
    tests = str(Path(__file__).parent.parent)
    words = [sys.executable, "-c", PROCESS, json.dumps(section), str(fence), tests]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stdout is not None  # it is a pipe
        assert process.stdout.readline() == "ready\n"
        time.sleep(after)
        process.send_signal(signal.SIGKILL)
        return [line.split() for line in process.stdout.read().splitlines(keepends=False)]


async def drained(store: TrackerStore, published: dict[str, dict[int, str]]) -> int:
    """Publish all that a relay finds once the leases of the dead one are over; how many events."""
    later = now_ms() + 2 * LEASE_MS
    count = 0
    for name in await store.outbox.waiting(10, later):
        lease = Lease("successor", later, later + LEASE_MS)
        while (parcel := await store.outbox.take(name, lease, 7)) is not None:
            count += len(parcel.events)
            for place, event in enumerate(parcel.events, parcel.first):
                assert published[name].setdefault(place, event["text"]) == event["text"]
            await store.outbox.advance(parcel, lease, parcel.first + len(parcel.events))
    return count


def test_what_a_killed_process_committed_is_published(section: Any) -> None:
    """Each event of a committed turn was published by it, or waits and is found."""
    values = section()
    published: dict[str, dict[int, str]] = defaultdict(dict)
    stored: dict[str, int] = {}
    waited = 0
    for fence in range(1, 4):
        for kind, name, number, *text in killed(values, fence, random.uniform(0.05, 0.6)):
            if kind == "stored":
                stored[name] = int(number)
            else:
                known = published[name].setdefault(int(number), text[0])
                assert known == text[0]

        async def look() -> int:
            async with create_tracker_store(values) as store:
                backlog = await store.outbox.backlog()
                count = await drained(store, published)
                assert count == backlog.events
                for name in NAMES:
                    tracker = await store.retrieve_full_tracker(name)
                    texts = [event.as_dict()["text"] for event in tracker.events] if tracker else []
                    assert len(texts) >= stored.get(name, 0)
                    assert published[name] == dict(enumerate(texts))
                assert await store.outbox.waiting(10, 10**13) == []
            return count

        waited += asyncio.run(look())
    assert stored, "nothing was stored: the test tests nothing"
    assert waited, "nothing was left: the test tests nothing"


def test_a_relay_that_was_killed_is_taken_over(section: Any) -> None:
    """Its conversation is not free before its lease is over, and then it is, whole."""

    async def story() -> None:
        async with create_tracker_store(section()) as store:
            store.publishes = True
            claim = await store.claim("a", 1, "x")
            await store.append(claim, [user(f"{n}", n) for n in range(5)])
            dead = Lease.of("dead")
            parcel = await store.outbox.take("a", dead, 3)
            assert parcel is not None
            await store.append(claim, [user("5", 5)])  # the lease is as long as it was
            assert await store.outbox.waiting(10, dead.until - 1) == []
            assert await store.outbox.take("a", Lease.of("next"), 3) is None
            assert await store.outbox.waiting(10, dead.until) == ["a"]
            after = Lease("next", dead.until, dead.until + LEASE_MS)
            parcel = await store.outbox.take("a", after, 10)
            assert parcel is not None
            assert [event["text"] for event in parcel.events] == [*"012345"]

    asyncio.run(story())
