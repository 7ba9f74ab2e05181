"""The heartbeat of a process: a thread of its own that renews turns and keeps waiters alive.

It is a thread so that a blocked event loop does not lose its turns, and it has connections of
its own so that renewals never queue behind waiters. It runs an event loop for them: in a
cluster the nodes are served side by side, each by one connection and, in a beat, one packet.
With nothing held and nothing waited for it sleeps and sends nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

import hiredis

from ...aio import native
from ...errors import LockStoreConnectionError
from ...observers import Observers
from ...process import clock
from ...redis.cluster import ClusterLink
from ...redis.commands import Command
from ...redis.link import Link
from ...redis.links import open_link
from ...redis.scripts import load
from ...redis.settings import RedisSettings
from ..grant import Grant
from ..incoming import Supersede
from .scripts import Scripts, Timing

log = logging.getLogger("ticketlock.lock")
T = TypeVar("T", bound=Hashable)

#: Turns or conversations in one script call: bounds how long a call keeps the server.
BATCH = 200


class Snapshot(NamedTuple):
    """What a heartbeat has seen of a conversation in which we wait.

    Attributes:
        sent_at, now: a moment of `clock()` that was not after this server time (ms).
        missing: our lowest ticket neither waits nor holds.
        bell: the text of a bell that was rung for this process, or empty.
    """

    conversation_id: str
    sent_at: float
    now: int
    missing: bool
    bell: bytes


class Turns(Protocol):
    """What the heartbeat's thread asks of the engine, and tells it on its event loop."""

    loop: asyncio.AbstractEventLoop
    margin: float
    observers: Observers

    def turns(self) -> list[Grant]: ...
    def attended(self) -> list[tuple[str, str]]: ...
    def on_heartbeat(
        self,
        lost: list[tuple[Grant, int | None]],
        seen: list[Snapshot],
        superseded: list[tuple[Grant, Supersede]],
    ) -> None: ...


