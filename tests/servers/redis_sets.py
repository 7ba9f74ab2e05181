"""Redis Cluster and Sentinel sets of child processes, also with TLS and users."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis

from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.stress import sentinel_set
from ticketlock.stress.cluster_set import RedisCluster

__all__ = ["RedisCluster", "SentinelSet"]


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
