"""Clocks and latency."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..finding import Finding, fault
from .server import Server

#: Seconds by which clocks may differ.
APART = 1.0
#: Shares of a lease that the median and the worst round trip may take.
MEDIAN, WORST = 1 / 40, 1 / 2

CLOCK = fault(
    "redis-clock", "warning",
    "Leases and due times are counted by the clock of the master. After a failover to a server whose "
    "clock is ahead, leases end early and turns are lost; to one that is behind, a dead holder keeps "
    "its conversation longer. Reminders come at the server's time.",
    "docs/protocol.md",
)  # fmt: skip

LATENCY = fault(
    "redis-latency", "warning",
    "A lease is renewed several times before it ends. With slow answers a short disturbance is enough to "
    "lose turns.",
    "docs/protocol.md",
)  # fmt: skip


def clocks(servers: Sequence[Server]) -> Iterator[Finding]:
    """Clocks differ: those of the servers from each other, or all of them from ours.

    Source: TIME of each server, against the middle of the time that its answer took.
    """
    offsets = {one.place: one.offset for one in servers if one.offset is not None}
    if not offsets:
        return
    low, high = min(offsets, key=offsets.__getitem__), max(offsets, key=offsets.__getitem__)
    apart = offsets[high] - offsets[low]
    synchronise = "synchronise the clocks of all machines (chrony, or ntpd -x)"
    if apart > APART:
        yield CLOCK.found(
            f"the clock of {high} is {apart:.1f} s ahead of that of {low}", synchronise
        )
    else:
        nearest = min(offsets.values(), key=abs)
        if abs(nearest) > APART:
            side = "ahead of" if nearest > 0 else "behind"
            yield CLOCK.found(f"its clock is {abs(nearest):.1f} s {side} ours", synchronise)


def latency(server: Server, lease: float) -> Iterator[Finding]:
    """Answers take a large part of a lease. Source: the round trips of some short commands."""
    if not server.round_trips:
        return
    middle, worst = server.latency
    if middle > MEDIAN * lease or worst > WORST * lease:
        yield LATENCY.found(
            f"an answer takes {1000 * middle:.0f} ms (median), {1000 * worst:.0f} ms (worst of "
            f"{len(server.round_trips)}); the lease is {lease:g} s",
            "run the replicas near the server; SLOWLOG GET and LATENCY DOCTOR name slow commands; "
            "or raise lease in lock_store",
        )
