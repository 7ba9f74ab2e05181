"""Messages that come due later, on a real Redis: several processes, deaths, clocks, many of them."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from servers.inboxes import Desk, until
from servers.processes import popen

from ticketlock.inbox import mover
from ticketlock.inbox.redis import RedisInbox
from ticketlock.inbox.submission import Submission
from ticketlock.redis.embedded import EmbeddedRedis

pytestmark = pytest.mark.anyio
_prefixes = itertools.count(1)


@pytest.fixture
def prefix() -> str:
    return f"duelater{next(_prefixes)}"


@pytest.fixture
def client(redis_server: EmbeddedRedis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as made:
        yield made


@pytest.fixture
async def desks(redis_server: EmbeddedRedis, prefix: str) -> AsyncIterator[tuple[Desk, Desk]]:
    """Two processes' inboxes on one Redis."""
    async with Desk.on(redis_server.url, prefix) as one, Desk.on(redis_server.url, prefix) as two:
        yield one, two


def keys(client: redis.Redis, prefix: str, part: str = "") -> set[str]:
    found: Any = client.keys(f"{prefix}*{part}*")
    return set(found)


def redis_inbox(desk: Desk) -> RedisInbox:
    assert isinstance(desk.inbox, RedisInbox)
    desk.inbox.engine()
    return desk.inbox


def forget_outcomes(client: redis.Redis, prefix: str) -> None:
    """Let the time pass for which outcomes are kept, but not that of those still due."""
    for key in keys(client, prefix, ":expiries"):
        now = time.time() * 1000 + 3_600_000  # an hour later
        for id_, kept in client.zrange(key, 0, -1, withscores=True):
            if kept < now:
                client.zrem(key, id_)
                client.hdel(key.replace(":expiries", ":messages"), id_)


