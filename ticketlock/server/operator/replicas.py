"""What all replicas are doing: each tells a little of itself every two seconds, through Redis.

One hash has a field for every process. Telling is one small command beside the turns; it never
opens a connection, and when it fails the page shows less and nothing else happens. While an
operator looks, a process also tells of its conversations one by one, and asks its stores whether
they answer. With other lock stores a process knows of itself alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import json
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ... import __version__, process
from ...errors import DuplicateMessage, LockStoreConnectionError, TicketLockError
from ...locks.concurrent.engine import Engine
from ...locks.concurrent.store import ConcurrentRedisLockStore
from ...process import clock
from ...redis.scripts import load
from ..handling import Handler
from ..jobs import Job
from .activity import Look, age
from .meter import STEP, Meter
from .probes import Vitals
from .report import MOST, VERSION, Row, pack_rows, parse, parse_rows

log = logging.getLogger("ticketlock.server")

#: Seconds for which what a process told is kept: one that died stays to be seen.
KEPT = 3600
#: Seconds after an operator has looked for which conversations are told one by one.
WATCHED = 15.0
#: Seconds that Redis has for an answer.
_PATIENCE = 2.0
#: Ends the name of the field in which a process tells of its conversations.
_ROWS = b" rows"


@dataclass
class Heard:
    """What one process told.

    Attributes:
        since: seconds since then.
        summary: see `told.parse`; its `rows` are those that take longest.
        rows_since, rows: the same of all its conversations, of which it tells while an operator
            looks; None: not told.
    """

    since: float
    summary: dict[str, Any]
    rows_since: float = 0.0
    rows: list[Row] | None = None


class Fleet:
    """Tells of this process, and hears of the others. It lives beside the turns, in a task.

    Attributes:
        shared: whether other processes can be heard of.
        address: where this process listens, for people; empty if it is not known.
        down_for: seconds since the lock store's last answer; None: it answers.
    """

    def __init__(self, handler: Handler) -> None:
        store = handler.conversations.lock_store
        self._store = store if isinstance(store, ConcurrentRedisLockStore) else None
        self._jobs = handler.jobs
        self._counters = handler.counters
        self._failures = handler.failures
        self._meter = Meter()
        self._vitals = Vitals(handler.conversations)
        self._jobs.on_end = self._ended
        self._field = secrets.token_hex(8)
        self._name = process.place()
        self._started = self._watched = clock()
        self._watched -= WATCHED
        self._task: asyncio.Task[None] | None = None
        self.shared = self._store is not None
        self.address = ""
        self._answered, self._answers = clock(), True

    def start(self) -> None:
        """Begin, in the running event loop; harmless when it has begun."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Say good-bye. What was told of the last minutes stays for the charts."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            await self._vitals.close()
            await self._tell(Look(self._jobs), gone=True)

    @property
    def down_for(self) -> float | None:
        return None if self._answers else clock() - self._answered

    def listens(self, host: str, port: int) -> None:
        """Note where this process listens."""
        if host in ("0.0.0.0", "::"):
            host = self._name.rpartition(":")[0]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def hear(self) -> list[Heard]:
        """What all processes tell, this one first, because an operator looks.

        Raises LockStoreConnectionError.
        """
        self._watched = clock()
        own = self.own()
        if not self._vitals.found:
            await self._vitals.ask()
        if self._store is None:
            return [own]
        now, _, *fields = await self._call(self._store.engine(), own.summary, hear=2)
        return [own, *await asyncio.to_thread(_others, now, fields, self._field.encode())]

    def own(self) -> Heard:
        """What this process has to tell, now."""
        look = Look(self._jobs)
        return Heard(0.0, self._summary(look), 0.0, list(look.rows.values()))

    def _ended(self, job: Job[Any]) -> None:
        grant = job.turn.lock.grant
        if grant is not None:
            wait = grant.granted_at - job.turn.lock.waiter.started
            self._meter.ended(wait, clock() - grant.granted_at)
        error = job._why if job.task.cancelled() else job.task.exception()
        if error is not None and not isinstance(error, DuplicateMessage):
            self._failures.note(error, job.turn.sender_id, job.turn.lock.waiter.label)

    async def _run(self) -> None:
        # The first time it hears as well: that clears away what is left of the dead.
        hear = 1
        while True:
            look = Look(self._jobs)
            self._meter.sample(look.waits)
            self._failures.sample()
            if clock() - self._watched < WATCHED:
                self._vitals.look()
            await self._tell(look, hear=hear)
            hear = 0
            await asyncio.sleep(STEP)

    async def _tell(self, look: Look, *, gone: bool = False, hear: int = 0) -> None:
        """Tell once. Whatever is wrong, the next time may be better."""
        engine = self._store.running if self._store is not None else None
        if engine is None or engine.closed or engine.loop is not asyncio.get_running_loop():
            return
        rows = ""
        if clock() - self._watched < WATCHED:
            oldest = sorted(look.rows.values(), key=age, reverse=True)
            rows = await asyncio.to_thread(pack_rows, oldest)
        try:
            _, watched, *_ = await self._call(engine, self._summary(look, gone), hear, rows)
            if watched >= 0:
                self._watched = max(self._watched, clock() - watched / 1000)
        except TicketLockError as error:
            log.debug("cannot report this replica to the others: %s", error)
        except Exception:
            log.exception("cannot report this replica to the others")

    async def _call(
        self, engine: Engine, summary: Mapping[str, Any], hear: int, rows: str = ""
    ) -> list[Any]:
        assert self._store is not None  # it has the engine
        key = self._store.settings.prefixed("concurrent_lock:live")
        text = json.dumps(summary, separators=(",", ":"))
        source = load("live").source
        words = ("EVAL", source, 1, key, self._field, text, 1000 * KEPT, hear, rows)
        try:
            answer: list[Any] = await engine.link.submit(words, _PATIENCE).future
        except LockStoreConnectionError:
            self._answers = False
            raise
        self._answered, self._answers = clock(), True
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
            "spread": list(self._meter.spread),
            "address": self.address,
            "version": __version__,
            "uptime": round(clock() - self._started, 1),
            "stores": self._vitals.found,
            **self._failures.told(),
        }


def _others(now: int, fields: Sequence[bytes], own: bytes) -> list[Heard]:
    """What the processes but our own tell; what is not of our form is passed over."""
    found: dict[bytes, Heard] = {}
    rows: dict[bytes, tuple[float, list[Row]]] = {}
    for name, text in zip(fields[::2], fields[1::2], strict=True):
        process = name.removesuffix(_ROWS)
        if process == own or (told := _told(now, text)) is None:
            continue
        since, body = told
        if name.endswith(_ROWS):
            if (parsed := parse_rows(body)) is not None:
                rows[process] = since, parsed
        elif (summary := parse(body)) is not None:
            found[process] = Heard(since, summary)
    for process, heard in found.items():
        if process in rows:
            heard.rows_since, heard.rows = rows[process]
    return list(found.values())


def _told(now: int, text: bytes) -> tuple[float, bytes] | None:
    """How long ago something was told, and what; None of what is not of our form."""
    told, _, body = text.partition(b" ")
    with contextlib.suppress(ValueError):
        since = (now - int(told)) / 1000
        # By the one clock of Redis nothing is told in the future; a failover may bend it a little.
        if since > -KEPT:
            return max(0.0, since), body
    return None
