"""Limits for clients."""

from __future__ import annotations

from collections.abc import Iterator

from ..finding import Finding, fault
from .server import Server, setting

#: Share of `maxclients` above which few are left.
FULL = 0.8
#: Bytes below which the buffer of a subscriber is small: an eighth of the usual soft limit.
SMALL_BUFFER = 2**20

IDLE = fault(
    "redis-timeout", "note",
    "The server closes idle connections. Replicas make new ones, which the next turn waits for.",
    "docs/guides/redis.md",
)  # fmt: skip

CLIENTS = fault(
    "redis-clients", "warning",
    "When `maxclients` is reached, replicas cannot connect any more, after a failover for example.",
    "https://redis.io/docs/latest/develop/reference/clients/",
)  # fmt: skip

BUFFER = fault(
    "redis-pubsub-buffer", "warning",
    "The server closes the connection on which a replica gets its bells if the replica reads too slowly. The "
    "replica reconnects and repeats its open requests, which is more load at a busy time.",
    "https://redis.io/docs/latest/develop/reference/clients/",
)  # fmt: skip


def idle(server: Server) -> Iterator[Finding]:
    """Idle connections are closed. Source: `timeout` in redis.conf."""
    if seconds := server.number("timeout"):
        yield IDLE.found(f"timeout is {seconds} s", setting("timeout 0"))


def clients(server: Server) -> Iterator[Finding]:
    """Few connections are left. Source: INFO clients against `maxclients`."""
    most, there = server.number("maxclients"), server.number("connected_clients")
    if most and there > FULL * most:
        yield CLIENTS.found(
            f"{there} of {most} connections are in use",
            setting(f"maxclients {max(10_000, 2 * most)}")
            + "; the server must be allowed to open that many files (ulimit -n)",
        )


def buffer(server: Server) -> Iterator[Finding]:
    """The buffer of subscribers is small.

    Source: `client-output-buffer-limit pubsub HARD SOFT SECONDS` in redis.conf.
    """
    words = server.config.get("client-output-buffer-limit", "").split()
    if "pubsub" not in words:
        return
    hard, soft = (int(word) for word in words[words.index("pubsub") + 1 :][:2])
    if any(0 < limit < SMALL_BUFFER for limit in (hard, soft)):
        yield BUFFER.found(
            f"client-output-buffer-limit pubsub is {hard} {soft} bytes",
            setting('client-output-buffer-limit "pubsub 33554432 8388608 60"'),
        )
