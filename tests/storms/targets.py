"""What a storm rages on: one server, a cluster of three masters with a replica each, or a master
with two replicas and three sentinels.

A *shard* is a part of the conversations and the servers that have them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry
from servers.processes import free_port
from servers.redis_sets import RedisCluster, _Sentinel

from ticketlock.redis.embedded import EmbeddedRedis


def client(server: EmbeddedRedis, seconds: float = 2) -> redis.Redis:
    return redis.Redis(
        port=server.port,
        db=0,
        decode_responses=True,
        socket_timeout=seconds,
        retry=Retry(NoBackoff(), 0),
    )


def asks(server: EmbeddedRedis, *words: object, seconds: float = 2) -> Any:
    """What a server answers; None when it does not, or with an error."""
    with client(server, seconds) as asking:
        try:
            return asking.execute_command(*words)
        except redis.RedisError:
            return None


def role(server: EmbeddedRedis) -> list[Any]:
    return asks(server, "ROLE") or [None]


def until(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)


class One:
    """One server."""

    shards = 1
    #: Whether servers have replicas that take over.
    replicated = False

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> One:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def _start(self) -> None:
        self.servers = [self._stack.enter_context(EmbeddedRedis())]

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def store(self) -> dict[str, Any]:
        """The keys of a lock store on it."""
        return {"url": self.servers[0].url}

    def shard_of(self, conversation: str) -> int:
        return 0

    def of_shard(self, shard: int) -> list[EmbeddedRedis]:
        return self.servers

    def master(self, shard: int) -> EmbeddedRedis | None:
        """The server that takes the writes of a shard; None while there is none."""
        found = [server for server in self.of_shard(shard) if role(server)[0] == "master"]
        return found[0] if len(found) == 1 else None

    def replicas(self, shard: int) -> list[EmbeddedRedis]:
        return [server for server in self.of_shard(shard) if role(server)[0] == "slave"]

    def healthy(self) -> bool:
        """Whether it is as it was at the start, up to who is master."""
        return all(
            self.master(shard) is not None
            and all(role(replica)[3] == "connected" for replica in self.replicas(shard))
            and len(self.replicas(shard)) == len(self.of_shard(shard)) - 1
            for shard in range(self.shards)
        )

    def refusing(self) -> set[int]:
        """The shards whose master runs, and refuses commands because of the others."""
        return set()

    def fail_over(self, shard: int) -> bool:
        """Ask for another master; whether it was begun."""
        return False

    def start_again(self, server: EmbeddedRedis, shard: int) -> None:
        """Start a server that was killed."""
        server.start()


class Cluster(One):
    """Three masters, and a replica of each."""

    shards = 3
    replicated = True

    def _start(self) -> None:
        made = self._stack.enter_context(RedisCluster(self.shards))
        masters = list(made.servers)
        options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]
        # A dead master is not to stop the others: what is lost there meanwhile is our doing.
        alone = ["--cluster-require-full-coverage", "no"]
        options += alone
        for master in masters:
            master._options += alone  # when it is started again
            with client(master) as asking:
                asking.config_set("repl-diskless-sync-delay", 0)
                asking.config_set("cluster-require-full-coverage", "no")
        for master in masters:
            port = str(free_port())
            replica = EmbeddedRedis([*options, "--cluster-port", port])
            made.servers.append(self._stack.enter_context(replica))
            asks(replica, "CLUSTER", "MEET", "127.0.0.1", master.port, master._options[3])
        self.servers = made.servers
        until(lambda: all(self._knows(server) for server in self.servers), "all nodes know all")
        for master, replica in zip(masters, self.servers[self.shards :], strict=True):
            asks(replica, "CLUSTER", "REPLICATE", asks(master, "CLUSTER", "MYID"))
        until(self.healthy, "replicas follow")

    @property
    def store(self) -> dict[str, Any]:
        endpoints = [f"127.0.0.1:{server.port}" for server in self.servers]
        return {"deployment_mode": "cluster", "endpoints": endpoints}

    def shard_of(self, conversation: str) -> int:
        tag = conversation.replace("%", "%25").replace("}", "%7D")
        share = 16384 // self.shards + 1
        return key_slot(f"{{{tag}}}".encode()) // share

    def of_shard(self, shard: int) -> list[EmbeddedRedis]:
        return [self.servers[shard], self.servers[shard + self.shards]]

    def healthy(self) -> bool:
        return super().healthy() and all(self._agrees(server) for server in self.servers)

    def _agrees(self, server: EmbeddedRedis) -> bool:
        """Whether a server knows who is a replica: only then it lets that one take over."""
        nodes = asks(server, "CLUSTER NODES") or {}
        flags = [node["flags"].removeprefix("myself,") for node in nodes.values()]
        return self._knows(server) and sorted(flags) == ["master"] * 3 + ["slave"] * 3

    def _knows(self, server: EmbeddedRedis) -> bool:
        info = asks(server, "CLUSTER INFO") or {}
        known = info.get("cluster_known_nodes"), info.get("cluster_state")
        return known == (str(2 * self.shards), "ok")

    def refusing(self) -> set[int]:
        found = set()
        for place, server in enumerate(self.servers):
            info = asks(server, "CLUSTER INFO", seconds=0.3)
            if info and info["cluster_state"] != "ok" and role(server)[0] == "master":
                found.add(place % self.shards)
        return found

    def fail_over(self, shard: int) -> bool:
        return asks(self.replicas(shard)[0], "CLUSTER", "FAILOVER") is not None


class Sentinels(One):
    """A master, two replicas, three sentinels."""

    replicated = True

    def _start(self) -> None:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        master = self._stack.enter_context(EmbeddedRedis())
        with client(master) as asking:
            asking.config_set("repl-diskless-sync-delay", 0)
        words = ["--replicaof", "127.0.0.1", str(master.port)]
        self.servers = [master]
        for _ in range(2):
            self.servers.append(self._stack.enter_context(EmbeddedRedis(words)))
        until(self._linked, "replicas follow")
        self.sentinels = []
        for number in range(3):
            config = folder / f"{number}.conf"
            config.write_text(
                f"sentinel monitor mymaster 127.0.0.1 {master.port} 2\n"
                "sentinel down-after-milliseconds mymaster 1000\n"
                "sentinel failover-timeout mymaster 3000\n"
            )
            self.sentinels.append(self._stack.enter_context(_Sentinel(config)))
        until(self.healthy, "the sentinels know all")

    @property
    def store(self) -> dict[str, Any]:
        endpoints = [f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels]
        return {"deployment_mode": "sentinel", "endpoints": endpoints}

    def _linked(self) -> bool:
        return super().healthy()

    def healthy(self) -> bool:
        """The sentinels know one master, which is one, two replicas, and each other."""
        master = self.master(0)
        for sentinel in self.sentinels:
            found = asks(sentinel, "SENTINEL MASTER", "mymaster") or {}
            if master is None or int(found.get("port", 0)) != master.port:
                return False
            if found["flags"] != "master" or int(found["num-other-sentinels"]) != 2:
                return False
            replicas = asks(sentinel, "SENTINEL SLAVES", "mymaster") or []
            if sum(one["flags"] == "slave" for one in replicas) != 2:
                return False
        return self._linked()

    def fail_over(self, shard: int) -> bool:
        return asks(self.sentinels[0], "SENTINEL", "FAILOVER", "mymaster") is not None

    def start_again(self, server: EmbeddedRedis, shard: int) -> None:
        """As a replica of the master that there is now."""
        master = self.master(shard)
        assert master is not None
        server._options = ["--replicaof", "127.0.0.1", str(master.port)]
        server.start()


TARGETS: dict[str, type[One]] = {"server": One, "cluster": Cluster, "sentinel": Sentinels}
