"""Redis Cluster and Sentinel sets of child processes."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Any

import redis

from ticketlock.embedded import EmbeddedRedis, free_port


class RedisCluster:
    """Three masters that own all slots."""

    def __init__(self, masters: int = 3) -> None:
        self.servers: list[EmbeddedRedis] = []
        self._masters = masters

    def __enter__(self) -> RedisCluster:
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _start(self) -> None:
        for _ in range(self._masters):
            options = ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
            options += ["--cluster-node-timeout", "2000"]
            self.servers.append(EmbeddedRedis(options).start())
        clients = [redis.Redis(port=server.port, decode_responses=True) for server in self.servers]
        share = 16384 // self._masters + 1
        for i, client in enumerate(clients):
            slots = range(i * share, min((i + 1) * share, 16384))
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", slots[0], slots[-1])
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        for server in self.servers[1:]:
            bus = server._options[3]
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", server.port, bus)
        end = time.monotonic() + 20
        while not all(_state(client, len(clients)) for client in clients):
            assert time.monotonic() < end, "the cluster does not come up"
            time.sleep(0.05)
        for client in clients:
            client.close()

    @property
    def endpoints(self) -> list[str]:
        return [f"127.0.0.1:{server.port}" for server in self.servers]

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for server in self.servers:
            server.__exit__(None, None, None)
        self.servers.clear()


def _state(client: Any, nodes: int) -> bool:
    info = client.cluster("INFO")
    return info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) == nodes


class SentinelSet:
    """A master, a replica, and one sentinel that knows them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> SentinelSet:
        self.master = EmbeddedRedis().start()
        master = str(self.master.port)
        self.replica = EmbeddedRedis(["--replicaof", "127.0.0.1", master]).start()
        config = self._folder / "sentinel.conf"
        config.write_text(
            f"sentinel monitor mymaster 127.0.0.1 {master} 1\n"
            "sentinel down-after-milliseconds mymaster 1000\n"
            "sentinel failover-timeout mymaster 5000\n"
        )
        self.sentinel = _Sentinel(config).start()
        with redis.Redis(port=self.sentinel.port, decode_responses=True) as client:
            end = time.monotonic() + 20
            while not client.execute_command("SENTINEL", "REPLICAS", "mymaster"):
                assert time.monotonic() < end, "the sentinel does not find the replica"
                time.sleep(0.05)
        return self

    @property
    def endpoints(self) -> list[str]:
        return [f"127.0.0.1:{self.sentinel.port}"]

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for server in (self.sentinel, self.replica, self.master):
            server.__exit__(None, None, None)


class _Sentinel(EmbeddedRedis):
    """A sentinel takes its file first, and no persistence options."""

    def __init__(self, config: Path) -> None:
        super().__init__()
        self._config = config

    def _command(self, binary: str, folder: str) -> list[str]:
        words = [binary, str(self._config), "--sentinel", "--bind", "127.0.0.1"]
        return [*words, "--port", str(self.port), "--dir", folder]
