"""Memory: what is evicted when it is full, and how much is left."""

from __future__ import annotations

from collections.abc import Iterator

from ..finding import Finding, fault
from .server import Server, setting

#: Share of the memory above which little is left.
FULL = 0.8

EVICTION = fault(
    "redis-eviction", "error",
    "When its memory is full, the server removes keys of ours that are in use: places of waiting "
    "messages, accepted messages, fences, whole histories. Turns overlap and messages are lost, without "
    "an error.",
    "https://redis.io/docs/latest/develop/reference/eviction/, and docs/guides/redis.md",
)  # fmt: skip

VOLATILE = fault(
    "redis-eviction-volatile", "warning",
    "All keys of the locks expire, so this policy removes them too when the memory is full; the order "
    "of the waiting conversations is lost.",
    "https://redis.io/docs/latest/develop/reference/eviction/, and docs/guides/redis.md",
)  # fmt: skip

MEMORY = fault(
    "redis-memory", "warning",
    "A full server refuses new messages (503) or evicts keys. Without a limit the operating system kills it.",
    "docs/operations/capacity.md",
)  # fmt: skip


def eviction(server: Server) -> Iterator[Finding]:
    """Keys may be evicted that are in use. Without `maxmemory` nothing is evicted.

    Source: the list of policies in Redis' documentation; `allkeys-lrm` and `volatile-lrm` came with
    Redis 8.6, and more may come, so the beginning of the name counts.
    """
    policy = server.config.get("maxmemory-policy") or server.info.get("maxmemory_policy", "")
    limit = server.number("maxmemory")
    if not limit:
        return
    what = f"maxmemory-policy is {policy}, maxmemory {_mb(limit)}"
    change = setting("maxmemory-policy noeviction") + "; put a cache on a server of its own"
    if policy.startswith("allkeys-"):
        yield EVICTION.found(what, change)
    elif policy.startswith("volatile-"):
        yield VOLATILE.found(what, change)


def head_room(server: Server) -> Iterator[Finding]:
    """The memory is nearly full. Source: `used_memory` against `maxmemory`, or the machine's."""
    limit, of = server.number("maxmemory"), "maxmemory"
    more = "raise maxmemory (CONFIG SET maxmemory BYTES)"
    if not limit:
        limit, of = server.number("total_system_memory"), "the machine's memory"
        more = (
            "give the machine more memory; with maxmemory below that, and noeviction, the server refuses "
            "writes before the operating system kills it"
        )
    used = server.number("used_memory")
    if limit and used > FULL * limit:
        yield MEMORY.found(
            f"{_mb(used)} of {_mb(limit)} are used ({used / limit:.0%} of {of})",
            f"{more}; INFO memory and MEMORY STATS say what uses it",
        )


def _mb(size: int) -> str:
    return f"{size / 2**20:.1f} MB"
