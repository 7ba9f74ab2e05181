"""Replicas of a master, and what a master without them may do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..finding import Finding, fault
from .server import Server, setting

#: Seconds of `min-replicas-max-lag` at least: replicas report once a second.
SHORTEST_LAG = 1

CUT_OFF = fault(
    "redis-min-replicas", "warning",
    "A master that is cut off from its sentinels goes on granting turns to replicas that still reach it, "
    "beside the new master. Its fences may be higher than the new one's: a store that compares fences may "
    "then refuse the legitimate holder. Its grants and accepted messages are lost.",
    "docs/operations/failover.md",
)  # fmt: skip

NO_REPLICA = fault(
    "redis-no-replica", "warning",
    "Nothing can take over when this master fails. Its conversations wait until it is back, and what it has is "
    "lost if its disk is.",
    "docs/operations/failover.md",
)  # fmt: skip

NEVER_MASTER = fault(
    "redis-replica-priority", "warning",
    "A replica with `replica-priority 0`, or in a cluster with `cluster-replica-no-failover yes`, never becomes "
    "master. Without another one nothing takes over when the master fails: its conversations wait until it is back.",
    "https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/",
)  # fmt: skip

BROKEN_LINK = fault(
    "redis-replica-broken", "warning",
    "This replica does not follow its master: after a failover to it, grants, messages and histories since "
    "then are lost.",
    "https://redis.io/docs/latest/operate/oss_and_stack/management/replication/",
)  # fmt: skip


def cut_off(server: Server, down_after: float | None, name: str) -> Iterator[Finding]:
    """A master behind sentinels writes without replicas, or for too long after it has lost them.

    Source: a partition of 20 s, watched: the cut-off master granted all the time; with
    `min-replicas-to-write 1` no turns overlapped.

    Args:
        server: a replica too, because it is the next master.
        down_after: seconds after which sentinels call a master down; None if that is not known.
        name: of the master, as the sentinels know it.
    """
    lag = float(server.config.get("min-replicas-max-lag") or 0)
    what, do, first, last = [], [], "", ""
    if server.config.get("min-replicas-to-write") == "0":
        what.append("min-replicas-to-write is 0")
        if _alone(server):  # it would take no writes
            first = "start a replica first, and then\n"
        do.append("min-replicas-to-write 1")
    if down_after is not None and lag > down_after:
        what.append(
            f"min-replicas-max-lag is {lag:g} s, and the sentinels call a master down after {down_after:g} s"
        )
        do.append(f"min-replicas-max-lag {max(SHORTEST_LAG, int(down_after))}")
        if down_after < SHORTEST_LAG:
            milliseconds = SHORTEST_LAG * 1000
            last = f"\nSENTINEL SET {name} down-after-milliseconds {milliseconds}\non each sentinel"
    if what:
        yield CUT_OFF.found("; ".join(what), f"{first}{setting(*do)}, on each server{last}")


def _alone(server: Server) -> bool:
    return server.info.get("role") == "master" and server.info.get("connected_slaves") == "0"


def replicas(server: Server) -> Iterator[Finding]:
    """A master has no replica. Source: INFO replication."""
    if _alone(server):
        yield NO_REPLICA.found(
            f"{server.place} is a master without a replica",
            "start a replica of it: REPLICAOF HOST PORT, in a cluster CLUSTER REPLICATE ID",
        )


def never_masters(servers: Sequence[Server], *, cluster: bool = False) -> Iterator[Finding]:
    """No replica of a master may take over. Source: INFO replication, in a cluster CONFIG GET of the replicas."""
    followers: dict[str, list[Server]] = {}
    for server in servers:
        if server.replica:
            master = f"{server.info.get('master_host')}:{server.info.get('master_port')}"
            followers.setdefault(master, []).append(server)
    for each in followers.values():
        if cluster and all(one.config.get("cluster-replica-no-failover") == "yes" for one in each):
            what, do = "cluster-replica-no-failover is yes", "cluster-replica-no-failover no"
        elif not cluster and all(one.info.get("slave_priority") == "0" for one in each):
            what, do = "replica-priority is 0", "replica-priority 100"
        else:
            continue
        places = ", ".join(one.place for one in each)
        yield NEVER_MASTER.found(
            f"{places}: {what}", setting(do) + ", on a replica that may become master"
        )


def link(server: Server) -> Iterator[Finding]:
    """A replica has lost its master. Source: INFO replication."""
    if server.replica and server.info.get("master_link_status") == "down":
        yield BROKEN_LINK.found(
            f"{server.place}: master_link_status is down",
            "read its log: the usual reasons are masterauth and the network between the two",
        )
