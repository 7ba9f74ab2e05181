"""The replicas of a demo as its parent sees them: started, talked to, killed, ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from ..errors import TicketLockError
from .replica import LONGEST_LINE, Settings

#: Seconds in which a replica must listen, and in which it must end when asked to.
START_WITHIN, END_WITHIN = 30.0, 5.0


class ReplicaFailed(TicketLockError):
    """A replica did not start, or ended without being told to; the text has its last words."""


class Replica:
    """One process and the connection to it."""

    def __init__(self, slot: int, settings: Settings) -> None:
        self.slot = slot
        self.name = settings.name
        #: Messages may be given to it.
        self.up = False
        self.stopping = False
        self._settings = settings
        self._log = Path(settings.folder, f"replica-{self.name}.log")
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def start(self) -> None:
        """Return when the replica takes messages. Raises ReplicaFailed."""
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "ticketlock.demo.replica"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the demo, which then ends its replicas
            )
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None  # both are pipes
        assert stdout is not None
        stdin.write(self._settings.line())
        try:
            line = await asyncio.wait_for(stdout.readline(), START_WITHIN)
            port = json.loads(line)["port"]
            self._reader, self._writer = await asyncio.open_connection(
                "127.0.0.1", port, limit=LONGEST_LINE
            )
        except (ValueError, OSError, asyncio.TimeoutError) as error:
            raise self.failed("did not start") from error
        self.up = True

    def send(self, message: dict[str, Any]) -> None:
        assert self._writer is not None  # it is up
        self._writer.write(json.dumps(message).encode() + b"\n")

    async def answers(self) -> AsyncIterator[dict[str, Any]]:
        """What it answers, until the connection ends."""
        assert self._reader is not None  # it is up
        try:
            while line := await self._reader.readline():
                if line.endswith(b"\n"):
                    yield json.loads(line)
        except ConnectionError:
            pass  # it was killed with words of ours unread
        self.up = False

    def failed(self, what: str) -> ReplicaFailed:
        words = self._log.read_text(errors="replace").strip()[-2000:]
        return ReplicaFailed(f"replica {self.name} {what}" + (f":\n{words}" if words else ""))

    def kill(self) -> float:
        """End it with SIGKILL. Returns a moment of `time.monotonic()` just before."""
        self.up, self.stopping = False, True
        moment = time.monotonic()
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
        return moment

    async def stop(self) -> None:
        """Ask it to end, make it end, and leave nothing of it behind."""
        self.up, self.stopping = False, True
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), END_WITHIN)
        except asyncio.TimeoutError:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                process.kill()
            await process.wait()
        if self._writer is not None:
            self._writer.close()


class Listener(Protocol):
    """Who talks to the replicas."""

    def joined(self, replica: Replica) -> None: ...

    def answered(self, replica: Replica, answer: dict[str, Any]) -> None: ...

    def left(self, replica: Replica) -> None: ...


class Fleet:
    """Keeps a number of replicas running, in slots 0, 1, ...

    Args:
        settings: of every replica; the name is filled in.
        listener: told of replicas that come and go, and of what they answer.
    """

    def __init__(self, settings: Settings, listener: Listener) -> None:
        self._settings = settings
        self._listener = listener
        self._all: list[Replica] = []
        self._tasks: list[asyncio.Task[None]] = []
        #: When replicas were killed, by name; moments of `time.monotonic()`.
        self.deaths: dict[str, float] = {}

    async def start(self, count: int) -> None:
        """Start the replicas side by side. Raises ReplicaFailed."""
        starts = [asyncio.create_task(self._start(slot)) for slot in range(count)]
        try:
            await asyncio.gather(*starts)
        finally:
            # The others must not go on, and write to a folder that is being removed.
            for start in starts:
                start.cancel()
            await asyncio.gather(*starts, return_exceptions=True)

    async def _start(self, slot: int) -> None:
        lives = sum(replica.slot == slot for replica in self._all)
        replica = Replica(slot, replace(self._settings, name=f"{slot}.{lives}"))
        self._all.append(replica)
        await replica.start()
        self._tasks.append(asyncio.create_task(self._listen(replica)))
        self._listener.joined(replica)

    async def _listen(self, replica: Replica) -> None:
        async for answer in replica.answers():
            self._listener.answered(replica, answer)
        self._listener.left(replica)
        if not replica.stopping:
            raise replica.failed("ended by itself")

    def up(self) -> list[Replica]:
        """The replicas that take messages now."""
        return [replica for replica in self._all if replica.up]

    def kill(self, replica: Replica) -> None:
        """SIGKILL a replica, and start another process in its slot."""
        self.deaths[replica.name] = replica.kill()
        self._tasks.append(asyncio.create_task(self._start(replica.slot)))

    def check(self) -> None:
        """Raise what went wrong with a replica since the last look."""
        for task in [task for task in self._tasks if task.done()]:
            self._tasks.remove(task)
            task.result()

    async def stop(self) -> None:
        """End all replicas, whatever state they are in."""
        for replica in self._all:
            replica.stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(replica.stop() for replica in self._all))
