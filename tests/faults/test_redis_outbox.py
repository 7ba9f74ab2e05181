"""Redis: whatever is killed or comes late, what was committed is published or found waiting."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from contract_events import user
from servers import redis_tracker
from servers.tracker_stores import Stores
from ticketlock.stores.redis.client import RedisClient

from ticketlock.endpoints.registry import create_tracker_store
from ticketlock.tracker.outbox import LEASE_MS, Batch, Lease, now_ms
from ticketlock.tracker.store import TrackerStore
from ticketlock.tracker.tracker import Tracker

MANAGERS = {
    "redis": redis_tracker.tracker_sections,
    "redis-cluster": redis_tracker.cluster_sections,
}
NAMES = "abcd"
SOON = 10**13

#: Appends to conversations at random for ever, telling each turn that was acknowledged.
WRITER = """
async def main(store, fence):
    store.publishes = True
    print("ready", flush=True)
    while True:
        name = random.choice("abcd")
        claim = await store.claim(name, fence, "writer")
        first = claim.sequence
        await store.append(claim, [user(str(first + n), 1) for n in range(2)])
        print(name, first, flush=True)
"""

#: Publishes for ever, by telling each event before it notes that it was told.
RELAY = """
async def main(store, number):
    me, outbox = f"relay {number}", store.outbox
    print("ready", flush=True)
    while True:
        for name in await outbox.waiting(3, now_ms()):
            lease = Lease(me, now_ms(), now_ms() + 200)
            batch = await outbox.take(name, lease, 5)
            if batch is not None:
                for place, event in enumerate(batch.events, batch.first):
                    assert event["text"] == str(place)
                    print(name, place, flush=True)
                await outbox.advance(batch, lease, batch.first + len(batch.events))
                if random.random() < 0.5:
                    await outbox.release(name, me)
"""

FRAME = """
import asyncio, json, random, sys
sys.path.insert(0, sys.argv[3])
from contract_events import user
from ticketlock.tracker.outbox import Batch, Lease, now_ms
from ticketlock.endpoints.registry import create_tracker_store
%s
async def frame():
    async with create_tracker_store(json.loads(sys.argv[1])) as store:
        await main(store, int(sys.argv[2]))

asyncio.run(frame())
"""


@pytest.fixture(params=list(MANAGERS))
def sections(request: pytest.FixtureRequest) -> Iterator[Callable[[], dict[str, Any]]]:
    with ExitStack() as stack:
        yield stack.enter_context(MANAGERS[request.param]())


def start(code: str, section: dict[str, Any], number: int) -> subprocess.Popen[str]:
    tests = str(Path(__file__).parent.parent)
    words = [sys.executable, "-c", FRAME % code, json.dumps(section), str(number), tests]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=os.environ)


def killed(process: subprocess.Popen[str]) -> list[tuple[str, int]]:
    """Kill it; what it has told."""
    process.kill()
    with process:
        assert process.stdout is not None  # it is a pipe
        # A line that was cut is one that it was not done telling.
        lines = [line for line in process.stdout.read().splitlines(True) if line[-1:] == "\n"]
    return [(name, int(number)) for name, number in map(str.split, lines)]


def ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None  # it is a pipe
    assert process.stdout.readline() == "ready\n"


async def all_waiting(store: TrackerStore) -> dict[str, Batch]:
    """What whoever comes next finds, after the end of all leases."""
    now = now_ms() + LEASE_MS
    lease = Lease("next", now, now + 1)
    found = {}
    for name in await store.outbox.waiting(100, SOON):
        batch = await store.outbox.take(name, lease, 1_000_000)
        if batch is not None:
            found[name] = batch
    return found


@pytest.mark.slow
def test_writers_and_relays_that_are_killed(sections: Any) -> None:
    section = sections()
    written: set[tuple[str, int]] = set()
    published: set[tuple[str, int]] = set()
    for number in range(1, 4):
        processes = [start(code, section, number) for code in (WRITER, RELAY)]
        for process in processes:
            ready(process)
        time.sleep(random.uniform(0.05, 0.4))
        written.update(killed(processes[0]))
        time.sleep(random.uniform(0, 0.05))
        published.update(killed(processes[1]))

        async def look() -> None:
            async with create_tracker_store(section) as store:
                waiting = await all_waiting(store)
                for name in NAMES:
                    tracker = await store.retrieve_full_tracker(name)
                    stored = len(tracker.events) if tracker else 0
                    assert all(told + 2 <= stored for other, told in written if other == name)
                    first = waiting[name].first if name in waiting else stored
                    assert {place for other, place in published if other == name} >= set(
                        range(first)
                    )
                    if name in waiting:
                        assert len(waiting[name].events) == stored - first

        asyncio.run(look())
    assert written, "no turn was stored: the test tests nothing"
    assert published, "nothing was published: the test tests nothing"


# -- races in a cluster: the index and the conversation are in different slots -----------------------


@pytest.fixture
def cluster(tracker_sections: Any) -> Stores:
    return Stores("redis-cluster", tracker_sections("redis-cluster"))


class Held:
    """Scripts of one store, stopped before or after one of them runs for the first time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, store: Any, name: str, after: bool) -> None:
        self.there, self.go_on = asyncio.Event(), asyncio.Event()
        client: RedisClient = store._client
        run = client.script

        async def script(called: str, *words: Any) -> Any:
            stop = called == name and not self.there.is_set()
            answer = await run(called, *words) if after or not stop else None
            if stop:
                self.there.set()
                await self.go_on.wait()
            return answer if after or not stop else await run(called, *words)

        monkeypatch.setattr(client, "script", script)


