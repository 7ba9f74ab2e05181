"""What a run troubles: one server, a cluster of three masters with a replica each, or a master with
two replicas and three sentinels.

A *shard* is a part of the conversations and the servers that have them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from ..files.scratch import Scratch
from ..redis.embedded import EmbeddedRedis
from .cluster_set import RedisCluster
from .door import Door
from .sentinel_set import SentinelSet
from .starting import until


def client(server: EmbeddedRedis, seconds: float = 2, database: int = 0) -> redis.Redis:
    """A client of one server, past its door."""
    return redis.Redis(
        port=server.port, db=database, decode_responses=True, socket_timeout=seconds,
        retry=Retry(NoBackoff(), 0),
    )  # fmt: skip


def asks(server: EmbeddedRedis, *words: object, seconds: float = 2) -> Any:
    """What a server answers; None when it does not, or with an error."""
    with client(server, seconds) as asking:
        try:
            return asking.execute_command(*words)
        except redis.RedisError:
            return None


def role(server: EmbeddedRedis, seconds: float = 2) -> list[Any]:
    """The answer to ROLE; [None] if there is none."""
    return asks(server, "ROLE", seconds=seconds) or [None]


class One:
    """One server; a context manager.

    Args:
        options: more words for the command line of each server.
        binary: the server to run; default: what `server_binary` finds.
        doors: one for each server of `doors_needed`; default: none.
        patience: milliseconds after which others take a server for dead; default: as soon as is usual
            in tests of failovers.

    Attributes:
        servers: those with conversations.
        shards: how many there are.
    """

    shards = 1
    #: Whether servers have replicas that take over.
    replicated = False
    #: How many servers have doors.
    doors_needed = 1
    #: For reports.
    title = "one server"

    def __init__(
        self, *, options: Sequence[str] = (), binary: str | None = None,
        doors: Sequence[Door] = (), patience: int | None = None,
    ) -> None:  # fmt: skip
        self.patience = patience
        self.options, self.binary, self.doors = list(options), binary, doors
        self.servers: list[EmbeddedRedis] = []
        self._stack = ExitStack()

    def __enter__(self) -> One:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def _start(self) -> None:
        server = EmbeddedRedis(self.options, binary=self.binary)
        self.servers = [self._stack.enter_context(server)]
        if self.doors:
            self.doors[0].leads_to(server)

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def store(self) -> dict[str, Any]:
        """The keys of a lock store on it."""
        port = self.doors[0].proxy.port if self.doors else self.servers[0].port
        return {"url": f"redis://127.0.0.1:{port}/1"}

    def shard_of(self, conversation: str) -> int:
        return 0

    def of_shard(self, shard: int) -> list[EmbeddedRedis]:
        return self.servers

    def master(self, shard: int, but: EmbeddedRedis | None = None) -> EmbeddedRedis | None:
        """The server that takes the writes of a shard; None while there is none.

        Args:
            but: one that is not asked.
        """
        asked = [server for server in self.of_shard(shard) if server is not but]
        found = [server for server in asked if role(server)[0] == "master"]
        return found[0] if len(found) == 1 else None

    def living_master(self, shard: int) -> EmbeddedRedis:
        """The master, which may be too busy to answer at once. Raises ServersFailed."""
        found: list[EmbeddedRedis | None] = []

        def there() -> bool:
            found.append(self.master(shard))
            return found[-1] is not None

        until(there, f"shard {shard} has a master")
        assert found[-1] is not None
        return found[-1]

    def replicas(self, shard: int) -> list[EmbeddedRedis]:
        return [server for server in self.of_shard(shard) if role(server)[0] == "slave"]

    def healthy(self) -> bool:
        """Whether it is as it was at the start, up to who is master."""
        return all(self._shard_healthy(shard) for shard in range(self.shards))

    def _shard_healthy(self, shard: int) -> bool:
        # Asked once: a role may change between two questions.
        roles = [role(server) for server in self.of_shard(shard)]
        links = [one[3] for one in roles if one[0] == "slave"]
        complete = links == ["connected"] * (len(roles) - 1)
        return complete and self.master(shard) is not None

    def names(self, master: EmbeddedRedis) -> bool:
        """Whether those whom clients ask say that it is the master."""
        return True

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
    doors_needed = 6
    title = "a cluster of 3 masters with a replica each"

    def _start(self) -> None:
        # A dead master is not to stop the others: what is lost there meanwhile is our doing.
        options = [*self.options, "--cluster-require-full-coverage", "no"]
        if self.patience is not None:
            options += ["--cluster-node-timeout", str(self.patience)]
        made = self._stack.enter_context(
            RedisCluster(
                self.shards, replicas=True, options=options, binary=self.binary, doors=self.doors
            )
        )
        self.servers = [*made.servers, *made.replicas]
        self._endpoints = made.endpoints
        until(self.healthy, "replicas follow")

    @property
    def store(self) -> dict[str, Any]:
        return {"deployment_mode": "cluster", "endpoints": self._endpoints}

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

    def fail_over(self, shard: int) -> bool:
        return asks(self.replicas(shard)[0], "CLUSTER", "FAILOVER") is not None


class Sentinels(One):
    """A master, two replicas, three sentinels."""

    replicated = True
    doors_needed = 6
    title = "a master with 2 replicas and 3 sentinels"

    def _start(self) -> None:
        folder = self._stack.enter_context(Scratch("sentinels")).path
        options = ["--repl-diskless-sync-delay", "0", *self.options]
        self._set = self._stack.enter_context(
            SentinelSet(
                folder, sentinels=3, replicas=2, options=options, binary=self.binary,
                doors=self.doors, down_after=self.patience or 1000,
            )
        )  # fmt: skip
        self.servers, self.sentinels = self._set.servers, self._set.sentinels
        until(self.healthy, "the sentinels know all")

    @property
    def store(self) -> dict[str, Any]:
        return {"deployment_mode": "sentinel", "endpoints": self._set.endpoints}

    def healthy(self) -> bool:
        """The sentinels know one master, which is one, two replicas, and each other."""
        master = self.master(0)
        for sentinel in self.sentinels:
            found = asks(sentinel, "SENTINEL MASTER", "mymaster") or {}
            if master is None or int(found.get("port", 0)) != self._port(master):
                return False
            if found["flags"] != "master" or int(found["num-other-sentinels"]) != 2:
                return False
            replicas = asks(sentinel, "SENTINEL SLAVES", "mymaster") or []
            if sum(one["flags"] == "slave" for one in replicas) != 2:
                return False
        return super().healthy()

    def names(self, master: EmbeddedRedis) -> bool:
        words = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")
        found = [asks(sentinel, *words) for sentinel in self.sentinels]
        return all(one is not None and int(one[1]) == self._port(master) for one in found)

    def _port(self, server: EmbeddedRedis) -> int:
        return self._set.port(self.servers.index(server))

    def fail_over(self, shard: int) -> bool:
        return asks(self.sentinels[0], "SENTINEL", "FAILOVER", "mymaster") is not None

    def start_again(self, server: EmbeddedRedis, shard: int) -> None:
        """As a replica of the master that there is now."""
        # One has taken over, but it may be too busy to answer at once.
        master = until(lambda: self.master(shard, but=server), "the new master")
        assert master is not None
        place = self.servers.index(server)
        words = self._set.follow(self.servers.index(master))
        server._options = [*words, *self._set.options(place)]  # noqa: SLF001
        server.start()


TARGETS: dict[str, type[One]] = {"server": One, "cluster": Cluster, "sentinel": Sentinels}
