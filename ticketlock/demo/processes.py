"""The replicas of a demo: processes of bot servers that are started, killed and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import time
from pathlib import Path

from ..aio.running import together
from ..errors import TicketLockError
from ..files.scratch import Scratch
from .bot import FOLDER, NAME
from .client import HttpClient

#: Seconds in which a replica must listen, and in which it must end on SIGTERM.
START_WITHIN, END_WITHIN = 60.0, 5.0
#: Seconds between two reads of the log of a replica that starts.
_LOOK = 0.02
#: The log line of a bot server that is ready.
_LISTENS = re.compile(r"listening on http://127\.0\.0\.1:(\d+)\n")


class ReplicaFailed(TicketLockError):
    """A replica did not start, ended by itself, or refused a message; the text says why."""


class Replica:
    """A process of `ticketlock run`.

    Attributes:
        slot, name: the name is the slot and the number of restarts in it.
        up: whether messages can be sent to it.
        client: sends requests to it once it is up.
    """

    client: HttpClient

    def __init__(self, slot: int, restarts: int, scratch: Scratch) -> None:
        self.slot = slot
        self.name = f"{slot}.{restarts}"
        self.up = False
        self.stopping = False
        self._scratch = scratch
        self._log = scratch.path / f"replica-{self.name}.log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, endpoints: Path, token: str) -> None:
        """Start the replica and wait until it is ready. Raises ReplicaFailed."""
        command = [sys.executable, "-m", "ticketlock", "run", "--port", "0"]
        command += ["--endpoints", str(endpoints), "--bot", "ticketlock.demo.replica:bot"]
        # In a session of its own: on Ctrl-C the demo ends its replicas.
        with self._log.open("wb") as log, self._scratch.tie(command) as (args, options):
            self._process = await asyncio.create_subprocess_exec(
                *args,
                env={**os.environ, FOLDER: str(self._scratch.path), NAME: self.name},
                stdout=log,
                stderr=log,
                **options,
            )
        end = time.monotonic() + START_WITHIN
        while (found := _LISTENS.search(self._log.read_text(errors="replace"))) is None:
            if self._process.returncode is not None or time.monotonic() > end:
                raise self.failed("did not start")
            await asyncio.sleep(_LOOK)
        self.client = HttpClient(int(found[1]), token)
        self.up = True

    async def watch(self) -> None:
        """Wait for its end. Raises ReplicaFailed if it ended by itself."""
        assert self._process is not None  # it was started
        await self._process.wait()
        self.up = False
        if not self.stopping:
            raise self.failed("ended by itself")

    def failed(self, what: str) -> ReplicaFailed:
        tail = self.log_tail()
        return ReplicaFailed(f"replica {self.name} {what}" + (f":\n{tail}" if tail else ""))

    def log_tail(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace").strip()[-2000:]

    def kill(self) -> float:
        """Kill it with SIGKILL. Returns the moment of `time.monotonic()` just before."""
        self.up, self.stopping = False, True
        moment = time.monotonic()
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
        return moment

    async def stop(self) -> None:
        """Stop it with SIGTERM, or with SIGKILL if it does not end."""
        self.up, self.stopping = False, True
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):  # it has ended
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), END_WITHIN)
            except asyncio.TimeoutError:
                process.kill()
        await process.wait()


class ReplicaProcesses:
    """Keeps a number of replicas running, in slots 0, 1, ...

    Args:
        endpoints: the `endpoints.yml` of all replicas.
        token: their token.
        scratch: the folder for their records and logs.

    Attributes:
        deaths: when replicas were killed, by name; moments of `time.monotonic()`.
    """

    def __init__(self, endpoints: Path, token: str, scratch: Scratch) -> None:
        self._endpoints = endpoints
        self._token = token
        self._scratch = scratch
        self._all: list[Replica] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.deaths: dict[str, float] = {}

    async def start(self, count: int) -> None:
        """Start `count` replicas at once. Raises ReplicaFailed."""
        # If one fails, the others must not write to a folder that is being removed.
        await together(*(self._start(slot) for slot in range(count)))

    async def _start(self, slot: int) -> None:
        restarts = sum(replica.slot == slot for replica in self._all)
        replica = Replica(slot, restarts, self._scratch)
        self._all.append(replica)
        await replica.start(self._endpoints, self._token)
        self._tasks.append(asyncio.create_task(replica.watch()))

    def up(self) -> list[Replica]:
        """The replicas that are ready."""
        return [replica for replica in self._all if replica.up]

    def kill(self, replica: Replica) -> None:
        """Kill a replica, and start another one in its slot."""
        self.deaths[replica.name] = replica.kill()
        self._tasks.append(asyncio.create_task(self._start(replica.slot)))

    def check(self) -> None:
        """Raise the error of a replica that has failed since the last call."""
        for task in [task for task in self._tasks if task.done()]:
            self._tasks.remove(task)
            task.result()

    async def stop(self) -> None:
        """Stop all replicas, in any state."""
        for replica in self._all:
            replica.stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(replica.stop() for replica in self._all))
