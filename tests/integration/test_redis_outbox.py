"""What Redis's outbox must do beyond the contract of all outboxes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from contract_events import user
from redis import Redis, RedisCluster
from servers.documented import FORMATS
from servers.tracker_stores import Stores
from ticketlock.stores.redis.client import NEEDED_COMMANDS

from ticketlock.endpoints.registry import create_tracker_store
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.tracker.outbox import LEASE_MS, DeadLetter, Lease, now_ms
from ticketlock.tracker.store import TrackerStore
from ticketlock.tracker.tracker import Tracker

SOON = 10**13


@pytest.fixture(params=["redis", "redis-cluster"])
def stores(request: pytest.FixtureRequest, tracker_sections: Any) -> Stores:
    return Stores(request.param, tracker_sections(request.param))


@contextmanager
def plain(stores: Stores) -> Iterator[Any]:
    """A client of the stores' server that is not ours."""
    if stores.backend == "redis":
        client: Any = Redis(port=stores.section["port"])
    else:
        host, port = stores.section["endpoints"][0].split(":")
        client = RedisCluster(host=host, port=int(port))
    with client:
        yield client


def hash_of(stores: Stores, sender_id: str = "a") -> str:
    return f"{stores.section['key_prefix']}:tracker:{{{sender_id}}}:events"


async def write(store: TrackerStore, *texts: str, fence: int = 1) -> None:
    claim = await store.claim("a", fence, "writer")
    await store.append(claim, [user(text, 1) for text in texts])


async def publish(store: TrackerStore, limit: int = 1000) -> list[Any]:
    lease = Lease.of("relay")
    batch = await store.outbox.take("a", lease, limit)
    assert batch is not None
    await store.outbox.advance(batch, lease, batch.first + len(batch.events))
    return [event["text"] for event in batch.events]


async def test_what_waits_does_not_expire(stores: Any) -> None:
    store = stores.open(record_exp=10)
    store.publishes = True
    with plain(stores) as client:
        await write(store, "1", "2")
        assert client.pttl(hash_of(stores)) == -1
        claim = await store.claim("a", 2, "reader")
        assert client.pttl(hash_of(stores)) == -1
        store.publishes = False
        await store.append(claim, [user("3", 1)])
        assert client.pttl(hash_of(stores)) == -1
        await publish(store, 1)
        assert client.pttl(hash_of(stores)) == -1
        await publish(store)
        assert 0 < client.pttl(hash_of(stores)) <= 10_000


async def test_a_parcel_is_not_large(stores: Any) -> None:
    """About 1 MB, however many events are asked for; a larger event comes alone."""
    store = stores.open()
    store.publishes = True
    small, large = "x" * 300_000, "x" * 3_000_000
    await write(store, small, small, large, small, small, small, small)
    assert [[len(text) for text in await publish(store)] for _ in range(4)] == [
        [300_000, 300_000],
        [3_000_000],
        [300_000] * 3,
        [300_000],
    ]


async def test_documented_histories_do_not_wait(stores: Any) -> None:
    """They were before the outbox; what is appended to them waits, in a history of its own."""
    FORMATS[stores.backend].write(stores.section, "a", [user("old", 0)])
    store = stores.open()
    store.publishes = True
    before = now_ms()
    await store.save(Tracker.from_dict("a", [user("old", 0), user("new", 1)]))
    batch = await store.outbox.take("a", Lease.of("relay"), 10)
    assert batch is not None
    assert [event["text"] for event in batch.events] == ["new"]
    assert batch.first == 1
    assert before - 1000 < batch.history < now_ms() + 1000


async def test_a_replacement_keeps_the_history_and_its_numbers(stores: Any) -> None:
    store = stores.open()
    store.publishes = True
    await write(store, "old")
    first = await store.outbox.take("a", Lease.of("relay"), 10)
    assert await publish(store) == ["old"]
    for number in range(3):
        await store.update(Tracker.from_dict("a", [user(f"{number}", 1)]))
        batch = await store.outbox.take("a", Lease.of("relay"), 10)
        assert first is not None
        assert batch is not None
        assert (batch.history, batch.first) == (first.history, number + 1)
        assert await publish(store) == [f"{number}"]


async def test_a_repeated_advance_changes_nothing(stores: Any) -> None:
    """Its reply was lost: it is ours as before."""
    store = stores.open()
    store.publishes = True
    await write(store, "1", "2")
    lease = Lease.of("relay")
    batch = await store.outbox.take("a", lease, 10)
    assert batch is not None
    assert await store.outbox.advance(batch, lease, 1) is True
    assert await store.outbox.advance(batch, lease, 1) is True
    assert await publish(store) == ["2"]
    assert await store.outbox.advance(batch, lease, 1) is False


async def test_an_entry_that_the_server_lost(stores: Any) -> None:
    """It is added again by the next write, once nobody has taken it for long."""
    store = stores.open()
    store.publishes = True
    await write(store, "1")
    with plain(stores) as client:
        client.delete(f"{stores.section['key_prefix']}:tracker_outbox:{{waiting}}")
        client.hset(hash_of(stores), "outbox_at", now_ms() - 3 * LEASE_MS)
    assert await store.outbox.waiting(10, SOON) == []
    await write(store, "2", fence=2)
    assert await store.outbox.waiting(10, SOON) == ["a"]
    assert await publish(store) == ["1", "2"]
    assert await store.outbox.waiting(10, SOON) == []


async def test_a_lease_of_a_clock_that_is_off_is_found(stores: Any) -> None:
    store = stores.open()
    store.publishes = True
    await write(store, "1")
    far = now_ms() + 100 * LEASE_MS
    await store.outbox.take("a", Lease("ahead", far, far + LEASE_MS), 10)
    assert await store.outbox.waiting(10, now_ms()) == ["a"]


async def test_a_large_backlog_is_counted_in_pages(stores: Any) -> None:
    store = stores.open()
    store.publishes = True
    for start in range(0, 1200, 100):
        names = (f"{number}" for number in range(start, start + 100))
        await asyncio.gather(*(store.save(Tracker.from_dict(n, [user("x", 1)] * 2)) for n in names))
    backlog = await store.outbox.backlog()
    assert (backlog.conversations, backlog.events) == (1200, 2400)
    assert len(await store.keys()) == 1200


async def test_the_rights_that_are_named_suffice() -> None:
    rights = f"bot on >secret {NEEDED_COMMANDS} ~x:tracker:* ~x:tracker_outbox:*"
    with EmbeddedRedis(["--user", *rights.split()]) as server:
        section = {"type": "redis", "port": server.port, "key_prefix": "x"}
        async with create_tracker_store(
            {**section, "username": "bot", "password": "secret", "record_exp": 10}
        ) as store:
            store.publishes = True
            await write(store, "1", "2")
            assert await store.outbox.waiting(10, SOON) == ["a"]
            assert (await store.outbox.backlog()).events == 2
            assert await publish(store, 1) == ["1"]
            await store.outbox.release("a", "relay")
            assert await publish(store) == ["2"]
            letter = DeadLetter("a", 1, 0, user("1", 1), "refused")
            await store.outbox.add_dead_letters([letter])
            assert await store.outbox.dead_letters() == [letter]
            assert await store.outbox.remove_dead_letter(letter)
            assert await store.keys() == ["a"]
            assert await store.delete("a")
