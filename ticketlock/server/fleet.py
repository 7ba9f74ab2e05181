"""What all replicas are doing: each tells a little of itself every two seconds, through Redis.

One hash has a field for every process. Telling is one small command beside the turns; it never
opens a connection, and when it fails the page shows less and nothing else happens. With other
lock stores a process knows of itself alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import json
import logging
import os
import secrets
import socket
from collections.abc import Iterable, Mapping
from typing import Any

from ..concurrent_lock_store import ConcurrentRedisLockStore
from ..engine import Engine
from ..errors import TicketLockError
from ..grant import Grant, clock
from ..scripts import load
from ..turn import Turn
from .handling import Handler
from .jobs import Job
from .meter import SAMPLES, STEP, Meter
from .told import MOST, VERSION, parse

log = logging.getLogger("ticketlock")

#: Seconds for which what a process told is kept: as long as its samples are shown.
KEPT = SAMPLES * STEP
#: Seconds that Redis has for an answer.
_PATIENCE = 2.0

#: Process -> (seconds since it told, what it told).
Heard = dict[str, tuple[float, dict[str, Any]]]


class Fleet:
    """Tells of this process, and hears of the others. It lives beside the turns, in a task.

    Attributes:
        shared: whether other processes can be heard of.
    """

    def __init__(self, handler: Handler) -> None:
        store = handler.conversations.lock_store
        self._store = store if isinstance(store, ConcurrentRedisLockStore) else None
        self._jobs = handler.jobs
        self._counters = handler.counters
        self._meter = Meter()
        self._jobs.on_end = self._ended
        self._field = secrets.token_hex(8)
        self._name = f"{socket.gethostname()[:63]}:{os.getpid()}"
        self._task: asyncio.Task[None] | None = None
        self.shared = self._store is not None

    def start(self) -> None:
        """Begin, in the running event loop; harmless when it has begun."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Say good-bye. What was told of the last minutes stays for the charts."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            await self._tell(Look(self._jobs), gone=True)

    async def hear(self) -> Heard:
        """What all processes tell, this one included. Raises LockStoreConnectionError."""
        own = self._summary(Look(self._jobs))
        if self._store is None:
            return {self._field: (0.0, own)}
        now, *fields = await self._call(self._store._live(), own, hear=True)
        heard = dict(zip(fields[::2], fields[1::2], strict=True))
        return {
            process.decode(errors="replace"): found
            for process, text in heard.items()
            if (found := _parse(now, text)) is not None
        }

    def _ended(self, job: Job[Any]) -> None:
        if (wait := waited(job)) is not None:
            self._meter.ended(wait)

    async def _run(self) -> None:
        first = True
        while True:
            look = Look(self._jobs)
            self._meter.sample(look.waits)
            # The first time it hears as well: that clears away what is left of the dead.
            await self._tell(look, hear=first)
            first = False
            await asyncio.sleep(STEP)

    async def _tell(self, look: Look, *, gone: bool = False, hear: bool = False) -> None:
        """Tell once. Whatever is wrong, the next time may be better."""
        engine = self._store._engine if self._store is not None else None
        if engine is None or engine.closed or engine.loop is not asyncio.get_running_loop():
            return
        try:
            await self._call(engine, self._summary(look, gone), hear)
        except TicketLockError as error:
            log.debug("the other replicas do not hear of this one: %s", error)
        except Exception:
            log.exception("the other replicas do not hear of this one")

    async def _call(self, engine: Engine, summary: Mapping[str, Any], hear: bool) -> list[Any]:
        assert self._store is not None  # it has the engine
        key = self._store.settings.prefixed("concurrent_lock:live")
        text = json.dumps(summary, separators=(",", ":"))
        words = ("EVAL", load("live").source, 1, key, self._field, text, 1000 * KEPT, int(hear))
        answer: list[Any] = await engine.link.submit(words, _PATIENCE).future
        return answer

    def _summary(self, look: Look, gone: bool = False) -> dict[str, Any]:
        return {
            "v": VERSION,
            "name": self._name,
            "gone": gone,
            "draining": self._jobs.draining,
            "held": look.held,
            "waiting": len(look.waits),
            "conversations": len(look.rows),
            "rows": heapq.nlargest(MOST, look.rows.values(), key=age),
            "counters": vars(self._counters),
            "samples": list(self._meter.samples),
        }


class Look:
    """What a process is doing at a moment, seen in one pass: there may be thousands of jobs.

    Attributes:
        rows: conversation -> who holds it here, how many wait for it here, and for how long.
        waits: seconds for which each has been waiting that waits.
        held: how many turns are held.
    """

    def __init__(self, jobs: Iterable[Job[Any]]) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.waits: list[float] = []
        self.held = 0
        self._now = clock()
        for job in jobs:
            turn = job.turn
            if turn._grant is not None:
                self._holds(turn, turn._grant)
            elif started := turn._lock._waiter.started:  # else it has not come to its ticket
                self._waits(turn.sender_id, self._now - started)

    def _row(self, name: str) -> dict[str, Any]:
        if (row := self.rows.get(name)) is None:
            row = {"id": name, "holder": None, "waiting": 0, "longest_wait": 0.0}
            self.rows[name] = row
        return row

    def _holds(self, turn: Turn, grant: Grant) -> None:
        self.held += 1
        self._row(turn.sender_id)["holder"] = {
            "label": turn._lock._waiter.label,
            "number": grant.number,
            "fence": grant.fence,
            "held_for": self._now - grant.granted_at,
        }

    def _waits(self, name: str, seconds: float) -> None:
        self.waits.append(seconds)
        row = self._row(name)
        row["waiting"] += 1
        row["longest_wait"] = max(row["longest_wait"], seconds)


def _parse(now: int, text: bytes) -> tuple[float, dict[str, Any]] | None:
    """How long ago something was told, and what; None of what is not of our form."""
    told, _, body = text.partition(b" ")
    with contextlib.suppress(ValueError):
        since = (now - int(told)) / 1000
        # By the one clock of Redis nothing is told in the future; a failover may bend it a little.
        if since > -KEPT and (summary := parse(body)) is not None:
            return max(0.0, since), summary
    return None


def age(row: Mapping[str, Any]) -> float:
    """Seconds of the longest turn or wait of a conversation: the oldest are shown first."""
    wait: float = row["longest_wait"]
    return max(wait, row["holder"]["held_for"]) if row["holder"] else wait


def waited(job: Job[Any]) -> float | None:
    """Seconds that a job that had its turn waited for it, None if it had none."""
    turn = job.turn
    if turn._grant is None:
        return None
    wait: float = turn._grant.granted_at - turn._lock._waiter.started
    return wait