async def put(store: TrackerStore, text: str) -> None:
    await store.save(Tracker.from_dict("a", [user(text, 1)]))


async def publish(store: TrackerStore) -> list[Any]:
    """All that is found; whatever waits is published by it."""
    found = await all_waiting(store)
    now = now_ms() + LEASE_MS
    for batch in found.values():
        await store.outbox.advance(batch, Lease("next", now, now + 1), batch.sequence)
    return [event["text"] for batch in found.values() for event in batch.events]


@pytest.mark.parametrize("how", ["looked", "published", "deleted", "expired"])
async def test_an_entry_is_removed_before_its_event_is_there(
    cluster: Any, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A writer is frozen between the two; all that others do meanwhile loses nothing."""
    writer, other = cluster.open(), cluster.open()
    writer.publishes = other.publishes = True
    held = Held(monkeypatch, writer, "outbox_list", after=True)
    task = asyncio.create_task(put(writer, "late"))
    await held.there.wait()
    if how == "published":
        await put(other, "early")
    if how == "deleted":
        await other.delete("a")
    if how == "expired":
        await other._client.command("DEL", other._key("a"))
    assert await publish(other) == (["early"] if how == "published" else [])
    assert await other.outbox.waiting(10, SOON) == []
    held.go_on.set()
    await task
    assert await publish(other) == ["late"]
    assert await other.outbox.waiting(10, SOON) == []


@pytest.mark.parametrize("how", ["looks", "publishes", "deletes"])
async def test_an_entry_is_added_before_an_older_one_is_removed(
    cluster: Any, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Who found nothing is frozen before it removes the entry: by then it is another."""
    slow, other = cluster.open(), cluster.open()
    slow.publishes = other.publishes = True
    await put(other, "early")
    if how == "looks":  # at an entry that was left over
        await other._client.command("DEL", other._key("a"))
    held = Held(monkeypatch, slow, "outbox_unlist", after=False)
    task = asyncio.create_task(slow.delete("a") if how == "deletes" else publish(slow))
    await held.there.wait()
    await put(other, "late")
    held.go_on.set()
    await task
    assert await publish(other) == ["late"]


@pytest.mark.parametrize("how", ["take", "advance", "release"])
async def test_a_relay_is_killed_before_it_moves_the_entry(
    cluster: Any, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    store, other = cluster.open(), cluster.open()
    store.publishes = True
    await store.save(Tracker.from_dict("a", [user("1", 1), user("2", 1)]))
    lease = Lease("dead", now_ms(), now_ms() + 1000)
    batch = None if how == "take" else await store.outbox.take("a", lease, 1)
    held = Held(monkeypatch, store, f"outbox_{how}", after=True)
    if how == "take":
        task = asyncio.create_task(store.outbox.take("a", lease, 1))
    elif how == "advance":
        assert batch is not None
        task = asyncio.create_task(store.outbox.advance(batch, lease, 1))
    else:
        task = asyncio.create_task(store.outbox.release("a", "dead"))
    await held.there.wait()
    task.cancel()
    assert await publish(other) == (["2"] if how == "advance" else ["1", "2"])
    assert await other.outbox.waiting(10, SOON) == []


async def test_a_writer_is_killed_before_its_event_is_there(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry that it leaves is removed by whoever takes it."""
    writer, other = cluster.open(), cluster.open()
    writer.publishes = True
    held = Held(monkeypatch, writer, "outbox_list", after=True)
    task = asyncio.create_task(put(writer, "never"))
    await held.there.wait()
    for operation in list(writer._running._tasks):  # a mere cancellation lets it go to its end
        operation.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await other.outbox.waiting(10, SOON) == ["a"]
    assert (await other.outbox.backlog()).conversations == 0
    assert await other.outbox.take("a", Lease.of("relay"), 10) is None
    assert await other.outbox.waiting(10, SOON) == []
