"""Redis Cluster and Sentinel sets of child processes, also with TLS and users."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis

from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.stress import cluster_set, sentinel_set
from ticketlock.stress.door import BUS
from ticketlock.stress.starting import until

__all__ = ["RedisCluster", "SentinelSet"]


class RedisCluster(cluster_set.RedisCluster):
    """One that grows, and keeps a client of each master."""

    def __init__(self, masters: int = 3, **more: Any) -> None:
        super().__init__(masters, **more)
        self._admins: dict[int, Any] = {}

    def __enter__(self) -> RedisCluster:
        super().__enter__()
        return self

    def add_master(self) -> EmbeddedRedis:
        """Start a master more, the last of `servers`, which owns no slot yet."""
        self.servers.append(new := self._server())
        for server in (*self.servers, *self.replicas):
            with self.client(server) as client:
                if server is self.servers[0]:
                    client.execute_command("CLUSTER", "MEET", "127.0.0.1", new.port, new.port + BUS)
                until(lambda c=client: self._complete(c), "cluster")  # type: ignore[misc]
        return new

    def _complete(self, client: Any) -> bool:
        info = client.cluster("INFO")
        nodes = len(self.servers) + len(self.replicas)
        return info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) == nodes

    def admin(self, master: int) -> Any:
        """A client of a master that is kept until the end."""
        port = self.servers[master].port
        if port not in self._admins:
            self._admins[port] = redis.Redis(port=port, decode_responses=True, client_name="admin")
        return self._admins[port]

    def __exit__(self, *error: object) -> None:
        for client in self._admins.values():
            client.close()
        super().__exit__(*error)


class SentinelSet(sentinel_set.SentinelSet):
    """A master, a replica, and sentinels that know them.

    Args:
        users: ACL users of the sentinels, each as a line of their files; `admin` with `pw` may all.
        tls: words for the command lines that name the files of TLS; all speak TLS then.
        more: those of `sentinel_set.SentinelSet`.
    """

    def __init__(
        self, folder: Path, *, users: Sequence[str] = (), tls: Sequence[str] = (), **more: Any
    ) -> None:
        super().__init__(folder, **more)
        self._users = users
        self._tls = tls

    def monitor(self) -> list[str]:
        return [*super().monitor(), *self._users]

    def made(self, words: Sequence[str]) -> EmbeddedRedis:
        return _TlsServer(words, tls=self._tls, binary=self._binary)

    def watching(self, config: Path, words: Sequence[str]) -> EmbeddedRedis:
        return _TlsSentinel(config, words, tls=self._tls, binary=self._binary)

    def asking(self, sentinel: EmbeddedRedis) -> Any:
        login: dict[str, Any] = {"username": "admin", "password": "pw"} if self._users else {}
        if self._tls:
            login |= {"ssl": True, "ssl_cert_reqs": "none", "ssl_check_hostname": False}
        return redis.Redis(port=sentinel.port, decode_responses=True, **login)


class _TlsServer(EmbeddedRedis):
    """A server that speaks nothing but TLS, if `tls` names the files that it needs for that."""

    def __init__(
        self, options: Sequence[str] = (), *, tls: Sequence[str] = (), binary: str | None = None
    ) -> None:
        super().__init__(options, binary=binary)
        self._tls = tls

    def _command(self, binary: str, folder: str) -> list[str]:
        return [*super()._command(binary, folder), *_tls_words(self._tls, self.port)]


class _TlsSentinel(sentinel_set.Sentinel):
    def __init__(self, *words: Any, tls: Sequence[str], binary: str | None) -> None:
        super().__init__(*words, binary=binary)
        self._tls = tls

    def _command(self, binary: str, folder: str) -> list[str]:
        return [*super()._command(binary, folder), *_tls_words(self._tls, self.port)]


def _tls_words(tls: Sequence[str], port: int) -> list[str]:
    own = ["--port", "0", "--tls-port", str(port), "--tls-replication", "yes"] if tls else []
    return [*own, *tls]
