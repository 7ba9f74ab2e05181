"""`type: redis` beside a Rasa server: the documented document is all that both have."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator

import pytest
import redis
from conftest import until
from servers.rasa_locks import RasaLocks

from ticketlock import LockStore, RedisLockStore
from ticketlock.process import clock
from ticketlock.redis.embedded import EmbeddedRedis


@pytest.fixture
def rasa(own_redis: EmbeddedRedis) -> Iterator[RasaLocks]:
    locks = RasaLocks(own_redis.url, poll=0.05)
    yield locks
    locks.close()


def numbers(rasa: RasaLocks) -> list[int]:
    return [ticket["number"] for ticket in rasa.read("c") or []]


async def waits(rasa: RasaLocks, *tickets: int) -> None:
    """Until the document has these tickets."""
    await until(lambda: numbers(rasa) == list(tickets), f"the tickets are {tickets}")


async def test_a_turn_outlives_rasas_rewrites(own_redis: EmbeddedRedis, rasa: RasaLocks) -> None:
    """Rasa stores number and time alone, also a time of before a renewal."""
    async with RedisLockStore(url=own_redis.url) as store:
        store.lease = 1.0
        async with store.lock("c") as grant:
            end = clock() + 2.5
            while clock() < end:
                before = rasa.read("c") or []
                await until(lambda: (rasa.read("c") or []) != before, "it was renewed")  # noqa: B023
                rasa.write("c", before)
                await until(lambda: (rasa.read("c") or []) != before, "it was renewed")  # noqa: B023
            grant.ensure_held()
            assert numbers(rasa) == [grant.number]
        assert numbers(rasa) == []


async def test_a_waiter_keeps_its_one_ticket(own_redis: EmbeddedRedis, rasa: RasaLocks) -> None:
    """Rewritten between each of its polls, it is still one ticket, and gets its turn."""
    first = rasa.issue("c")
    async with RedisLockStore(url=own_redis.url) as store:
        store.lease = 1.0
        waiting = asyncio.create_task(store.lock("c", wait_timeout=20).acquire())
        await waits(rasa, 0, 1)
        seen = set()
        end = clock() + 2.5
        while clock() < end:
            rasa.poll("c")
            seen.add(tuple(numbers(rasa)))
            await asyncio.sleep(0.02)
        assert seen == {(0, 1)}
        rasa.finish("c", first)
        assert (await asyncio.wait_for(waiting, 5)).number == 1


async def test_a_ticket_that_a_stale_write_dropped_is_put_back(
    own_redis: EmbeddedRedis, rasa: RasaLocks
) -> None:
    """Rasa reads, a ticket of ours is issued, Rasa stores what it had read."""
    rasa.issue("c")
    async with RedisLockStore(url=own_redis.url) as store:
        before = rasa.read("c")
        assert before is not None
        waiting = asyncio.create_task(store.lock("c", wait_timeout=20).acquire())
        await waits(rasa, 0, 1)
        rasa.write("c", before)
        await waits(rasa, 0, 1)
        rasa.finish("c", 0)
        assert (await asyncio.wait_for(waiting, 5)).number == 1


async def test_no_two_tickets_have_one_number(own_redis: EmbeddedRedis, rasa: RasaLocks) -> None:
    """Its number was given to a ticket of Rasa meanwhile: it takes another one, behind that."""
    rasa.issue("c")
    async with RedisLockStore(url=own_redis.url) as store:
        before = rasa.read("c")
        assert before is not None
        lock = store.lock("c", wait_timeout=20)
        waiting = asyncio.create_task(lock.acquire())
        await waits(rasa, 0, 1)
        rasa.write("c", [*before, {"number": 1, "expires": before[0]["expires"]}])
        await waits(rasa, 0, 1, 2)
        rasa.finish("c", 0)
        await waits(rasa, 1, 2)
        assert not waiting.done()
        rasa.finish("c", 1)
        assert (await asyncio.wait_for(waiting, 5)).number == 2


async def test_a_ticket_is_not_put_back_before_the_turn_that_runs(
    own_redis: EmbeddedRedis, rasa: RasaLocks
) -> None:
    """Rasa does not notice when its turn is taken from it, so nothing takes it."""
    rasa.issue("c")
    async with RedisLockStore(url=own_redis.url) as store:
        waiting = asyncio.create_task(store.lock("c", wait_timeout=20).acquire())
        await waits(rasa, 0, 1)
        later = {"number": 7, "expires": (rasa.read("c") or [])[0]["expires"]}
        rasa.write("c", [later])
        await waits(rasa, 7, 8)
        assert not waiting.done()
        rasa.finish("c", 7)
        assert (await asyncio.wait_for(waiting, 5)).number == 8


async def test_a_ticket_that_comes_again_does_not_end_the_turn(
    own_redis: EmbeddedRedis, rasa: RasaLocks
) -> None:
    """A stale write of Rasa brings back a finished ticket before the one that is served."""
    first = rasa.issue("c")
    async with RedisLockStore(url=own_redis.url) as store:
        store.lease = 1.0
        lock = store.lock("c", wait_timeout=20)
        waiting = asyncio.create_task(lock.acquire())
        await waits(rasa, 0, 1)
        gone = (rasa.read("c") or [])[0]
        rasa.finish("c", first)
        grant = await asyncio.wait_for(waiting, 5)
        rasa.write("c", [gone, *(rasa.read("c") or [])])
        start = clock()
        await until(lambda: grant.lease_until > start + 1.5, "it was renewed")
        grant.ensure_held()
        await lock.release()
        assert numbers(rasa) == [0]


async def test_replicas_of_0_4_keep_their_tickets(own_redis: EmbeddedRedis) -> None:
    """They know their tickets by a field that is stored again as it was."""
    ticket = {"number": 0, "expires": 4e9, "owner": "one"}
    document = {"conversation_id": "c", "tickets": [json.dumps(ticket)], "fence": 7}
    with redis.Redis.from_url(own_redis.url) as client:
        client.set("lock:c", json.dumps(document))
        async with RedisLockStore(url=own_redis.url) as store:
            await store.issue_ticket("c", 30)
            stored = json.loads(client.get("lock:c"))
    assert [json.loads(text).get("owner") for text in stored["tickets"]] == ["one", None]
    assert stored["fence"] == 7


async def test_both_serve_one_conversation(own_redis: EmbeddedRedis) -> None:
    """A Rasa server, which polls as it does, and two replicas: one turn at a time, in order."""
    rasa = RasaLocks(own_redis.url)
    inside: list[int] = []
    turns: list[int] = []

    async def enter(place: int) -> None:
        inside.append(place)
        turns.append(place)
        assert inside == [place]
        await asyncio.sleep(0.01)
        inside.remove(place)

    async def theirs(place: int) -> None:
        async with rasa.turn("c"):
            await enter(place)

    async def ours(store: LockStore, place: int) -> None:
        async with store.lock("c", wait_timeout=20):
            await enter(place)

    async with (
        RedisLockStore(url=own_redis.url) as one,
        RedisLockStore(url=own_redis.url) as two,
    ):
        first = rasa.issue("c")
        burst = []
        for place in range(9):
            turn = theirs(place) if place % 3 == 1 else ours((one, two)[place % 2], place)
            burst.append(asyncio.create_task(turn))
            await waits(rasa, *range(place + 2))
        rasa.finish("c", first)
        await asyncio.wait_for(asyncio.gather(*burst), 60)
    assert turns == list(range(9))
    rasa.close()


async def test_the_lease_is_a_key(own_redis: EmbeddedRedis, rasa: RasaLocks) -> None:
    """As long as Rasa's own tickets, where the event loop of a Rasa server may stand still."""
    async with RedisLockStore(url=own_redis.url, lease=60) as store, store.lock("c"):
        [ticket] = rasa.read("c") or []
        assert 55 < ticket["expires"] - time.time() <= 60


async def test_a_long_lease_finds_a_dropped_ticket_as_soon(
    own_redis: EmbeddedRedis, rasa: RasaLocks
) -> None:
    """Until then the next ticket's turn runs beside this one."""
    async with RedisLockStore(url=own_redis.url, lease=60) as store:
        grant = await store.lock("c").acquire()
        rasa.write("c", [])
        await asyncio.wait_for(grant.lost.wait(), 4)
