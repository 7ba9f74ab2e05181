"""What is sent behind the end of a turn must not overtake it when a script is unknown to the server.

A beat that still saw the turn here asks for it to be broken, if it was given up meanwhile.
"""

from __future__ import annotations

import asyncio

import pytest
import redis
from servers.replicated import client

from ticketlock import ConcurrentRedisLockStore, Conversations, Turn
from ticketlock.inbox.redis import RedisInbox
from ticketlock.inbox.served import Served
from ticketlock.locks.concurrent.engine import Engine
from ticketlock.locks.concurrent.heartbeat import Snapshot
from ticketlock.process import clock
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.redis.scripts import load


async def seen(engine: Engine) -> Snapshot:
    """What a beat sees of the only conversation in which this process waits."""
    sent_at, attended = clock(), engine.attended()
    now, (missing, _, bell) = await engine.link.call(engine.scripts.attend(attended))
    assert bell.startswith(b"grant ")
    return Snapshot(attended[0][0], sent_at, now, bool(missing), bell)


def forget_all_but(server: redis.Redis, script: str) -> None:
    """Empty the server's scripts but for one, and let it answer only when all of it was sent."""
    server.script_flush()
    server.script_load(load(script).source)
    server.client_pause(300)


async def test_a_ticket_that_is_given_up(own_redis: EmbeddedRedis) -> None:
    """Issued after its withdrawal, it would keep a place in the queue."""
    async with ConcurrentRedisLockStore(url=own_redis.url) as store:
        async with store.lock("c"):
            with client(own_redis) as server:
                forget_all_but(server, "withdraw")
                waiting = asyncio.create_task(store.lock("c").acquire())
                await asyncio.sleep(0.1)
                waiting.cancel()
                await asyncio.sleep(0.5)
                assert server.zcard(store.engine().scripts.keys.of("c")[2]) == 0


async def test_a_release(own_redis: EmbeddedRedis) -> None:
    async with ConcurrentRedisLockStore(url=own_redis.url) as store:
        engine = store.engine()
        holder, waiter = store.lock("c"), store.lock("c")
        grant = await holder.acquire()
        await waiter.queue()
        beat = await seen(engine)
        with client(own_redis) as server:
            forget_all_but(server, "break")
            releasing = asyncio.create_task(holder.release())
            await asyncio.sleep(0.1)
            engine.on_heartbeat([], [beat], [])
            await releasing  # else LockLost
        assert grant.reason is None
        await waiter.acquire()
        await waiter.release()
        assert not engine._leaving


async def test_the_end_of_a_message(
    own_redis: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sender in another process would get an error, though it was handled."""
    beats: list[Snapshot] = []
    finish = RedisInbox.finish

    def finish_and_beat(self: RedisInbox, served: Served) -> asyncio.Future[None]:
        done = finish(self, served)
        self.engine().on_heartbeat([], beats, [])
        return done

    monkeypatch.setattr(RedisInbox, "finish", finish_and_beat)
    store = ConcurrentRedisLockStore(url=own_redis.url)
    async with Conversations(store) as conversations:
        waiter = store.lock("c")

        async def handle(turn: Turn, message: str) -> str:
            await waiter.queue()
            beats.append(await seen(store.engine()))
            with client(own_redis) as server:
                forget_all_but(server, "break")
            return "done"

        async with conversations.serving(handle):
            await conversations.submit("c", "text", message_id="m")
            async with Conversations(ConcurrentRedisLockStore(url=own_redis.url)) as elsewhere:
                outcome = await elsewhere.outcome("c", "m", wait=10)
            assert (outcome.state, outcome.text) == ("replied", '"done"')
            await waiter.acquire()
            await waiter.release()
            assert not store.engine()._leaving
