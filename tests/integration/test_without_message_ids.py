"""Clients without message ids, as Rasa's: what a replica that stops answers them comes once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from integration.test_server import said, texts
from servers.bot_server import Replica, replicas, write_files
from ticketlock.stores import RedisTrackerStore

from ticketlock import (
    ConcurrentRedisLockStore,
    Conversations,
    TrackerStoreConnectionError,
    Turn,
)
from ticketlock.events import BotUttered, UserUttered
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.server import Message, Settings
from ticketlock.server.bot import echo
from ticketlock.server.errors import Draining, TurnTimeout
from ticketlock.server.handling import Handler


async def send(http: httpx.AsyncClient, at: Replica, text: str, seconds: float) -> httpx.Response:
    body = {"sender": "anna", "message": text, "metadata": {"seconds": seconds}}
    return await http.post(f"{at.url}/webhooks/rest/webhook", json=body)


class Deployment:
    """Two replicas, and a look at the turns of their conversation."""

    def __init__(self, server: EmbeddedRedis, folder: Path) -> None:
        write_files(folder, server.url)
        prefix = "".join(filter(str.isalnum, folder.name))
        self.locks = ConcurrentRedisLockStore(url=server.url, key_prefix=prefix)

    async def until(self, waiting: int, number: int) -> None:
        """Wait until so many messages wait behind the turn of a ticket."""

        async def look() -> None:
            while True:
                found = await self.locks.inspect("anna")
                turn = found.holder.number if found.holder is not None else 0
                if (found.waiting_count, turn) == (waiting, number):
                    return
                await asyncio.sleep(0.01)

        await asyncio.wait_for(look(), 20)


async def test_one_that_waits_is_taken_back(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    """It gets 503 and is sent again: without that its place would be kept, and it handled twice."""
    deployment = Deployment(redis_server, tmp_path)
    async with httpx.AsyncClient(timeout=30) as http, deployment.locks:
        with replicas(tmp_path, [], []) as (one, two):
            tasks: list[asyncio.Task[Any]] = [asyncio.create_task(send(http, two, "1", 3))]
            await deployment.until(0, 1)
            tasks.append(asyncio.create_task(send(http, one, "2", 0)))
            await deployment.until(1, 1)
            one.process.send_signal(signal.SIGTERM)
            refused = await tasks[1]
            assert refused.status_code == 503, refused.text
            assert refused.json()["reason"] == "Draining"
            await deployment.until(0, 1)
            assert (await send(http, two, "2", 0)).status_code == 200
            assert (await tasks[0]).status_code == 200
            assert await texts(http, two, "anna") == said("1", "2")


async def test_one_that_another_replica_handles(
    redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    """It gets its reply, although the replica at which its sender waits is stopped."""
    deployment = Deployment(redis_server, tmp_path)
    async with httpx.AsyncClient(timeout=30) as http, deployment.locks:
        with replicas(tmp_path, [], []) as (one, two):
            first = asyncio.create_task(send(http, two, "1", 1))
            await deployment.until(0, 1)
            second = asyncio.create_task(send(http, one, "2", 3))
            await deployment.until(1, 1)
            await deployment.until(0, 2)  # at the replica that had the turn before
            one.process.send_signal(signal.SIGTERM)
            answer = await second
            assert answer.status_code == 200, answer.text
            assert answer.json()[-1]["text"] == "done: 2"
            assert (await first).status_code == 200
            assert await texts(http, two, "anna") == said("1", "2")


async def test_one_that_was_sent_in_the_moment_of_the_stop(redis_server: EmbeddedRedis) -> None:
    """Its turn may be granted to the replica that stops, which puts it back: it is taken back then.

    Left there, it held up its conversation as long as no replica was there to handle it.
    """
    ends = set()
    for steps in range(12):  # of the event loop, between the message and the stop
        locks = ConcurrentRedisLockStore(url=redis_server.url, key_prefix=f"moment{steps}")
        async with Conversations(locks) as conversations:
            handler = Handler(conversations, echo, Settings())
            await handler.handle(Message("hello", "before"))  # it is connected
            sending = asyncio.create_task(handler.handle(Message("1", "anna", may_repeat=False)))
            while not handler.jobs.senders:
                await asyncio.sleep(0)
            for _ in range(steps):
                await asyncio.sleep(0)
            await handler.drain(3)
            (end,) = await asyncio.gather(sending, return_exceptions=True)
            ends.add(type(end))
            assert await conversations.inbox.waiting("anna") == []
            assert (await locks.inspect("anna")).waiting_count == 0
    assert Draining in ends <= {Draining, list}


async def test_one_whose_turn_ends_while_the_replica_stops(redis_server: EmbeddedRedis) -> None:
    """It gets its reply, however often the replica asks meanwhile what has become of it."""
    locks = ConcurrentRedisLockStore(url=redis_server.url, key_prefix="ends")
    async with Conversations(locks) as conversations:
        handler = Handler(conversations, echo, Settings())
        handler.serve()
        for number in range(200):
            message = Message(f"{number}", "anna", may_repeat=False)
            sending = asyncio.create_task(handler.handle(message))
            while not (unnamed := handler.jobs.unnamed):
                await asyncio.sleep(0)
            (sent,) = unnamed
            while not sent.number:
                await asyncio.sleep(0)
            await handler._take_back(sent, 3, None)
            try:
                assert [reply["text"] for reply in await sending] == [f"{number}"]
            except Draining:  # it was withdrawn: then it is not in the history
                assert await conversations.inbox.waiting("anna") == []


@pytest.mark.parametrize("how", ["gone", "late"])
async def test_one_whose_sender_has_left_holds_up_no_stop(
    redis_server: EmbeddedRedis, how: str
) -> None:
    """The stop waits for its turn, and not for the outcome, whose sender has left."""
    begun, end = asyncio.Event(), asyncio.Event()

    async def bot(turn: Turn, message: Message) -> AsyncIterator[str]:
        begun.set()
        await end.wait()
        yield message.text

    locks = ConcurrentRedisLockStore(url=redis_server.url, key_prefix=f"left{how}")
    async with Conversations(locks) as conversations:
        seconds = 0.5 if how == "late" else 60.0
        handler = Handler(conversations, bot, Settings(request_timeout=seconds))
        sending = asyncio.create_task(handler.handle(Message("1", "anna", may_repeat=False)))
        await begun.wait()
        draining = asyncio.create_task(handler.drain(20))
        await asyncio.sleep(0.1)
        if how == "gone":
            sending.cancel()
        (left,) = await asyncio.gather(sending, return_exceptions=True)
        assert isinstance(left, asyncio.CancelledError if how == "gone" else TurnTimeout)
        assert not draining.done()
        end.set()
        await asyncio.wait_for(draining, 10)
        assert await conversations.inbox.waiting("anna") == []
        tracker = await conversations.tracker_store.retrieve("anna")
        assert tracker is not None
        assert [event.text for event in tracker.events if isinstance(event, BotUttered)] == ["1"]


async def test_one_whose_tracker_store_is_away(
    redis_server: EmbeddedRedis, own_redis: EmbeddedRedis
) -> None:
    """Its sender gets the error and sends it again: left in its place, it would come twice."""
    locks = ConcurrentRedisLockStore(url=redis_server.url, key_prefix="away")
    histories = RedisTrackerStore(url=own_redis.url, socket_timeout=1)
    async with Conversations(locks, histories) as conversations:
        handler = Handler(conversations, echo, Settings())
        await handler.handle(Message("1", "anna", may_repeat=False))  # it goes with its Redis
        own_redis.stop()
        with pytest.raises(TrackerStoreConnectionError):
            await handler.handle(Message("2", "anna", may_repeat=False))
        assert await conversations.inbox.waiting("anna") == []
        own_redis.start()
        await handler.handle(Message("2", "anna", may_repeat=False))
        found = await conversations.tracker_store.retrieve("anna")
        assert found is not None
        assert [e.text for e in found.events if isinstance(e, UserUttered)] == ["2"]
