"""A Redis Cluster of child processes."""

from __future__ import annotations

import itertools
import random
import socket
from collections.abc import Sequence
from functools import partial
from typing import Any

import redis
from redis.crc import key_slot

from ..errors import LockStoreConnectionError
from ..redis.embedded import EmbeddedRedis
from .door import BUS, Door
from .starting import ended, until, version_of

#: Of nodes; those of their buses are below the range of outgoing connections, too.
_PORTS = range(16_000, 20_000)
#: How often a node is started: its ports may be taken before it listens.
_STARTS = 5


class RedisCluster:
    """Masters that own all slots together, and a replica of each if they are asked for.

    Args:
        options: more words for the command line of each server.
        binary: the server to run; default: what `server_binary` finds.
        doors: one for each server, masters first; default: none, others reach them directly.
    """

    def __init__(
        self,
        masters: int = 3,
        *,
        replicas: bool = False,
        options: Sequence[str] = (),
        binary: str | None = None,
        doors: Sequence[Door] = (),
    ) -> None:
        self.servers: list[EmbeddedRedis] = []
        self.replicas: list[EmbeddedRedis] = []
        self._masters = masters
        self._with_replicas = replicas
        self._binary = binary
        self._doors = doors
        self._options = [
            "--cluster-enabled", "yes", "--cluster-node-timeout", "2000",
            "--repl-diskless-sync-delay", "0", *options,
        ]  # fmt: skip

    def __enter__(self) -> RedisCluster:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        for _ in range(self._masters):
            self.servers.append(self._server())
        clients = [self.client(server) for server in self.servers]
        for i, client in enumerate(clients):
            client.execute_command("CLUSTER", "ADDSLOTS", *self._slots(i))
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        if self._with_replicas:
            for _ in self.servers:
                self.replicas.append(self._server())
            clients += [self.client(server) for server in self.replicas]
        for place, server in enumerate([*self.servers, *self.replicas]):
            if place:
                clients[0].execute_command(
                    "CLUSTER", "MEET", "127.0.0.1", *self._ports(place, server)
                )
        until(lambda: all(_state(client, len(clients)) for client in clients), "cluster")
        for master, replica in zip(clients, clients[self._masters :], strict=False):
            replica.execute_command("CLUSTER", "REPLICATE", master.execute_command("CLUSTER MYID"))
        for replica in clients[self._masters :]:
            until(partial(_linked, replica), "link")
        count = len(self.replicas)
        until(lambda: all(_replicas(client) == count for client in clients), "replicas")
        for client in clients:
            client.close()

    def _server(self) -> EmbeddedRedis:
        place = len(self.servers) + len(self.replicas)
        options = list(self._options)
        if self._doors:
            door = self._doors[place]
            options += ["--cluster-announce-ip", "127.0.0.1"]
            options += ["--cluster-announce-port", str(door.proxy.port)]
            options += ["--cluster-announce-bus-port", str(door.bus.port)]
            options += door.from_where(version_of(self._binary))
        for start in range(_STARTS):
            server = EmbeddedRedis(options, port=_free_port(), binary=self._binary)
            try:
                server.start()
            except LockStoreConnectionError:
                server.__exit__()
                if start == _STARTS - 1:
                    raise
                continue
            if self._doors:
                self._doors[place].leads_to(server)
            return server
        raise AssertionError("the last start has raised")

    def _ports(self, place: int, server: EmbeddedRedis) -> tuple[int, int]:
        """By which others reach a server and its bus."""
        if self._doors:
            return self._doors[place].proxy.port, self._doors[place].bus.port
        return server.port, server.port + BUS

    def _slots(self, i: int) -> range:
        share = 16384 // self._masters + 1
        return range(i * share, min((i + 1) * share, 16384))

    @staticmethod
    def client(server: EmbeddedRedis) -> Any:
        """A client of one server."""
        return redis.Redis(port=server.port, decode_responses=True)

    def conversations(self, master: int, count: int) -> list[str]:
        """So many conversation ids whose slots that master had in the beginning."""
        slots = self._slots(master)
        found = (f"c{i}" for i in itertools.count() if key_slot(b"c%d" % i) in slots)
        return list(itertools.islice(found, count))

    @property
    def endpoints(self) -> list[str]:
        return [f"127.0.0.1:{self._ports(i, s)[0]}" for i, s in enumerate(self.servers)]

    def __exit__(self, *_: object) -> None:
        ended([*self.servers, *self.replicas])
        self.servers.clear()
        self.replicas.clear()


def _free_port() -> int:
    """A free port whose bus is free, too."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as one, socket.socket() as bus:
            try:
                one.bind(("127.0.0.1", port))
                bus.bind(("127.0.0.1", port + BUS))
            except OSError:
                continue
            return port


def _state(client: Any, nodes: int) -> bool:
    info = client.cluster("INFO")
    return info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) == nodes


def _linked(replica: Any) -> bool:
    found = replica.info("replication").get("master_link_status")
    return bool(found == "up")


def _replicas(client: Any) -> int:
    """How many replicas a node knows."""
    return sum("slave" in node["flags"] for node in client.cluster("NODES").values())
