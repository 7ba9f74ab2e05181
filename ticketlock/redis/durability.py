"""What a write must outlive before it counts, and the commands that wait for that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import hiredis

from ..settings.section import Section
from ..settings.store_keys import DurabilityKeys


@dataclass(frozen=True)
class Durability:
    """What is asked of a Redis deployment; see `DurabilityKeys`.

    Attributes:
        kind: `none`, `replicas`, `majority`, `aof` or `server`.
        replicas: those that must acknowledge, with `replicas`.
        timeout: seconds that they may take.
        refuse: whether nothing is granted and accepted while they take longer.
    """

    kind: str = "none"
    replicas: int = 1
    timeout: float = 2.0
    refuse: bool = False

    @classmethod
    def read(cls, section: Section, deployment_mode: str) -> Durability:
        """Read the keys of `section`. Raises ConfigurationError."""
        keys = section.read(DurabilityKeys)
        kind = keys["durability"]
        for key in ("durability_replicas", "durability_timeout", "durability_degraded"):
            if section.has(key) and not section.has("durability"):
                raise section.error(
                    key, "does nothing without durability, which is none by default"
                )
        if kind not in ("none", "replicas") and section.has("durability_replicas"):
            raise section.error("durability_replicas", "is for durability: replicas")
        if kind == "majority" and deployment_mode == "standard":
            raise section.error(
                "durability",
                "majority needs deployment_mode sentinel or cluster, which know all replicas, also "
                "those that are away; use replicas, with durability_replicas",
            )
        refuse = keys["durability_degraded"] == "refuse"
        return cls(kind, keys["durability_replicas"], keys["durability_timeout"], refuse)

    @property
    def waits(self) -> bool:
        """Whether there is anything to wait for."""
        return self.kind in ("replicas", "majority", "aof")

    def needed(self, known: int) -> int:
        """How many replicas must acknowledge, of those that the deployment is known to have."""
        # Of a master and `known` replicas the master is one of the majority.
        return max(1, (known + 1) // 2) if self.kind == "majority" else self.replicas

    def command(self, needed: int, milliseconds: int) -> tuple[Any, ...]:
        """The command that waits for the writes before it on its connection."""
        if self.kind == "aof":
            return ("WAITAOF", 1, 0, milliseconds)
        return ("WAIT", needed, milliseconds)

    def missing(self, answer: Any, needed: int) -> str:
        """What the answer of that command lacks, as a text; empty: nothing."""
        if self.kind == "aof":
            return "" if answer[0] >= 1 else "its log was not synced to the disk"
        if answer >= needed:
            return ""
        return f"{answer} of {needed} {'replica' if needed == 1 else 'replicas'} acknowledged"

    def trials(self, *, cluster: bool) -> list[tuple[Any, ...]]:
        """Commands that show at once whether the server, and its user, can wait."""
        if not self.waits:
            return []
        waits = ("WAITAOF", 1, 0, 1) if self.kind == "aof" else ("WAIT", 0, 1)
        counts = self.kind == "majority" and cluster
        return [waits, ("CLUSTER", "NODES")] if counts else [waits]

    def refused(
        self, trial: tuple[Any, ...], error: Exception, user: str | None
    ) -> tuple[str, str] | None:
        """Why a server cannot wait for a user, and what to do; None: the error says something else."""
        from redis.exceptions import NoPermissionError  # redis-py is a large part of a start

        text = str(error)
        name = "cluster|nodes" if trial[0] == "CLUSTER" else trial[0].lower()
        if "unknown command" in text:
            return (
                f"durability: {self.kind} needs {trial[0]}, which Redis has since 7.2",
                "use a newer server, or durability: replicas",
            )
        if "appendonly is disabled" in text:
            return (
                f"durability: {self.kind} needs a log, and appendonly is no",
                "CONFIG SET appendonly yes, and the same in the server's configuration file",
            )
        if isinstance(error, NoPermissionError):
            return (
                f"durability: {self.kind} needs the right +{name}",
                f"ACL SETUSER {user or 'default'} +{name}",
            )
        return None


def failure(answer: Any) -> str:
    """The text of an answer that is an error; empty: it is none."""
    return str(answer) if isinstance(answer, hiredis.ReplyError) else ""