class Heartbeat:
    """Renews the process's turns, keeps its waiters alive, learns what bells failed to tell."""

    def __init__(
        self, engine: Turns, settings: RedisSettings, scripts: Scripts, timing: Timing
    ) -> None:
        self._engine = engine
        self._scripts = scripts
        #: Seconds between two beats: several fit into a lease and into a waiter's life.
        self._interval = min(timing.lease / 4, timing.waiter_ttl / 2.5) / 1000
        # Shorter than the lease: what hangs is given up while there is still time.
        self._settings = replace(
            settings, socket_timeout=min(settings.socket_timeout, 2 * self._interval)
        )
        self._one_slot = settings.deployment_mode == "cluster"
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = False
        self._idle = True
        self._due = 0.0
        self._link: Link | ClusterLink
        self._started = self._over = False
        self._begin()

    def _begin(self) -> None:
        """What one thread and its loop have."""
        self._wake = asyncio.Event()
        #: Turns, and conversations with our member there, that are asked about just now.
        self._asked: set[Hashable] = set()
        #: Those about which the last question failed.
        self._failing: set[Hashable] = set()
        self._news = _News()

    # -- called on the engine's event loop -----------------------------------------------------

    def expect(self, seconds: float | None) -> None:
        """Beat within the interval, or after `seconds` if that is sooner."""
        if self._idle or (seconds is not None and clock() + seconds < self._due):
            due = self._interval if seconds is None else min(seconds, self._interval)
            self._due = clock() + due
            self._idle = False
            if not self._started:
                self._start()
            self._ring()

    def _start(self) -> None:
        self._started = True
        try:
            native.start_thread(self._run, "ticketlock-heartbeat")
        except RuntimeError as error:  # too many threads, too little memory
            self._started, self._idle = False, True
            raise LockStoreConnectionError(f"the heartbeat cannot start: {error}") from error

    def abandon(self) -> None:
        """End the thread and its connections, without waiting for that."""
        self._stopping = True
        self._ring()

    async def stop(self) -> None:
        """End the thread and its connections."""
        self.abandon()
        # Not in an executor: at the end of the interpreter there is none.
        end = clock() + 3.0
        while self._started and not self._over and clock() < end:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.005)

    def _ring(self) -> None:
        loop = self._loop
        if loop is not None:  # else the thread is starting, and looks what is due by itself
            with suppress(RuntimeError):  # the loop is closed: the thread has ended
                loop.call_soon_threadsafe(self._wake.set)

    # -- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        told = False
        try:
            while not self._stopping:
                try:
                    self._serve()
                except OSError as error:  # too many open files
                    # It goes on by itself: a ticket that comes meanwhile relies on this thread.
                    if not told:
                        log.warning("the heartbeat cannot start, trying again: %s", error)
                        told = True
                    native.pause(self._interval / 5)
        finally:
            self._over = self._stopping
            if not self._stopping:  # whatever ended it, the next ticket starts it again
                self._loop, self._started, self._idle = None, False, True

    def _serve(self) -> None:
        _check_files()
        # Made here: gevent binds what a loop is made of to the OS thread that makes it.
        with closing(asyncio.SelectorEventLoop()) as loop:
            self._begin()
            self._loop = loop
            loop.run_until_complete(self._beats())
            loop.run_until_complete(self._settled())
            loop.run_until_complete(loop.shutdown_default_executor())

    async def _settled(self) -> None:
        """What was cancelled has ended, and what was closed has let go of its sockets."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _ in range(3):
            await asyncio.sleep(0)

    async def _beats(self) -> None:
        loads = [("SCRIPT", "LOAD", load(name).source) for name in ("renew", "attend")]
        timeout = self._settings.socket_timeout
        self._link = open_link(self._settings, prologue=loads, timeout=timeout)
        while not self._stopping:
            self._wake.clear()
            pause = None if self._idle else self._due - clock()
            if pause is None or pause > 0:
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), pause)
                continue
            due, self._due = self._due, clock() + self._interval
            turns, waiting = self._engine.turns(), self._engine.attended()
            self._failing.intersection_update([*turns, *waiting])
            if not turns and not waiting:
                self._idle = True
                # What came between the look and the flag did not wake us: look again.
                if self._engine.turns() or self._engine.attended():
                    self._idle = False
                continue
            self._beat(turns, waiting, due)
        await self._link.close(patience=0)

    def _beat(
        self, turns: list[Grant], waiting: list[tuple[str, str]], due: float | None = None
    ) -> None:
        """Ask about all of them, but for those about whom an answer is still due."""
        due = clock() if due is None else due
        for batch in self._batches(turns):
            # While a fence is being raised either can be the one there is.
            fences = [None if grant.raising else grant.fence for grant in batch]
            named = zip(batch, fences, strict=True)
            names = [(grant.conversation_id, grant.member, fence) for grant, fence in named]
            question = _Question(batch, fences, partial(self._scripts.renew, names), due)
            self._ask(question, self._renewed)
        for tickets in self._batches(waiting):
            question = _Question(tickets, (), partial(self._scripts.attend, tickets), due)
            self._ask(question, self._attended)

    def _batches(self, items: Sequence[T]) -> Iterator[Sequence[T]]:
        """What goes in one call: in a cluster one conversation, for each has its own slot."""
        items = [item for item in items if item not in self._asked]
        alone = items if self._one_slot else [item for item in items if item in self._failing]
        yield from ([item] for item in alone)
        if not self._one_slot:
            # Those whose call fails do not make the others' fail again.
            items = [item for item in items if item not in self._failing]
            yield from (items[start : start + BATCH] for start in range(0, len(items), BATCH))

    def _ask(self, question: _Question, heard: Callable[[Command, Any], bool]) -> None:
        self._asked.update(question.batch)
        command = self._link.submit(question.args(), None, heard, question)
        command.narrow = _narrow

    # -- answers ---------------------------------------------------------------------------------

    def _renewed(self, command: Command, answer: Any) -> bool:
        question: _Question = command.subject
        if isinstance(answer, Exception) or clock() - question.due > self._interval:
            self._late(len(question.batch))
        if self._told(command, answer):
            rows = zip(question.batch, question.fences, answer, strict=True)
            for grant, fence, (left, mode) in rows:
                if mode:
                    self._news.superseded.append((grant, mode.decode()))
                if left:
                    grant.extend(command.sent_at + left / 1000 - self._engine.margin)
                else:
                    self._news.lost.append((grant, fence))
        return False

    def _late(self, count: int) -> None:
        engine = self._engine
        if engine.observers.has("on_late_renewals"):
            with suppress(RuntimeError):  # the loop has been closed
                notify = engine.observers.notify
                engine.loop.call_soon_threadsafe(notify, "on_late_renewals", count)

    def _attended(self, command: Command, answer: Any) -> bool:
        if self._told(command, answer):
            sent_at = command.sent_at
            now, *rows = answer
            for (conversation_id, _), row in zip(command.subject.batch, rows, strict=True):
                missing, left, bell = row
                self._news.seen.append(Snapshot(conversation_id, sent_at, now, bool(missing), bell))
                # A holder who stops renewing is succeeded the moment its lease ends.
                if (due := sent_at + left / 1000 + 0.002) < self._due:
                    self._due = due
                    self._wake.set()
        return False

    def _told(self, command: Command, answer: Any) -> bool:
        """Whether it was answered; then the engine will hear of it in this tick of the loop."""
        batch = command.subject.batch
        self._asked.difference_update(batch)
        if isinstance(answer, Exception):
            self._failed(batch, answer)
            return False
        self._failing.difference_update(batch)
        if not self._news.on_its_way:
            self._news.on_its_way = True
            assert self._loop is not None  # answers are heard on it
            self._loop.call_soon(self._tell)
        return True

    def _tell(self) -> None:
        news, self._news = self._news, _News()
        try:
            self._engine.loop.call_soon_threadsafe(
                self._engine.on_heartbeat, news.lost, news.seen, news.superseded
            )
        except RuntimeError:  # the loop has been closed without closing the store
            self._stopping = True
            self._wake.set()

    def _failed(self, batch: Collection[Any], error: Exception) -> None:
        """Ask again soon, each by itself; the turns' deadlines decide in the end."""
        if not self._stopping and not self._failing:
            log.warning("heartbeat to %s failed, trying again: %s", self._settings.address, error)
        self._failing.update(batch)
        pause = self._interval / 5 if len(batch) == 1 else 0
        assert self._loop is not None  # answers are heard on it
        self._loop.call_later(pause, self._beat_again, frozenset(batch))

    def _beat_again(self, batch: Collection[Any]) -> None:
        if not self._stopping:
            turns = [grant for grant in self._engine.turns() if grant in batch]
            self._beat(turns, [ticket for ticket in self._engine.attended() if ticket in batch])


def _check_files() -> None:
    """Raise OSError if there are no files left for an event loop: half of one would complain when it is freed."""
    files = [*os.pipe()]
    try:
        files.append(os.dup(files[0]))
    finally:
        for file in files:
            os.close(file)


class _Question(NamedTuple):
    """What is asked in one call.

    Attributes:
        batch: the turns, or conversations with our member there, that it is about.
        fences: those that are asked for, where it is about turns; None: whichever there is.
        due: moment of `clock()` at which it was to be asked.
        args: makes the call; with `narrow` one that has no key of which the server has none.
    """

    batch: Sequence[Any]
    fences: Sequence[int | None]
    args: Callable[..., tuple[Any, ...]]
    due: float


def _narrow(command: Command) -> bytes:
    packed: bytes = hiredis.pack_command(command.subject.args(narrow=True))
    return packed


class _News:
    """What the engine has yet to hear."""

    def __init__(self) -> None:
        self.lost: list[tuple[Grant, int | None]] = []
        self.superseded: list[tuple[Grant, Supersede]] = []
        self.seen: list[Snapshot] = []
        self.on_its_way = False
