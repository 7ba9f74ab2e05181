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
from ..grant import clock
from ..scripts import load
from ..turn import Turn
from .handling import Handler
from .jobs import Job
from .meter import SAMPLES, STEP, Meter

log = logging.getLogger("ticketlock")

#: Of the form of what is told; what has another one is passed over.
VERSION = 1
#: Conversations that a process tells of, those that take longest.
MOST = 50
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
            await self._tell(gone=True)

    async def hear(self) -> Heard:
        """What all processes tell, this one included. Raises LockStoreConnectionError."""
        own = self._summary()
        if self._store is None:
            return {self._field: (0.0, own)}
        now, *fields = await self._call(self._store._live(), own, hear=True)
        heard = dict(zip(fields[::2], fields[1::2], strict=True))
        return {
            process.decode(): found
            for process, text in heard.items()
            if (found := _parse(now, text)) is not None
        }

    def _ended(self, job: Job[Any]) -> None:
        if (wait := waited(job)) is not None:
            self._meter.ended(wait)

    async def _run(self) -> None:
        first = True
        while True:
            self._meter.sample([wait for job in self._jobs if (wait := waits(job)) is not None])
            # The first time it hears as well: that clears away what is left of the dead.
            await self._tell(hear=first)
            first = False
            await asyncio.sleep(STEP)

    async def _tell(self, *, gone: bool = False, hear: bool = False) -> None:
        """Tell once. Whatever is wrong, the next time may be better."""
        engine = self._store._engine if self._store is not None else None
        if engine is None or engine.closed or engine.loop is not asyncio.get_running_loop():
            return
        try:
            await self._call(engine, self._summary(gone), hear)
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

    def _summary(self, gone: bool = False) -> dict[str, Any]:
        jobs = list(self._jobs)
        rows = conversations(jobs)
        return {
            "v": VERSION,
            "name": self._name,
            "gone": gone,
            "draining": self._jobs.draining,
            "held": sum(held(job) is not None for job in jobs),
            "waiting": sum(waits(job) is not None for job in jobs),
            "conversations": len(rows),
            "rows": heapq.nlargest(MOST, rows.values(), key=age),
            "counters": vars(self._counters),
            "samples": list(self._meter.samples),
        }


def _parse(now: int, text: bytes) -> tuple[float, dict[str, Any]] | None:
    """How long ago something was told, and what; None of what is not of our form."""
    told, _, body = text.partition(b" ")
    with contextlib.suppress(ValueError):
        summary = json.loads(body)
        if isinstance(summary, dict) and summary.get("v") == VERSION:
            return max(0.0, (now - int(told)) / 1000), summary
    return None


def conversations(jobs: Iterable[Job[Any]]) -> dict[str, dict[str, Any]]:
    """Conversation -> who holds it here, how many wait for it here, and for how long."""
    rows: dict[str, dict[str, Any]] = {}
    for job in jobs:
        name = _turn(job).sender_id
        row = rows.setdefault(name, {"id": name, "holder": None, "waiting": 0, "longest_wait": 0.0})
        wait, held_for = waits(job), held(job)
        if held_for is not None:
            turn = _turn(job)
            row["holder"] = {
                "label": turn._lock._waiter.label,
                "number": turn.grant.number,
                "fence": turn.fence,
                "held_for": held_for,
            }
        elif wait is not None:
            row["waiting"] += 1
            row["longest_wait"] = max(row["longest_wait"], wait)
    return {name: row for name, row in rows.items() if row["holder"] or row["waiting"]}


def age(row: Mapping[str, Any]) -> float:
    """Seconds of the longest turn or wait of a conversation: the oldest are shown first."""
    wait: float = row["longest_wait"]
    return max(wait, row["holder"]["held_for"]) if row["holder"] else wait


def _turn(job: Job[Any]) -> Turn:
    return job._turn


def waits(job: Job[Any]) -> float | None:
    """Seconds for which a job has been waiting, None if it does not (any more, or yet)."""
    turn = _turn(job)
    started: float = turn._lock._waiter.started
    return clock() - started if turn._grant is None and started else None


def held(job: Job[Any]) -> float | None:
    """Seconds since a job's turn came, None before it has."""
    grant = _turn(job)._grant
    return None if grant is None else clock() - grant.granted_at


def waited(job: Job[Any]) -> float | None:
    """Seconds that a job that had its turn waited for it, None if it had none."""
    turn = _turn(job)
    if turn._grant is None:
        return None
    wait: float = turn._grant.granted_at - turn._lock._waiter.started
    return wait
