"""A Redis master and its replicas, which tests stop, kill and promote."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import redis

from ticketlock.redis.embedded import EmbeddedRedis

#: A replica is connected at once.
AT_ONCE = ("--repl-diskless-sync-delay", "0")


class Replicated:
    """A master and replicas that follow it.

    Args:
        options: more words for the command line of each server.
        binary: the server to run; default: what `server_binary` finds.
    """

    def __init__(
        self, replicas: int = 1, *, options: Sequence[str] = (), binary: str | None = None
    ) -> None:
        self._count = replicas
        self._options = [*AT_ONCE, *options]
        self._binary = binary
        self._stack = ExitStack()

    def __enter__(self) -> Replicated:
        with ExitStack() as stack:
            self.master = stack.enter_context(EmbeddedRedis(self._options, binary=self._binary))
            follow = [*self._options, "--replicaof", "127.0.0.1", str(self.master.port)]
            self.replicas = [
                stack.enter_context(EmbeddedRedis(follow, binary=self._binary))
                for _ in range(self._count)
            ]
            followed(self.master, self._count)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for replica in self.replicas:
            go_on(replica)
        self._stack.close()

    def promote(self, replica: EmbeddedRedis) -> None:
        """Kill the master; a replica takes its place, and the others follow it."""
        self.master.stop(kill=True)
        with client(replica) as new:
            new.execute_command("REPLICAOF", "NO", "ONE")
        for other in self.replicas:
            if other is not replica:
                with client(other) as one:
                    one.execute_command("REPLICAOF", "127.0.0.1", replica.port)
        followed(replica, len(self.replicas) - 1)


def client(server: EmbeddedRedis, db: int = 1) -> Any:
    """A client of a server; the database is that in its `url`."""
    return redis.Redis(port=server.port, db=db, decode_responses=True)


def cut(replica: EmbeddedRedis) -> None:
    """Cut a replica off from its master: what it has read so far is all that it has."""
    with client(replica, 0) as one:
        one.execute_command("REPLICAOF", "127.0.0.1", 1)


def pause(server: EmbeddedRedis) -> None:
    """Stop a server where it is: it keeps its connections, and answers nothing."""
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)


def go_on(server: EmbeddedRedis) -> None:
    """Let a stopped server go on."""
    if server.process is not None:
        server.process.send_signal(signal.SIGCONT)


def followed(master: EmbeddedRedis, replicas: int, seconds: float = 20) -> None:
    """Wait until so many replicas acknowledge what is written to a master."""
    end = time.monotonic() + seconds
    with client(master, 0) as one:
        while one.set("followed", "") and one.wait(replicas, 500) < replicas:
            assert time.monotonic() < end, f"no {replicas} replicas follow the master"


def waits(server: EmbeddedRedis, db: int = 1) -> bool:
    """Whether a client waits for replicas of a server, in WAIT or WAITAOF."""
    with client(server, db) as one:
        return bool(one.info("clients")["blocked_clients"])


def calls(server: EmbeddedRedis, command: str) -> int:
    """How often a server has run a command."""
    with client(server) as one:
        found = one.info("commandstats").get(f"cmdstat_{command}", {})
    return int(found.get("calls", 0))
