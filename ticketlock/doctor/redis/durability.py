"""What `durability` of the lock store asks of a master, and what that has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from redis.exceptions import NoPermissionError, ResponseError

from ...redis.durability import Durability
from ..finding import Finding, fault
from .deployment import Use
from .server import Server, setting

CANNOT_WAIT = fault(
    "redis-durability", "error",
    "A replica refuses to start a turn on such a server: it could not find out whether what it was granted, or "
    "has accepted, is durable.",
    "docs/operations/durability.md",
)  # fmt: skip

TOO_FEW = fault(
    "redis-durability-replicas", "error",
    "Nothing is durable in time: with `durability_degraded: refuse` no turn begins and no message is accepted, "
    "with `serve` a failover loses them as without `durability`.",
    "docs/operations/durability.md",
)  # fmt: skip

NOT_ALL = fault(
    "redis-durability-not-all", "note",
    "Sentinels may promote a replica that has not acknowledged: when they do not reach the one that has, or in a "
    "second failover right after the first. A master that they have replaced goes on with the other replicas. "
    "Grants and accepted messages that counted are lost then.",
    "docs/operations/durability.md",
)  # fmt: skip

SLOW_LOG = fault(
    "redis-durability-fsync", "warning",
    "Each turn waits for up to a second before it begins, until the server syncs its log.",
    "docs/operations/durability.md",
)  # fmt: skip

BY_THE_SERVER = fault(
    "redis-durability-server", "note",
    "Nothing is waited for. Redis and Valkey answer before a write is on the disk or on a replica; MemoryDB does "
    "not.",
    "docs/operations/durability.md",
)  # fmt: skip


async def ability(server: Server, use: Use, *, cluster: bool = False) -> AsyncIterator[Finding]:
    """It cannot wait for what is asked, or its user may not. Source: a trial without an effect.

    Args:
        server: connected as the user of the lock store; a master.
    """
    for trial in use.durability.trials(cluster=cluster):
        try:
            await server.ask(*trial)
        except (NoPermissionError, ResponseError) as error:
            if (why := use.durability.refused(trial, error, use.settings.username)) is not None:
                yield CANNOT_WAIT.found(*why)


def slow_log(server: Server, asked: Durability) -> Iterator[Finding]:
    """A master that can wait for its log has it synced once a second. Source: CONFIG GET."""
    if asked.kind == "aof" and server.config.get("appendfsync") == "everysec":
        yield SLOW_LOG.found("appendfsync is everysec", setting("appendfsync always"))


def durable(server: Server, asked: Durability) -> Iterator[Finding]:
    """What is asked is more than there is. Source: INFO replication, CONFIG GET.

    Args:
        server: a master.
    """
    if asked.kind == "server":
        yield BY_THE_SERVER.found(
            "durability is server",
            "on another server than MemoryDB: durability: replicas, majority or aof",
        )
    needed, online = asked.needed(len(_replicas(server))), _online(server)
    if _counts(server, asked) and online < needed:
        yield TOO_FEW.found(
            f"durability asks for {needed} {'replica' if needed == 1 else 'replicas'}, and {online} "
            f"{'follows' if online == 1 else 'follow'}",
            "start a replica (REPLICAOF HOST PORT, in a cluster CLUSTER REPLICATE ID), or ask for fewer "
            "with durability_replicas",
        )


def not_all(server: Server, asked: Durability) -> Iterator[Finding]:
    """Behind sentinels, a replica may become the master that need not have acknowledged.

    Source: INFO replication, and docs/reliability.md, where such failovers lost messages.

    Args:
        server: the master.
    """
    count = len(_replicas(server))
    needed = asked.needed(count)
    if _counts(server, asked) and needed < count:
        yield NOT_ALL.found(
            f"durability: {asked.kind} asks for {needed} of the {count} replicas",
            f"durability: replicas, durability_replicas: {count} in the section; what happens while one "
            "of them is away says durability_degraded",
        )


def _counts(server: Server, asked: Durability) -> bool:
    """Whether replicas of the server have to acknowledge."""
    return asked.kind in ("replicas", "majority") and server.info.get("role") == "master"


def _replicas(server: Server) -> list[str]:
    """The replicas that a master knows, as INFO has them."""
    return [text for key, text in server.info.items() if key[5:].isdigit() and key[:5] == "slave"]


def _online(server: Server) -> int:
    return sum("state=online" in text for text in _replicas(server))
