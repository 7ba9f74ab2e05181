"""A master, its replicas and sentinels as child processes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import redis

from ..redis.embedded import EmbeddedRedis
from .door import Door
from .starting import ended, until, version_of


class SentinelSet:
    """A master, its replicas, and sentinels that know them.

    Args:
        folder: for the files of the sentinels.
        sentinels, replicas: how many there are.
        down_after: milliseconds after which they call the master down.
        options: more words for the command lines of master and replicas.
        binary: the server to run; default: what `server_binary` finds.
        doors: one for each server, the master first, then sentinels; default: none.
    """

    def __init__(
        self,
        folder: Path,
        *,
        sentinels: int = 1,
        replicas: int = 1,
        down_after: int = 1000,
        options: Sequence[str] = (),
        binary: str | None = None,
        doors: Sequence[Door] = (),
    ) -> None:
        self._folder = folder
        self._count = sentinels
        self._of_replicas = replicas
        self._down_after = down_after
        self._options = list(options)
        self._binary = binary
        self._doors = doors
        self.servers: list[EmbeddedRedis] = []
        self.sentinels: list[EmbeddedRedis] = []

    @property
    def master(self) -> EmbeddedRedis:
        """The one at the start."""
        return self.servers[0]

    @property
    def replica(self) -> EmbeddedRedis:
        return self.servers[1]

    @property
    def sentinel(self) -> EmbeddedRedis:
        return self.sentinels[0]

    def __enter__(self) -> SentinelSet:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        for place in range(1 + self._of_replicas):
            words = self.follow(0) if place else []
            self.servers.append(self.made([*words, *self.options(place)]).start())
            if self._doors:
                self._doors[place].leads_to(self.servers[place])
        for place in range(self._count):
            config = self._folder / f"sentinel{place}.conf"
            config.write_text("\n".join(self.monitor()) + "\n")
            words = []
            if self._doors:
                door = self._doors[len(self.servers) + place]
                words = door.from_where(version_of(self._binary))
            self.sentinels.append(self.watching(config, words).start())
        for sentinel in self.sentinels:
            with self.asking(sentinel) as client:
                until(partial(self._complete, client), "sentinels and replicas")

    def options(self, place: int) -> list[str]:
        """Of a server, but for its master."""
        if not self._doors:
            return self._options
        door = self._doors[place]
        words = ["--replica-announce-ip", "127.0.0.1"]
        words += ["--replica-announce-port", str(door.proxy.port)]
        return [*self._options, *words, *door.from_where(version_of(self._binary))]

    def port(self, place: int) -> int:
        """By which others reach a server."""
        return self._doors[place].proxy.port if self._doors else self.servers[place].port

    def follow(self, place: int) -> list[str]:
        """Options by which a server is a replica of another one."""
        return ["--replicaof", "127.0.0.1", str(self.port(place))]

    def monitor(self) -> list[str]:
        """The lines of a sentinel's file."""
        return [
            # Else they name the address from which they connect, at which they do not listen.
            *(["sentinel announce-ip 127.0.0.1"] if self._doors else []),
            f"sentinel monitor mymaster 127.0.0.1 {self.port(0)} {self._count // 2 + 1}",
            f"sentinel down-after-milliseconds mymaster {self._down_after}",
            "sentinel failover-timeout mymaster 5000",
        ]

    def made(self, words: Sequence[str]) -> EmbeddedRedis:
        """A server that is not started yet."""
        return EmbeddedRedis(words, binary=self._binary)

    def watching(self, config: Path, words: Sequence[str]) -> EmbeddedRedis:
        """A sentinel that is not started yet."""
        return Sentinel(config, words, binary=self._binary)

    def asking(self, sentinel: EmbeddedRedis) -> Any:
        """A client of a sentinel."""
        return redis.Redis(port=sentinel.port, decode_responses=True)

    def _complete(self, client: Any) -> bool:
        replicas = client.execute_command("SENTINEL", "REPLICAS", "mymaster")
        others = client.execute_command("SENTINEL", "SENTINELS", "mymaster")
        return len(replicas) == self._of_replicas and len(others) == self._count - 1

    @property
    def endpoints(self) -> list[str]:
        return [f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels]

    def __exit__(self, *_: object) -> None:
        ended([*self.sentinels, *reversed(self.servers)])


class Sentinel(EmbeddedRedis):
    """A sentinel takes its file first, and no persistence options."""

    def __init__(
        self, config: Path, options: Sequence[str] = (), *, binary: str | None = None
    ) -> None:
        super().__init__(options, binary=binary)
        self._config = config

    def _command(self, binary: str, folder: str) -> list[str]:
        words = [*super()._command(binary, folder)]
        for option in ("--save", "--appendonly"):
            del words[words.index(option) : words.index(option) + 2]
        return [binary, str(self._config), "--sentinel", *words[1:]]
