"""What a write must outlive before it counts, and the commands that wait for that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import hiredis

from ..errors import LockStoreConnectionError
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

    def trial(self) -> tuple[Any, ...]:
        """A command that shows at once whether the server and the user can wait."""
        return ("WAITAOF", 1, 0, 1) if self.kind == "aof" else ("WAIT", 0, 1)

    def refused(self, address: str, error: Exception) -> LockStoreConnectionError | None:
        """The error for a user whose server cannot wait; None: the trial said something else."""
        text = str(error)
        name = self.trial()[0]
        if "unknown command" in text:
            why = f"durability: aof needs {name}, which Redis has since 7.2: use replicas, or a newer server"
        elif "appendonly is disabled" in text:
            why = "durability: aof needs a log of writes: set appendonly yes in its configuration"
        elif "NOPERM" in text or "no permissions" in text:
            why = f"durability: {self.kind} needs the right +{name.lower()}"
        else:
            return None
        return LockStoreConnectionError(f"Redis at {address}: {why} ({text})")


def failure(answer: Any) -> str:
    """The text of an answer that is an error; empty: it is none."""
    return str(answer) if isinstance(answer, hiredis.ReplyError) else ""
