"""The bells of the inbox in a Redis Cluster: who serves hears each once, and no node repeats one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from integration.test_cluster_bells import BINARIES, heard, link_of, published
from redis.crc import key_slot
from servers.inboxes import Desk, until
from servers.redis_sets import RedisCluster
from servers.slots import move

from ticketlock import ConcurrentRedisLockStore
from ticketlock.inbox.redis import RedisInbox
from ticketlock.inbox.scripts import CLUSTER_SHARDS
from ticketlock.inbox.submission import Submission
from ticketlock.process import clock


@pytest.fixture
def cluster() -> Iterator[RedisCluster]:
    with RedisCluster() as cluster:
        yield cluster


class Process:
    """The inbox of a process of its own.

    Attributes:
        bells: the kinds of the bells of the inbox that it hears, after `listen`.
    """

    def __init__(self, store: ConcurrentRedisLockStore) -> None:
        self.store, self.inbox = store, RedisInbox(store)
        self.desk = Desk(self.inbox)
        self.bells: list[bytes] = []

    @classmethod
    @asynccontextmanager
    async def on(cls, cluster: RedisCluster, **login: Any) -> AsyncIterator[Process]:
        async with ConcurrentRedisLockStore(
            deployment_mode="cluster", endpoints=cluster.endpoints, **login
        ) as store:
            process = cls(store)
            try:
                yield process
            finally:
                await process.desk.close()

    @property
    def channels(self) -> set[str]:
        """The channels of the inbox that it listens to, on all nodes."""
        return {one for node in link_of(self.store)._nodes.values() for one in node._shared}

    async def serve(
        self, cluster: RedisCluster, room: int = 10, channels: int = CLUSTER_SHARDS
    ) -> None:
        """Serve, with a connection to each node and a channel for each shard of the index."""
        self.desk.serve(room)
        await self.connect(cluster)
        await until(lambda: len(self.channels) == channels)
        self.bells = heard(self.store)

    async def connect(self, cluster: RedisCluster) -> None:
        """Connect to each node: each connection publishes once, to see whether it may."""
        for i in range(len(cluster.servers)):
            async with self.store.lock(cluster.conversations(i, 1)[0]):
                pass

    async def submit(self, *names: str) -> None:
        for name in names:
            await self.inbox.submit(Submission(name, "1", name))


@pytest.mark.parametrize("server", BINARIES)
async def test_the_bells_of_the_inbox_stay_on_their_node(server: str) -> None:
    """Two processes hear of each message that a third accepts, once each."""
    with RedisCluster(binary=BINARIES[server]()) as cluster:
        async with (
            Process.on(cluster) as sender,
            Process.on(cluster) as one,
            Process.on(cluster) as two,
        ):
            for process in (one, two):
                await process.serve(cluster)
            await sender.connect(cluster)
            await sender.submit("connected")
            await until(lambda: len(one.bells) == len(two.bells) == 1)
            before = published(cluster)
            names = [f"m{i}" for i in range(30)]
            await sender.submit(*names)
            await until(lambda: len(one.desk.handled) + len(two.desk.handled) == 31)
            await until(lambda: len(one.bells) == len(two.bells) == 31)
            assert set(one.bells + two.bells) == {b"smessage"}
            assert published(cluster) == before


async def test_a_bell_is_no_reason_to_look_at_all_shards(cluster: RedisCluster) -> None:
    """A process takes what bells name, and looks no more often than without them."""
    async with Process.on(cluster) as sender, Process.on(cluster) as desk:
        await desk.serve(cluster)
        look, looks = desk.inbox.look, list[float]()
        original = look._look

        async def noted() -> None:
            looks.append(clock())
            await original()

        look._look = noted  # type: ignore[method-assign]
        for i in range(40):
            await sender.submit(f"m{i}")
            await until(lambda n=i: len(desk.desk.handled) > n)
        await until(lambda: len(looks) > 1)
        assert len(desk.bells) >= 40
        assert min(later - before for before, later in pairwise(looks)) > 0.59


async def test_what_is_left_for_lack_of_room_waits_for_no_lease(cluster: RedisCluster) -> None:
    """Two processes that are full hear of a conversation, and look again when they have room."""
    async with Process.on(cluster) as one, Process.on(cluster) as two:
        for process in (one, two):
            process.desk.gate.clear()
            await process.serve(cluster, room=1)
        for i, process in enumerate((one, two)):  # both are full, and have more of the same
            for text in ("1", "2", "3"):
                await process.inbox.submit(Submission(f"busy{i}", text, text))
        await one.submit("waits")
        await until(lambda: one.inbox.look.due > 0 and two.inbox.look.due > 0)
        for process in (one, two):
            process.desk.gate.set()
        await until(lambda: len(one.desk.handled) + len(two.desk.handled) == 7, 3)


async def test_a_shard_whose_slot_moves(cluster: RedisCluster) -> None:
    """Its channel goes with it: all are rung until the next look, and then it is heard again."""
    async with Process.on(cluster) as sender, Process.on(cluster) as desk:
        await desk.serve(cluster)
        index = sender.inbox.connected().index
        slot = key_slot(index.of("anna").encode())
        owner = slot // (16384 // 3 + 1)
        before = {
            address: set(node._shared) for address, node in link_of(desk.store)._nodes.items()
        }
        move(cluster, slot, owner, (owner + 1) % 3)
        channel = index.bell(index.shard("anna"))
        old = ("127.0.0.1", cluster.servers[owner].port)
        assert channel in before[old]
        await until(lambda: channel not in link_of(desk.store).node(old)._shared)
        await until(lambda: channel in desk.channels)
        desk.bells.clear()
        await sender.submit("anna")
        await desk.desk.until("anna", seconds=5)
        assert desk.bells == [b"smessage"]


async def test_a_connection_that_breaks(cluster: RedisCluster) -> None:
    """On the next one the process listens to the same shards."""
    async with Process.on(cluster) as sender, Process.on(cluster) as desk:
        await desk.serve(cluster)
        index = sender.inbox.connected().index
        channel = index.bell(index.shard("anna"))
        owner = key_slot(channel.encode()) // (16384 // 3 + 1)
        await sender.submit("connected")
        await desk.desk.until("connected")
        desk.inbox.look._engine.link.listen = lambda _: None  # type: ignore[method-assign]
        with cluster.client(cluster.servers[owner]) as client:
            before = client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            assert before > 0
            await until(lambda: client.execute_command("PUBSUB", "SHARDNUMSUB", channel)[1] == 1)
        desk.bells.clear()
        await sender.submit("anna")
        await desk.desk.until("connected", "anna")
        assert set(desk.bells) == {b"smessage"}


async def test_a_user_without_the_right_to_sharded_channels(cluster: RedisCluster) -> None:
    """As before Redis 7 all nodes are rung, and a node refuses one channel, once."""
    for server in cluster.servers:
        with cluster.client(server) as client:
            rights = ("+@all", "-ssubscribe", "-spublish")
            client.execute_command("ACL", "SETUSER", "bot", "on", ">pw", "~*", "&*", *rights)
    login = {"username": "bot", "password": "pw"}
    async with Process.on(cluster, **login) as sender, Process.on(cluster, **login) as desk:
        await desk.serve(cluster, channels=0)
        await sender.submit("anna")
        await desk.desk.until("anna", seconds=5)
        await until(lambda: len(desk.bells) == 3)
        assert set(desk.bells) == {b"message"}
