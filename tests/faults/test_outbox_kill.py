"""A replica that is killed loses nothing that it committed, whatever it was just doing."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from contract_events import user
from faults import outbox_worker
from faults.outbox_worker import AFTER_COMMIT, BAD, NAMES, POINTS
from faults.talk import drained, heard

from ticketlock import Conversations
from ticketlock.endpoints.registry import create_tracker_store
from ticketlock.tracker.outbox import LEASE_MS, Lease

#: Every store that outlives a process.
BACKENDS = ("sqlite", "postgres", "redis", "mongo", "dynamo")

#: Milliseconds for which a relay takes a conversation; half a minute is too long for a test.
SHORT = 200


@pytest.fixture(params=BACKENDS)
def section(request: pytest.FixtureRequest, tracker_sections: Any) -> dict[str, Any]:
    return dict(tracker_sections(request.param))


@pytest.fixture
def workers(section: dict[str, Any], tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Makes replicas; see `outbox_worker`."""
    words = [json.dumps(section), str(tmp_path / "events"), str(SHORT)]
    command = [sys.executable, outbox_worker.__file__, *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield process
        assert process.stdin is not None  # it is a pipe
        process.stdin.close()


def told(workers: subprocess.Popen[str], point: str) -> dict[str, list[str]]:
    """What a replica tells of its turns until it dies at the point."""
    assert workers.stdin is not None  # they are pipes
    assert workers.stdout is not None
    workers.stdin.write(f"{point}\n")
    workers.stdin.flush()
    texts: dict[str, list[str]] = defaultdict(list)
    for line in workers.stdout:
        said = json.loads(line)
        if isinstance(said, int):
            assert said == -9, f"it did not come to: {point}"
            return texts
        texts[said[0]] += said[1:]
    raise AssertionError("the workers are gone")


@pytest.mark.slow
def test_replicas_that_are_killed(
    section: dict[str, Any], workers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other dies at each point, and each takes over what the others have left.

    In the end all that is stored was published in order, or is a dead letter; all that was told
    is stored; and repeats are what they repeat.
    """
    stored: dict[str, list[str]] = defaultdict(list)
    for point in (*random.sample(POINTS, len(POINTS)), AFTER_COMMIT):  # so that something is left
        for name, texts in told(workers, point).items():
            stored[name] += texts
    monkeypatch.setattr("ticketlock.tracker.outbox.LEASE_MS", SHORT)
    monkeypatch.setattr("ticketlock.publishing.relay.SWEEP_SECONDS", 0.05)
    monkeypatch.setattr("ticketlock.publishing.relay.LEFT_SECONDS", 0.05)
    path = tmp_path / "events"
    histories: dict[str, list[str]] = {}

    async def take_over() -> list[Any]:
        async with create_tracker_store(section) as store:
            for name in NAMES:
                tracker = await store.retrieve_full_tracker(name)
                histories[name] = [event.as_dict()["text"] for event in tracker.events]
            waits = (await store.outbox.backlog()).events
            assert waits, "nothing was left: the test tests nothing"
            broker = outbox_worker.Broker(str(path), outbox_worker.Death(POINTS[0]))
            async with Conversations(None, store, broker):
                await drained(store)
                return await store.outbox.dead_letters()

    letters = asyncio.run(take_over())
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    good = {name: [t for t in texts if not t.startswith(BAD)] for name, texts in histories.items()}
    bad = {name: [t for t in texts if t.startswith(BAD)] for name, texts in histories.items()}
    assert heard(lines) == good
    assert {n: [v.event["text"] for v in letters if v.sender_id == n] for n in NAMES} == bad
    assert len(lines) > sum(map(len, good.values())), "nothing was repeated, which is a surprise"
    for name, texts in stored.items():
        assert [text for text in histories[name] if text in set(texts)] == texts


async def test_a_relay_that_was_killed_is_taken_over(section: dict[str, Any]) -> None:
    """Its conversation is not free before its lease is over, and then it is, whole."""
    async with create_tracker_store(section) as store:
        store.publishes = True
        claim = await store.claim("a", 1, "x")
        await store.append(claim, [user(f"{n}", n) for n in range(5)])
        dead = Lease.of("dead")
        batch = await store.outbox.take("a", dead, 3)
        assert batch is not None
        await store.append(claim, [user("5", 5)])  # the lease is as long as it was
        assert await store.outbox.waiting(10, dead.until - 1) == []
        assert await store.outbox.take("a", Lease.of("next"), 3) is None
        assert await store.outbox.waiting(10, dead.until) == ["a"]
        after = Lease("next", dead.until, dead.until + LEASE_MS)
        batch = await store.outbox.take("a", after, 10)
        assert batch is not None
        assert [event["text"] for event in batch.events] == [*"012345"]
