"""What all replicas are doing: each reports a summary every two seconds, through Redis.

One hash has a field for every process. A report is one small command beside the turns; it never
opens a connection, and if it fails the page only shows less. While the page is open, a process
also reports its conversations one by one, and probes its stores. With other lock stores a process
knows only itself.
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
from ...locks.concurrent.shared import SharedState
from ...process import clock
from ..handling import Handler
from ..jobs import Job
from .activity import Activity, age
from .meter import STEP, Meter
from .neighbours import EVERY, Neighbours, digest
from .probes import StoreProbes, not_durable
from .report import MAX_OLDEST, VERSION, Row, pack_rows, parse, parse_rows

log = logging.getLogger("ticketlock.server")

#: Seconds for which reports are kept, so that processes that died are still shown.
KEPT = 3600
#: Seconds after a look at the page in which conversations are reported one by one.
WATCHED = 15.0
#: Seconds in which Redis must answer.
_PATIENCE = 2.0
#: Seconds for which the event loop may stand still without a warning, and between two warnings.
_STILL, _AGAIN = 2.0, 60.0
#: The end of the name of the field in which a process lists its conversations.
_ROWS = b" rows"


@dataclass
class Snapshot:
    """The last report of a process.

    Attributes:
        since: its age in seconds.
        summary: see `report.parse`; its `rows` are the oldest conversations.
        rows_since, rows: the same for all its conversations, which it lists while the page is
            open; None: not listed.
    """

    since: float
    summary: dict[str, Any]
    rows_since: float = 0.0
    rows: list[Row] | None = None


class Replicas:
    """Reports this process and reads the reports of the others, in a task beside the turns.

    Attributes:
        shared: whether the reports of other processes can be read.
        address: where this process listens, as host:port; empty if unknown.
        bot: the name of its bot; empty if unknown.
        down_for: seconds since the lock store's last answer; None while it answers.
    """

    def __init__(self, handler: Handler) -> None:
        self._store = handler.conversations.lock_store
        self._state = SharedState.of(self._store)
        self._jobs = handler.jobs
        self._counters = handler.counters
        self._failures = handler.failures
        self._meter = Meter()
        self._probes = StoreProbes(handler.conversations)
        self._jobs.on_end = self._ended
        self._field = secrets.token_hex(8)
        self._name = process.place()
        self._started = self._watched = clock()
        self._watched -= WATCHED
        self._warned = clock() - _AGAIN
        self._task: asyncio.Task[None] | None = None
        self.shared = self._state is not None
        self.address = ""
        self.bot = ""
        self._tracker = digest(handler.conversations.tracker_store.histories_at)
        self._neighbours = Neighbours()
        self._answered, self._answers = clock(), True

    def start(self) -> None:
        """Start the task in the running event loop, if it is not running."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Report the end of this process; its charts are kept."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            await self._probes.close()
            await self._report(Activity(self._jobs), gone=True)

    @property
    def down_for(self) -> float | None:
        return None if self._answers else clock() - self._answered

    def listens(self, host: str, port: int) -> None:
        """Set the address of this process."""
        if host in ("0.0.0.0", "::"):
            host = self._name.rpartition(":")[0]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def snapshots(self) -> list[Snapshot]:
        """The last reports of all processes, this one first, for an open page.

        Raises LockStoreConnectionError.
        """
        self._watched = clock()
        own = self.own()
        if not self._probes.results:
            await self._probes.run()
        if self._state is None:
            return [own]
        now, _, *fields = await self._call(self._state, own.summary, read=2)
        return [own, *await asyncio.to_thread(parse_snapshots, now, fields, self._field.encode())]

    def own(self) -> Snapshot:
        """The report of this process now."""
        activity = Activity(self._jobs)
        return Snapshot(0.0, self._summary(activity), 0.0, list(activity.rows.values()))

    def _ended(self, job: Job[Any]) -> None:
        grant = job.grant
        if grant is not None:
            wait = grant.granted_at - job.waiter.started
            self._meter.ended(wait, clock() - grant.granted_at)
        error = job.stopped_for if job.task.cancelled() else job.task.exception()
        if error is not None and not isinstance(error, DuplicateMessage):
            self._failures.note(error, job.turn.sender_id, job.waiter.label)

    async def _run(self) -> None:
        reports = 0
        while True:
            # Reading removes expired reports, too.
            read = int(reports % EVERY == 0)
            activity = Activity(self._jobs)
            self._meter.sample(activity.waits)
            self._failures.sample()
            if clock() - self._watched < WATCHED:
                self._probes.start()
            reports += await self._report(activity, read=read)
            since = clock()
            await asyncio.sleep(STEP)
            self._check(clock() - since - STEP)

    def _check(self, late: float) -> None:
        """Warn if this task could not go on, and so no turn of this process could."""
        if late > _STILL and clock() - self._warned > _AGAIN:
            self._warned = clock()
            log.warning(
                "the event loop of this process stood still for about %.0f s, and all of its turns with it. If "
                "the bot blocks (time.sleep, a driver without await), call that with asyncio.to_thread; if not, "
                "the process was stopped, or had no processor",
                late,
            )

    async def _report(self, activity: Activity, *, gone: bool = False, read: int = 0) -> bool:
        """Report once; returns whether that was done. Errors are logged only: the next may succeed."""
        if self._state is None or not self._state.connected:
            return False
        rows = ""
        if clock() - self._watched < WATCHED:
            oldest = sorted(activity.rows.values(), key=age, reverse=True)
            rows = await asyncio.to_thread(pack_rows, oldest)
        try:
            summary = self._summary(activity, gone)
            now, watched, *fields = await self._call(self._state, summary, read, rows)
            if fields:
                own = self._field.encode()
                others = await asyncio.to_thread(parse_snapshots, now, fields, own)
                self._neighbours.look(summary, [(one.since, one.summary) for one in others])
            if watched >= 0:
                self._watched = max(self._watched, clock() - watched / 1000)
            return True
        except TicketLockError as error:
            log.debug("cannot report this replica to the others: %s", error)
        except Exception:
            log.exception("cannot report this replica to the others")
        return False

    async def _call(
        self, state: SharedState, summary: Mapping[str, Any], read: int, rows: str = ""
    ) -> list[Any]:
        args = (self._field, json.dumps(summary, separators=(",", ":")), 1000 * KEPT, read, rows)
        try:
            answer: list[Any] = await state.run(
                "live", state.keys.replicas, *args, timeout=_PATIENCE
            )
        except LockStoreConnectionError:
            self._answers = False
            raise
        self._answered, self._answers = clock(), True
        return answer

    def _summary(self, activity: Activity, gone: bool = False) -> dict[str, Any]:
        return {
            "v": VERSION,
            "name": self._name,
            "gone": gone,
            "draining": self._jobs.draining,
            "held": activity.held,
            "waiting": len(activity.waits),
            "conversations": len(activity.rows),
            "rows": heapq.nlargest(MAX_OLDEST, activity.rows.values(), key=age),
            "counters": vars(self._counters),
            "samples": list(self._meter.samples),
            "spread": list(self._meter.spread),
            "address": self.address,
            "version": __version__,
            "inbox": 1,
            "uptime": round(clock() - self._started, 1),
            "stores": {**self._probes.results, **not_durable(self._store)},
            "bot": self.bot,
            "tracker": self._tracker,
            **self._failures.report(),
        }


