"""Redis Cluster and Sentinel sets of child processes."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import redis
from redis.crc import key_slot

from ticketlock.redis.embedded import EmbeddedRedis, free_port


class RedisCluster:
    """Masters that own all slots together, and a replica of each if they are asked for.

    Args:
        options: more words for the command line of each server.
        binary: the server to run; default: what `server_binary` finds.
    """

    def __init__(
        self,
        masters: int = 3,
        *,
        replicas: bool = False,
        options: Sequence[str] = (),
        binary: str | None = None,
    ) -> None:
        self.servers: list[EmbeddedRedis] = []
        self.replicas: list[EmbeddedRedis] = []
        self._masters = masters
        self._with_replicas = replicas
        self._binary = binary
        self._options = [
            "--cluster-node-timeout", "2000",
            "--repl-diskless-sync-delay", "0", *options,
        ]  # fmt: skip

    def __enter__(self) -> RedisCluster:
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _start(self) -> None:
        for _ in range(self._masters):
            self.servers.append(self._server())
        clients = [self.client(server) for server in self.servers]
        for i, client in enumerate(clients):
            slots = self._slots(i)
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", slots[0], slots[-1])
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        if self._with_replicas:
            self.replicas = [self._server() for _ in self.servers]
            clients += [self.client(server) for server in self.replicas]
        for server in [*self.servers[1:], *self.replicas]:
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", server.port, _bus(server))
        _until(lambda: all(_state(client, len(clients)) for client in clients), "cluster")
        for master, replica in zip(clients, clients[self._masters :], strict=False):
            replica.execute_command("CLUSTER", "REPLICATE", master.execute_command("CLUSTER MYID"))
        for replica in clients[self._masters :]:
            _until(
                lambda c=replica: c.info("replication").get("master_link_status") == "up", "link"
            )
        count = len(self.replicas)
        _until(lambda: all(_replicas(client) == count for client in clients), "replicas")
        for client in clients:
            client.close()

    def _server(self) -> EmbeddedRedis:
        options = ["--cluster-enabled", "yes", "--cluster-port", str(free_port()), *self._options]
        return EmbeddedRedis(options, binary=self._binary).start()

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
        return [f"127.0.0.1:{server.port}" for server in self.servers]

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for server in [*self.servers, *self.replicas]:
            if server.process is not None:
                server.process.send_signal(signal.SIGCONT)  # a test may have stopped it
            server.__exit__(None, None, None)
        self.servers.clear()
        self.replicas.clear()


def _until(condition: Callable[[], object], what: str, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def _bus(server: EmbeddedRedis) -> str:
    return server._options[3]


def _state(client: Any, nodes: int) -> bool:
    info = client.cluster("INFO")
    return info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) == nodes


def _replicas(client: Any) -> int:
    """How many replicas a node knows."""
    return sum("slave" in node["flags"] for node in client.cluster("NODES").values())


class SentinelSet:
    """A master, a replica, and sentinels that know them.

    Args:
        users: ACL users of the sentinels, each as a line of their files; `admin` with `pw` may all.
        tls: words for the command lines that name the files of TLS; all speak TLS then.
        sentinels: how many there are.
        down_after: milliseconds after which they call the master down.
        options: more words for the command lines of master and replica.
        binary: the server to run; default: what `server_binary` finds.
    """

    def __init__(
        self,
        folder: Path,
        *,
        users: Sequence[str] = (),
        tls: Sequence[str] = (),
        sentinels: int = 1,
        down_after: int = 1000,
        options: Sequence[str] = (),
        binary: str | None = None,
    ) -> None:
        self._folder = folder
        self._users = users
        self._tls = tls
        self._count = sentinels
        self._down_after = down_after
        self._options = options
        self._binary = binary
        self.sentinels: list[_Sentinel] = []

    @property
    def sentinel(self) -> _Sentinel:
        return self.sentinels[0]

    def __enter__(self) -> SentinelSet:
        self.master = self._server().start()
        self.replica = self._server("--replicaof", "127.0.0.1", str(self.master.port)).start()
        for i in range(self._count):
            config = self._folder / f"sentinel{i}.conf"
            config.write_text("\n".join([*self.monitor(), *self._users]) + "\n")
            self.sentinels.append(_Sentinel(config, tls=self._tls, binary=self._binary).start())
        login: dict[str, Any] = {"username": "admin", "password": "pw"} if self._users else {}
        if self._tls:
            login |= {"ssl": True, "ssl_cert_reqs": "none", "ssl_check_hostname": False}
        for sentinel in self.sentinels:
            with redis.Redis(port=sentinel.port, decode_responses=True, **login) as client:
                _until(lambda c=client: self._complete(c), "sentinels and replica")
        return self

    def monitor(self) -> list[str]:
        """The lines of a sentinel's file."""
        return [
            f"sentinel monitor mymaster 127.0.0.1 {self.master.port} {self._count // 2 + 1}",
            f"sentinel down-after-milliseconds mymaster {self._down_after}",
            "sentinel failover-timeout mymaster 5000",
        ]

    def _server(self, *words: str) -> _TlsServer:
        return _TlsServer([*words, *self._options], tls=self._tls, binary=self._binary)

    def _complete(self, client: Any) -> bool:
        if not client.execute_command("SENTINEL", "REPLICAS", "mymaster"):
            return False
        others = client.execute_command("SENTINEL", "SENTINELS", "mymaster")
        return len(others) == self._count - 1

    @property
    def endpoints(self) -> list[str]:
        return [f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels]

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for server in (*self.sentinels, self.replica, self.master):
            if server.process is not None:
                server.process.send_signal(signal.SIGCONT)  # a test may have stopped it
            server.__exit__(None, None, None)


class _TlsServer(EmbeddedRedis):
    """A server that speaks nothing but TLS, if `tls` names the files that it needs for that."""

    def __init__(
        self, options: Sequence[str] = (), *, tls: Sequence[str] = (), binary: str | None = None
    ) -> None:
        super().__init__(options, binary=binary)
        self._tls = tls

    def _command(self, binary: str, folder: str) -> list[str]:
        words = super()._command(binary, folder)
        if self._tls:
            words += ["--port", "0", "--tls-port", str(self.port), "--tls-replication", "yes"]
        return [*words, *self._tls]


class _Sentinel(_TlsServer):
    """A sentinel takes its file first, and no persistence options."""

    def __init__(self, config: Path, *, tls: Sequence[str] = (), binary: str | None = None) -> None:
        super().__init__(tls=tls, binary=binary)
        self._config = config

    def _command(self, binary: str, folder: str) -> list[str]:
        words = [*super()._command(binary, folder)]
        for option in ("--save", "--appendonly"):
            del words[words.index(option) : words.index(option) + 2]
        return [binary, str(self._config), "--sentinel", *words[1:]]