async def dies_before_removal(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """The mover of a process ends between submitting and removing."""
    inbox, died = redis_inbox(desk), asyncio.Event()

    async def done(*_: Any) -> None:
        died.set()
        await asyncio.sleep(3600)

    monkeypatch.setattr(inbox.later, "done", done)
    return died


async def test_one_dies_between_submitting_and_removing(
    desks: tuple[Desk, Desk], monkeypatch: pytest.MonkeyPatch, client: redis.Redis, prefix: str
) -> None:
    """The other submits it again and removes it: it was handled once, though its outcome is old."""
    one, two = desks
    monkeypatch.setattr(mover, "LEASE", 1000)
    died = await dies_before_removal(one, monkeypatch)
    one.serve()
    receipt = await one.later("c", "1", "name", after=0.1, window=2.0)
    await asyncio.wait_for(died.wait(), 5)
    await one.until("1")
    await one.inbox.close()
    assert await two.inbox.cancel("c", "name") == "submitted"
    assert [due.submitting for due in await two.inbox.due("c")] == [True]
    forget_outcomes(client, prefix)
    two.serve()
    await two.moved("c")
    await two.later("c", "2", after=0.1)
    await two.until("2")
    # Now it is kept for its own window, two seconds.
    [expiries] = keys(client, prefix, ":expiries")
    left = client.zscore(expiries, receipt.message_id.replace("@", "%40"))
    assert isinstance(left, float)
    assert left < time.time() * 1000 + 2500


async def test_settled_before_its_turn(
    desks: tuple[Desk, Desk], client: redis.Redis, prefix: str
) -> None:
    """One that waits is settled too: its outcome is kept for its own window."""
    one, _ = desks
    one.gate.clear()
    one.serve()
    await one.later("c", "1", after=0.1, window=2.0)
    await one.moved("c")
    await asyncio.sleep(0.3)
    one.gate.set()
    await one.until("1")
    await until(lambda: bool(keys(client, prefix, ":expiries")))
    [expiries] = keys(client, prefix, ":expiries")
    [(_, kept)] = client.zrange(expiries, 0, -1, withscores=True)
    assert kept < time.time() * 1000 + 2500


async def test_one_dies_before_submitting(
    desks: tuple[Desk, Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message is there still: the other submits it."""
    one, two = desks
    monkeypatch.setattr(mover, "LEASE", 1000)
    takes = asyncio.Event()

    async def submit_due(message: Submission, until: int) -> bool:
        takes.set()
        await asyncio.sleep(3600)
        return True

    monkeypatch.setattr(redis_inbox(one), "submit_due", submit_due)
    one.serve()
    await one.later("c", "1", "name", after=0.1)
    await asyncio.wait_for(takes.wait(), 5)
    await one.inbox.close()
    two.serve()
    await two.until("1")


@contextmanager
def worker(server: EmbeddedRedis, prefix: str, how: str) -> Iterator[subprocess.Popen[str]]:
    """A process that serves the inbox."""
    script = Path(__file__).parents[1] / "faults" / "later_worker.py"
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
    process = popen(
        [sys.executable, str(script), server.url, prefix, how],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


async def test_one_is_killed_between_submitting_and_removing(
    redis_server: EmbeddedRedis, prefix: str, client: redis.Redis
) -> None:
    """Real processes and SIGKILL: two others find what it left, and neither handles it again."""
    async with Desk.on(redis_server.url, prefix) as desk:
        with worker(redis_server, prefix, "stop") as one:
            await desk.later("c", "1", "name", after=0.1)
            assert one.stdout is not None
            said = [await asyncio.to_thread(one.stdout.readline) for _ in range(2)]
            assert sorted(said) == ["handled 1\n", "submitted\n"]
            one.kill()
        assert len(await desk.inbox.due("c")) == 1
        forget_outcomes(client, prefix)
        with worker(redis_server, prefix, "go") as two, worker(redis_server, prefix, "go") as three:
            await desk.moved("c")
            receipt = await desk.later("c", "2", after=0.1)
            assert (await desk.inbox.wait("c", receipt.message_id, 10)).state == "replied"
            two.kill()
            three.kill()
            assert two.stdout is not None
            assert three.stdout is not None
            assert two.stdout.read() + three.stdout.read() == "handled 2\n"


async def test_killed_again_and_again(
    redis_server: EmbeddedRedis, prefix: str, client: redis.Redis
) -> None:
    """Movers are killed while 600 come due: each gets one ticket, and none is left."""
    async with Desk.on(redis_server.url, prefix) as desk:
        at = time.time() + 1
        ids = [
            (f"c{i % 10}", (await desk.later(f"c{i % 10}", str(i), at=at + i / 150)).message_id)
            for i in range(600)
        ]
        with ExitStack() as stack:
            workers = [stack.enter_context(worker(redis_server, prefix, "go")) for _ in range(2)]
            for _ in range(4):
                workers.append(stack.enter_context(worker(redis_server, prefix, "go")))
                workers.pop(0).kill()
            for n in range(10):
                await desk.moved(f"c{n}")
            for name, message_id in ids:
                assert (await desk.inbox.wait(name, message_id, 10)).state == "replied"
        for n in range(10):
            counter: Any = client.get(
                f"{prefix}:concurrent_lock:{{c{n}}}:last_issued_ticket_number"
            )
            assert counter == "60"


async def test_replaced_while_it_is_submitted(
    desks: tuple[Desk, Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that has the name by now stays, and is handled too."""
    one, two = desks
    inbox, submit = redis_inbox(one), redis_inbox(one).submit_due
    replaced = asyncio.Event()

    async def submit_due(message: Submission, until: int) -> bool:
        submitted = await submit(message, until)
        if not replaced.is_set():
            await two.later("c", "2", "name", after=0.5)
            replaced.set()
        return submitted

    monkeypatch.setattr(inbox, "submit_due", submit_due)
    one.serve()
    await one.later("c", "1", "name", after=0.1)
    await one.until("1", "2")


async def test_a_mover_that_stood_still(
    desks: tuple[Desk, Desk], monkeypatch: pytest.MonkeyPatch, client: redis.Redis, prefix: str
) -> None:
    """What it submits after its time is refused, also if nothing is known of the message any more."""
    one, two = desks
    monkeypatch.setattr(mover, "LEASE", 1000)
    inbox, submit = redis_inbox(one), redis_inbox(one).submit_due
    wakes, late, answers = asyncio.Event(), asyncio.Event(), list[bool]()

    async def submit_due(message: Submission, until: int) -> bool:
        await wakes.wait()
        submitted = await submit(message, until)
        answers.append(submitted)
        late.set()
        return submitted

    monkeypatch.setattr(inbox, "submit_due", submit_due)
    one.serve()
    await one.later("c", "1", after=0.1, window=1.0)
    await one.later("c", "2", after=0.2)
    await asyncio.sleep(0.5)
    two.serve()
    await two.until("1", "2")
    await two.moved("c")
    for key in keys(client, prefix, "{c}"):
        client.delete(key)
    wakes.set()
    await asyncio.wait_for(late.wait(), 5)
    await asyncio.sleep(0.2)
    assert answers == [False]
    assert one.texts == []
    assert two.texts == ["1", "2"]


async def test_many_processes_move(redis_server: EmbeddedRedis, prefix: str) -> None:
    """Three processes, 300 messages due at once: each once, in order within its conversation."""
    async with (
        Desk.on(redis_server.url, prefix) as one,
        Desk.on(redis_server.url, prefix) as two,
        Desk.on(redis_server.url, prefix) as three,
    ):
        desks = (one, two, three)
        at = time.time() + 1
        for i in range(300):
            await one.later(f"c{i % 10}", f"{i // 10:02}", at=at + i / 1000)
        await until(lambda: time.time() > at + 0.3)  # all are due, so that each finds several
        for desk in desks:
            desk.serve()
        handled: list[tuple[str, str, str]] = []
        for desk in desks:
            desk.handled = handled
        await until(lambda: len(handled) == 300)
        assert len({id_ for _, id_, _ in handled}) == 300
        for n in range(10):
            of_it = [text for name, _, text in handled if name == f"c{n}"]
            assert of_it == sorted(of_it)


async def test_the_clock_of_redis_counts(
    desks: tuple[Desk, Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process whose clock is an hour ahead, or behind, moves nothing early or late."""
    one, two = desks
    real = time.time
    begun = real()
    monkeypatch.setattr(time, "time", lambda: real() + 3600)
    one.serve()
    await one.later("c", "1", after=1.0)
    await one.until("1")
    assert 1 <= real() - begun < 2.5
    monkeypatch.setattr(time, "time", lambda: real() - 3600)
    begun = real()
    await two.later("c", "2", at=begun + 1)
    await one.until("1", "2")
    assert 0.9 <= real() - begun < 2.5


async def test_very_early(desks: tuple[Desk, Desk]) -> None:
    """One is handled at its time, not at the next look."""
    one, two = desks
    one.serve()
    for i in range(5):
        receipt = await two.later("c", str(i), after=1.3)
        await one.until(*map(str, range(i + 1)))
        assert receipt.due is not None
        assert time.time() - receipt.due < 0.3


async def test_nothing_is_left(desks: tuple[Desk, Desk], client: redis.Redis, prefix: str) -> None:
    """Once all were handled or cancelled no key of them is there."""
    one, _ = desks
    one.serve()
    await one.later("e", "k", "kept", after=60)
    [counts] = [key for key in keys(client, prefix, "{later:") if client.type(key) == "hash"
                and client.hexists(key, "bytes")]  # fmt: skip
    kept = client.hgetall(counts)
    for i in range(5):
        await one.later("c", str(i), str(i), after=0.1)
    await one.later("c", "5", "0", after=0.2)
    await one.later("c", "x", "cancelled", after=60)
    await one.inbox.cancel("c", "cancelled")
    await one.later("d", "x", "cancelled", after=60)
    await one.inbox.cancel_all("d")
    await one.until("1", "2", "3", "4", "5")
    await one.moved("c")
    assert client.hgetall(counts) == kept
    await one.inbox.cancel_all("e")
    assert not keys(client, prefix, "{later:")
    # What is kept of the conversation goes with its own time, no later.
    await asyncio.sleep(0.2)
    for key in keys(client, prefix, "{c}"):
        ttl: Any = client.pttl(key)
        assert 0 < ttl <= 3_600_000


async def test_idle_costs(desks: tuple[Desk, Desk], client: redis.Redis) -> None:
    """What is far ahead costs no command: one look a second."""
    one, _ = desks
    one.serve()
    for i in range(200):
        await one.later(f"c{i}", "1", after=3600)
    await asyncio.sleep(1)
    stats: Any = client.info("commandstats")
    before = stats["cmdstat_evalsha"]["calls"]
    await asyncio.sleep(3)
    stats = client.info("commandstats")
    calls = stats["cmdstat_evalsha"]["calls"] - before
    assert 3 <= calls <= 15  # both looks, and the heartbeat


@pytest.mark.bound(120)
async def test_very_many(
    redis_server: EmbeddedRedis, prefix: str, client: redis.Redis, record_property: Any
) -> None:
    """20,000 cost memory only, and one that is due among them is handled within a second."""
    async with Desk.on(redis_server.url, prefix) as desk:
        memory: Any = client.info("memory")
        before, text = memory["used_memory"], "x" * 100
        for start in range(0, 20_000, 1000):
            more = range(start, start + 1000)
            await asyncio.gather(
                *(desk.later(f"user{i}", text, "reminder", after=3600 + i) for i in more)
            )
        memory = client.info("memory")
        each = (memory["used_memory"] - before) / 20_000
        record_property("bytes_each", each)
        print(f"{each:.0f} bytes for each of 20,000")
        assert each < 1000
        desk.serve()
        client.config_resetstat()
        begun = time.time()
        receipt = await desk.later("late", "1", after=1)
        await desk.until("1")
        assert receipt.due is not None
        late = time.time() - receipt.due
        stats: Any = client.info("commandstats")
        usec = stats["cmdstat_evalsha"]["usec_per_call"]
        print(f"{late * 1000:.0f} ms late, {usec} us a script, {time.time() - begun:.1f} s")
        assert late < 1
