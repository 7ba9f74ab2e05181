"""The nodes of a Redis Cluster, and whether all slots are served."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ...redis.slots import SLOTS, owners
from ...redis.text import decoded
from ..finding import Finding, fault
from .deployment import Address, shown
from .server import Server, setting

#: Fewer cannot lose one and still have a majority that votes.
LEAST = 3

STATE = fault(
    "cluster-state", "error",
    "Conversations whose slot has no node wait; with `cluster-require-full-coverage` all of them do.",
    "https://redis.io/docs/latest/operate/oss_and_stack/management/scaling/",
)  # fmt: skip

COVERAGE = fault(
    "cluster-full-coverage", "note",
    "With `cluster-require-full-coverage yes`, the servers' default, all conversations wait while one slot has no "
    "master, so during each failover. With `no` only those of that slot do: each conversation is in one slot.",
    "docs/operations/failover.md",
)  # fmt: skip

FAILED = fault(
    "cluster-node-failed", "warning",
    "The next failure may find no replica to take over.",
    "https://redis.io/docs/latest/operate/oss_and_stack/management/scaling/",
)  # fmt: skip

FEW = fault(
    "cluster-few-masters", "warning",
    "A failover needs the votes of a majority of the masters: with fewer than three, none happens when "
    "one is lost.",
    "https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/",
)  # fmt: skip


class Node(NamedTuple):
    """A node as another one sees it."""

    address: Address
    flags: frozenset[str]

    @property
    def down(self) -> bool:
        """Whether it is failed, or is suspected to be."""
        return bool(self.flags & {"fail", "fail?", "noaddr", "handshake"})


class Cluster:
    """What one node says of its cluster.

    Attributes:
        info: the fields of CLUSTER INFO; empty if it is refused.
        nodes: all nodes, if CLUSTER NODES is not refused; else those that own slots.
        owners: the owner of each slot.
    """

    info: dict[str, str]
    nodes: list[Node]
    owners: list[Address | None]

    @classmethod
    async def seen_by(cls, server: Server, host: str) -> Cluster:
        """Ask a node, which was connected to at `host`."""
        found = cls()
        text = decoded(await server.tried("CLUSTER", "INFO"))
        found.info = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        found.owners = owners(await server.ask("CLUSTER", "SLOTS"), host)
        lines = decoded(await server.tried("CLUSTER", "NODES")).splitlines()
        found.nodes = [_node(line, host) for line in lines]
        if not lines:
            owning = {owner for owner in found.owners if owner is not None}
            found.nodes = [Node(owner, frozenset({"master"})) for owner in sorted(owning)]
        return found

    def findings(self) -> Iterator[Finding]:
        """Slots without a node, nodes that have failed, too few masters.

        Source: CLUSTER INFO, CLUSTER SLOTS and CLUSTER NODES.
        """
        bare = self.owners.count(None)
        state = self.info.get("cluster_state", "ok")
        if bare or state != "ok":
            yield STATE.found(
                f"cluster_state is {state}, {bare} of {SLOTS} slots have no node",
                "redis-cli --cluster check HOST:PORT, then --cluster fix; start the nodes that are down",
            )
        failed = [node for node in self.nodes if node.down]
        if failed:
            listed = ", ".join(f"{shown(one.address)} ({_flags(one)})" for one in failed)
            yield FAILED.found(
                f"{len(failed)} of {len(self.nodes)} nodes: {listed}",
                "start them, or CLUSTER FORGET ID on every other node",
            )
        masters = len({owner for owner in self.owners if owner is not None})
        if masters < LEAST:
            yield FEW.found(
                f"{masters} masters own slots",
                "add masters: redis-cli --cluster add-node, then --cluster rebalance --cluster-use-empty-masters",
            )


def full_coverage(server: Server) -> Iterator[Finding]:
    """One slot without a master stops all others. Source: CONFIG GET."""
    if server.config.get("cluster-require-full-coverage") == "yes":
        yield COVERAGE.found(
            "cluster-require-full-coverage is yes",
            setting("cluster-require-full-coverage no") + ", on each node",
        )


def _node(line: str, asked: str) -> Node:
    _, address, flags, *_ = line.split(" ")
    host, _, port = address.partition("@")[0].rpartition(":")
    return Node((host.strip("[]") or asked, int(port or 0)), frozenset(flags.split(",")))


def _flags(node: Node) -> str:
    return ", ".join(sorted(node.flags - {"myself"}))