def parse_snapshots(now: int, fields: Sequence[bytes], own: bytes) -> list[Snapshot]:
    """The reports of the other processes; invalid ones are ignored.

    Args:
        now: milliseconds by the clock of Redis.
        fields: names and values of the hash, by turns.
        own: the name of the field of this process.
    """
    found: dict[bytes, Snapshot] = {}
    rows: dict[bytes, tuple[float, list[Row]]] = {}
    for name, text in zip(fields[::2], fields[1::2], strict=True):
        process = name.removesuffix(_ROWS)
        if process == own or (split := _split(now, text)) is None:
            continue
        since, body = split
        if name.endswith(_ROWS):
            if (parsed := parse_rows(body)) is not None:
                rows[process] = since, parsed
        elif (summary := parse(body)) is not None:
            found[process] = Snapshot(since, summary)
    for process, snapshot in found.items():
        if process in rows:
            snapshot.rows_since, snapshot.rows = rows[process]
    return list(found.values())


def _split(now: int, text: bytes) -> tuple[float, bytes] | None:
    """The age and the body of a report; None if it is invalid."""
    moment, _, body = text.partition(b" ")
    with contextlib.suppress(ValueError):
        since = (now - int(moment)) / 1000
        # Redis has one clock, so a report is never from the future, except after a failover.
        if since > -KEPT:
            return max(0.0, since), body
    return None
