"""What a stress run does: its options, and the plan that its workers read."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..checker.history import LIMIT
from ..errors import ConfigurationError
from ..redis.durability import Durability
from ..settings.section import Section
from .nemeses import named

#: Most operations of a turn: acquire, two writes, release.
OPERATIONS = 4
#: Workers and tasks of a run at most: the machine has to start them, and each takes 40 MB.
MOST_PROCESSES, MOST_TASKS = 100, 10_000
#: Topology -> replicas of each of its masters.
REPLICAS = {"server": 0, "cluster": 1, "sentinel": 2}


@dataclass(frozen=True)
class Options:
    """The options of a run.

    Attributes:
        lock_store: the section of a lock store on Redis; None: on a server of the run.
        where: how error texts name that section.
        seconds: for which turns are begun.
        processes, tasks: worker processes, and tasks that take turns in each.
        conversations: how many; each turn takes one of them by chance.
        rate: most turns a second, of all workers.
        hold: seconds that a turn lasts at most.
        topology: of the servers that the run starts: one of `TARGETS`.
        program: their program; None: what is installed.
        min_replicas: how many a master needs to write; None: 1 under Sentinel, else none.
        durability, durability_replicas, durability_degraded: keys of the lock store on servers of the
            run; None: its default.
        nemeses: names of `NEMESES`, or of `SETS`; only on servers of the run.
        messages: submit messages to an inbox, instead of taking turns.
        wait_bound: seconds that a living process may wait.
        seed: decides what tasks and nemeses do; when they do it, the machine decides.
    """

    lock_store: Mapping[str, Any] | None = None
    where: str = "lock_store"
    seconds: float = 10.0
    processes: int = 3
    tasks: int = 8
    conversations: int = 10
    rate: float = 200.0
    hold: float = 0.02
    topology: str = "server"
    program: str | None = None
    min_replicas: int | None = None
    durability: str | None = None
    durability_replicas: int | None = None
    durability_degraded: str | None = None
    nemeses: tuple[str, ...] = ()
    messages: bool = False
    wait_bound: float = 60.0
    seed: int = 1
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        if self.lock_store is not None:
            self._of_others()
        if self.topology != "server" and sys.platform != "linux":
            raise ConfigurationError(
                f"--topology {self.topology}: needs Linux, whose loopback has an address for each server"
            )
        try:
            nemeses = named(self.nemeses, self.topology)
        except ValueError as error:
            raise ConfigurationError(f"--nemesis: {error}") from None
        object.__setattr__(self, "nemeses", nemeses)
        if self.min_replicas is None:
            object.__setattr__(self, "min_replicas", int(self.topology == "sentinel"))
        elif not 0 <= self.min_replicas <= REPLICAS[self.topology]:
            raise ConfigurationError(
                f"--min-replicas {self.min_replicas} is not from 0 to {REPLICAS[self.topology]}, the "
                f"replicas of a master of --topology {self.topology}"
            )
        asked = self.asked
        if asked.kind == "replicas" and asked.replicas > REPLICAS[self.topology]:
            raise ConfigurationError(
                f"--durability replicas: {asked.replicas} must acknowledge, but a master of --topology "
                f"{self.topology} has {REPLICAS[self.topology]}"
            )
        for option, number, most in (
            ("--processes", self.processes, MOST_PROCESSES), ("--tasks", self.tasks, MOST_TASKS),
        ):  # fmt: skip
            if number > most:
                raise ConfigurationError(f"{option} {number}: at most {most}")
        if self.seconds * self.rate * OPERATIONS > LIMIT:
            raise ConfigurationError(
                f"{self.seconds:g} s at {self.rate:g} turns a second are more than {LIMIT} "
                "operations: lower --seconds or --rate"
            )
        names = tuple(f"stressed {number}" for number in range(self.conversations))
        object.__setattr__(self, "names", names)

    def _of_others(self) -> None:
        """Raises ConfigurationError for what is not to be done to servers of others."""
        for option, given in (
            ("--nemesis", self.nemeses), ("--topology", self.topology != "server"),
            ("--server-program", self.program), ("--min-replicas", self.min_replicas is not None),
            ("--durability", self.durability), ("--durability-replicas", self.durability_replicas),
            ("--durability-degraded", self.durability_degraded),
        ):  # fmt: skip
            if given:
                raise ConfigurationError(
                    f"{option} is for servers of the run, not for yours: leave out --endpoints"
                )

    @property
    def keys(self) -> dict[str, Any]:
        """Keys of the lock store on servers of the run, beside those of its place."""
        names = ("durability", "durability_replicas", "durability_degraded")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @property
    def asked(self) -> Durability:
        """What these keys ask for. Raises ConfigurationError."""
        mode = {"server": "standard"}.get(self.topology, self.topology)
        return Durability.read(Section(self.keys, "the run's lock_store"), mode)

    @property
    def outlives(self) -> bool:
        """Whether grants and accepted messages are to outlive a failover, to whichever replica."""
        asked, replicas = self.asked, REPLICAS[self.topology]
        return asked.kind in ("replicas", "majority") and asked.needed(replicas) == replicas

    @property
    def pause(self) -> float:
        """Seconds from the begin of a task's turn to that of its next one, at least."""
        return self.processes * self.tasks / self.rate


@dataclass(frozen=True)
class Plan:
    """What each worker does; in a file, because it may contain passwords.

    Attributes:
        register: keys of the Redis of the registers; None: that of the lock store.
        tracker_store: where messages are stored; None: there are none.
    """

    lock_store: dict[str, Any]
    where: str
    register: dict[str, Any] | None
    tracker_store: dict[str, Any] | None
    names: tuple[str, ...]
    tasks: int
    pause: float
    hold: float
    seed: int

    def write(self, path: Path) -> None:
        """Write a file that only its owner may read."""
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(file, "w", encoding="utf-8") as stream:
            json.dump(asdict(self), stream)

    @classmethod
    def read(cls, path: Path) -> Plan:
        return cls(**json.loads(path.read_text(encoding="utf-8")))
