"""What is sent behind the end of a turn must not overtake it when a script is unknown to the server.

A beat that still saw the turn here asks for it to be broken, if it was given up meanwhile.
"""

from __future__ import annotations

import asyncio

import pytest
import redis
from servers.replicated import client

from ticketlock import (
    ConcurrentRedisLockStore,
    Conversations,
    DuplicateMessage,
    Incoming,
    Turn,
)
from ticketlock.inbox.redis import RedisInbox
from ticketlock.inbox.served import Served
from ticketlock.locks.concurrent.engine import Engine
from ticketlock.locks.concurrent.heartbeat import Snapshot
from ticketlock.process import clock
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.redis.links import open_link
from ticketlock.redis.scripts import digest, load
from ticketlock.redis.settings import RedisSettings
from ticketlock.settings.section import Section
from ticketlock.stress.proxy import Proxy


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


async def test_the_reply_to_a_duplicate(own_redis: EmbeddedRedis) -> None:
    """Kept behind the release, one that comes in between would be given a turn."""
    async with (
        Proxy(own_redis.port) as proxy,
        ConcurrentRedisLockStore(host="127.0.0.1", port=proxy.port) as store,
        ConcurrentRedisLockStore(url=own_redis.url) as elsewhere,
    ):
        lock = store.lock("c", incoming=Incoming("m"))
        grant = await lock.acquire()
        proxy.latency = 0.5
        with client(own_redis) as server:
            forget_all_but(server, "release")
            store.answer(grant, {"m": "handled"})
            releasing = asyncio.create_task(lock.release())
            await asyncio.sleep(0.4)
        with pytest.raises(DuplicateMessage) as told:
            await elsewhere.lock("c", incoming=Incoming("m")).acquire()
        assert told.value.reply == "handled"
        await releasing


@pytest.mark.parametrize("before", [False, True])
async def test_the_reply_to_a_message_that_was_carried(
    own_redis: EmbeddedRedis, before: bool
) -> None:
    """Kept behind the release, that would have served its own ticket; it may be sent long before."""
    async with (
        ConcurrentRedisLockStore(url=own_redis.url) as store,
        ConcurrentRedisLockStore(url=own_redis.url) as elsewhere,
    ):
        async with store.lock("c") as grant:
            sender = elsewhere.lock("c", incoming=Incoming("m", text="text"))
            await sender.queue()
            assert await store.collect(grant) == [("m", "text")]
            with client(own_redis) as server:
                forget_all_but(server, "release")
            store.answer(grant, {"m": "handled"})
            if before:
                await asyncio.sleep(0.1)
        with pytest.raises(DuplicateMessage) as told:
            await sender.acquire()
        assert told.value.reply == "handled"


async def test_a_ticket_of_a_lock_that_is_withdrawn(own_redis: EmbeddedRedis) -> None:
    """As one that is given up, by another task than that which queues."""
    async with ConcurrentRedisLockStore(url=own_redis.url) as store:
        async with store.lock("c"):
            with client(own_redis) as server:
                forget_all_but(server, "withdraw")
                waiting = store.lock("c")
                queueing = asyncio.create_task(waiting.queue())
                await asyncio.sleep(0.1)
                waiting.withdraw()
                await asyncio.sleep(0.5)
                assert server.zcard(store.engine().scripts.keys.of("c")[2]) == 0
                await queueing


async def test_what_an_answer_has_sent(own_redis: EmbeddedRedis) -> None:
    """An answer beside the one that says so is a reason to send more: it comes behind."""
    script = "redis.call('RPUSH', 'order', 'script')"
    settings = RedisSettings.read(Section({"url": own_redis.url}, "test"))
    link = open_link(settings, prologue=[("SCRIPT", "LOAD", script)])
    await link.call(("PING",))
    ended = asyncio.get_running_loop().create_future()

    def more(_: object, answer: object) -> bool:
        ended.set_result(link.submit(("RPUSH", "order", "more")).future)
        return False

    with client(own_redis) as server:
        server.script_flush()
        server.client_pause(300)
        link.submit(("EVALSHA", digest(script), 0))
        link.submit(("PING",), callback=more)
        await (await ended)
        assert server.lrange("order", 0, -1) == ["script", "more"]
    await link.close()


@pytest.mark.parametrize("known", [1, 2])
async def test_tickets_in_their_order(own_redis: EmbeddedRedis, known: int) -> None:
    """One that is asked for alone has another script than two in one call: where a process has
    loaded one of them, the other is known too."""
    async with (
        ConcurrentRedisLockStore(url=own_redis.url) as store,
        ConcurrentRedisLockStore(url=own_redis.url) as other,
        store.lock("c"),
    ):
        await queued(other, "a", "b", "c")  # of several: the next two share a call
        if known == 1:
            await queued(other, "d")
        with client(own_redis) as server:
            server.script_flush()
            await queued(other, *"ef"[:known])
            server.client_pause(300)
        asked = [asyncio.create_task(queued(store, "g", *"cc"[: 3 - known]))]
        await asyncio.sleep(0.1)
        asked += [asyncio.create_task(queued(store, *"ccc"[:known]))]
        first, later = await asyncio.gather(*asked)
        assert [*first[1:], *later] == sorted([*first[1:], *later])


async def queued(store: ConcurrentRedisLockStore, *names: str) -> list[int]:
    """The numbers of new tickets, asked for at once."""
    return await asyncio.gather(*(store.lock(name).queue() for name in names))


@pytest.mark.parametrize("lost", [False, True])
async def test_the_end_of_a_message(
    own_redis: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    """A sender in another process would get an error, though it was handled, or comes again as its
    turn was lost."""
    beats: list[Snapshot] = []
    finish = RedisInbox.finish

    def finish_and_beat(self: RedisInbox, served: Served) -> asyncio.Future[None]:
        done = finish(self, served)
        engine, seen_now = self.engine(), beats[:]
        engine.on_heartbeat([], seen_now, [])
        engine.loop.call_later(0.05, engine.on_heartbeat, [], seen_now, [])
        beats.clear()
        return done

    monkeypatch.setattr(RedisInbox, "finish", finish_and_beat)
    store = ConcurrentRedisLockStore(url=own_redis.url)
    async with Conversations(store) as conversations:
        waiter = store.lock("c")

        async def handle(turn: Turn, message: dict[str, int]) -> str:
            if message["attempt"] == 1:
                await waiter.queue()
                beats.append(await seen(store.engine()))
                with client(own_redis) as server:
                    forget_all_but(server, "break")
                if lost:
                    store.engine().lost(turn.grant.request, "it is")
                    await asyncio.sleep(10)
            return "done"

        async with conversations.serving(handle):
            await conversations.submit("c", "text", message_id="m")
            async with Conversations(ConcurrentRedisLockStore(url=own_redis.url)) as elsewhere:
                outcome = await elsewhere.outcome("c", "m", wait=10)
            assert (outcome.state, outcome.text) == ("replied", '"done"')
            await waiter.acquire()
            await waiter.release()
            assert not store.engine()._leaving
