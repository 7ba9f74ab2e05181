"""The worker processes of a storm, and the trouble that they get themselves."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servers.processes import popen

from ticketlock.process import clock

from .events import Events, shuffled

WORKER = Path(__file__).parents[1] / "faults" / "worker.py"
#: Seconds that a worker may need to its end: the longest turn, and the waiting before it.
PATIENCE = 40.0


@dataclass(frozen=True)
class Load:
    """What workers do.

    Attributes:
        processes, tasks: workers, and tasks in each.
        names: the conversations, one of which each turn chooses; one may be there several times.
    """

    processes: int
    tasks: int
    names: Sequence[str]


class Fleet:
    """Starts workers, and troubles them.

    Attributes:
        end: moment of `clock()` at which workers begin no more turns.
        stuck, failed: what was wrong with workers at their end, with their last words.
    """

    def __init__(
        self, store: dict[str, Any], records: str, folder: Path, load: Load, seconds: float,
        events: Events, rng: random.Random,
    ) -> None:  # fmt: skip
        self._variables = {**os.environ, "WORKER_STORE": json.dumps(store)}
        self._records, self._folder, self._load = records, folder, load
        self._events, self._rng = events, rng
        self._kinds = shuffled(("killed", "stopped", "stopped briefly"), rng)
        self._killed: set[int] = set()
        self.end = clock() + seconds
        self.processes: list[subprocess.Popen[bytes]] = []
        self.stuck: list[str] = []
        self.failed: list[str] = []
        for _ in range(load.processes):
            self.start()

    def start(self) -> None:
        left, number = max(0.5, self.end - clock()), len(self.processes)
        words = ["", self._records, str(left), str(number), str(self._load.tasks)]
        with self._log(number).open("wb") as log:
            process = popen(
                [sys.executable, str(WORKER), *words, *self._load.names],
                stdout=log, stderr=subprocess.STDOUT, env=self._variables,
            )  # fmt: skip
        self.processes.append(process)

    def _log(self, number: int) -> Path:
        return self._folder / f"worker-{number}.log"

    def one(self) -> None:
        """A worker is killed, or stopped for a while."""
        living = [process for process in self.processes if process.poll() is None]
        victim, kind = self._rng.choice(living), next(self._kinds)
        with self._events.of_process(f"process {kind}", victim.pid):
            if kind == "killed":
                victim.kill()
                victim.wait()
                self._killed.add(victim.pid)
                self.start()
            else:
                victim.send_signal(signal.SIGSTOP)
                try:
                    time.sleep(6 if kind == "stopped" else self._rng.uniform(0.1, 2))
                finally:
                    victim.send_signal(signal.SIGCONT)

    def finish(self) -> None:
        """Wait for all workers; those that are stuck, and those that fail, say where."""
        end = clock() + PATIENCE
        for number, process in enumerate(self.processes):
            if process.pid in self._killed:
                continue
            try:
                status = process.wait(max(1, end - clock()))
            except subprocess.TimeoutExpired:
                for show in (signal.SIGUSR2, signal.SIGUSR1):
                    process.send_signal(show)
                    time.sleep(1)
                self.stuck.append(f"worker {number} is stuck: {self._last_words(number)}")
            else:
                if status:
                    words = self._last_words(number)
                    self.failed.append(f"worker {number} ended with {status}: {words}")

    def _last_words(self, number: int) -> str:
        return self._log(number).read_text(errors="replace")[-4000:]

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
