"""The worker processes of a stress run."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import TicketLockError
from ..files.scratch import Scratch
from ..process import clock
from .plan import Plan
from .worker import READY

#: Seconds in which a worker must be ready, and in which it must end when turns are begun no more.
START_WITHIN, END_WITHIN = 60.0, 40.0
_LOOK = 0.02
WORKER = (sys.executable, "-m", "ticketlock.stress.worker")


class WorkerFailed(TicketLockError):
    """A worker did not start, or ended by itself; the text says why."""


class Worker:
    """One process.

    Attributes:
        slot, name: the name is the slot and how many were killed in it.
        troubled: whether a nemesis has it.
    """

    def __init__(self, slot: int, nth: int, scratch: Scratch, command: Sequence[str]) -> None:
        self.slot, self.nth = slot, nth
        self.name = f"{slot}.{nth}"
        self.troubled = False
        self.killed = False
        self._scratch, self._command = scratch, command
        self._log = scratch.path / f"{self.name}.log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and wait until it is ready. Raises WorkerFailed."""
        command = [*self._command, str(self._scratch.path), self.name]
        with self._log.open("wb") as log, self._scratch.tie(command) as (args, options):
            self._process = await asyncio.create_subprocess_exec(
                *args, stdout=log, stderr=log, **options
            )
        end = clock() + START_WITHIN
        while READY not in self._said():
            if not self.running or clock() > end:
                raise self.failed("did not start")
            await asyncio.sleep(_LOOK)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self._process is not None and self.running:
            self._process.send_signal(number)

    async def kill(self) -> None:
        self.killed = True
        self.send(signal.SIGKILL)
        if self._process is not None:
            await self._process.wait()

    async def ended(self, end: float) -> bool:
        """Wait for its end up to a moment of `clock()`; whether it came. Raises WorkerFailed."""
        assert self._process is not None  # it was started
        try:
            status = await asyncio.wait_for(self._process.wait(), max(0.0, end - clock()))
        except asyncio.TimeoutError:
            return False
        if status and not self.killed:
            raise self.failed(f"ended with {status}")
        return True

    def failed(self, what: str) -> WorkerFailed:
        said = self._said().strip()[-2000:]
        return WorkerFailed(f"worker {self.name} {what}" + (f":\n{said}" if said else ""))

    def _said(self) -> str:
        return self._log.read_text(errors="replace")


class Workers:
    """All of them; a context manager that leaves none behind.

    Args:
        scratch: the folder of their plan, records and logs.
        command: the worker's program, to which that folder and a name are added.
    """

    def __init__(self, plan: Plan, scratch: Scratch, command: Sequence[str] = WORKER) -> None:
        self._scratch, self._command = scratch, command
        plan.write(scratch.path / "plan")
        self._all: list[Worker] = []

    async def start(self, count: int) -> None:
        """Start them side by side. Raises WorkerFailed."""
        self._all = [Worker(slot, 0, self._scratch, self._command) for slot in range(count)]
        await asyncio.gather(*(worker.start() for worker in self._all))

    def go(self, end: float) -> None:
        """Let all begin turns up to a moment of `clock()`, those that are started later too."""
        part = self._scratch.path / "go.part"
        part.write_text(repr(end))
        part.rename(self._scratch.path / "go")

    def calm(self) -> list[Worker]:
        """Those that run, and that no nemesis has."""
        return [worker for worker in self._all if worker.running and not worker.troubled]

    async def replace(self, worker: Worker) -> None:
        """Kill one, and start another one in its slot."""
        await worker.kill()
        other = Worker(worker.slot, worker.nth + 1, self._scratch, self._command)
        other.troubled = True  # until it is ready
        self._all.append(other)
        await other.start()
        other.troubled = False

    async def finish(self) -> list[str]:
        """Wait for all of them; the names of those that hang. Raises WorkerFailed."""
        end = clock() + END_WITHIN
        return [worker.name for worker in self._all if not await worker.ended(end)]

    @property
    def histories(self) -> list[Path]:
        """The files that they have recorded."""
        return sorted(self._scratch.path.glob("*.jsonl"))

    async def __aenter__(self) -> Workers:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(worker.kill() for worker in self._all))
