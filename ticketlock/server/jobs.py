"""Turns in tasks of the server's own: requests come and go, a message's turn stays."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterator
from typing import Any, Generic, TypeVar

from ..locks.grant import facts
from ..process import clock
from ..tracker.tracker import Tracker
from ..turn import Turn
from .errors import (
    Draining,
    Overloaded,
    RequestError,
    TooManyDuplicates,
    TurnTimeout,
    TurnTooSlow,
    add_details,
)

log = logging.getLogger("ticketlock.server")

T = TypeVar("T")

#: Seconds that a bot which was cancelled has to stop, before the server ends without it.
_REVOKED = 5.0


class Job(Generic[T]):
    """One turn and what is done in it, from the ticket to the release.

    Args:
        queued: called with the ticket number as soon as the ticket is there; see `Turn.queue`.

    Attributes:
        turn: the turn; only its own task uses it.
        begun: whether its turn has come; before that nothing has been done that counts.
        attempts: how often its message has been begun, this time included; 0: it is not counted.
    """

    def __init__(
        self,
        turn: Turn,
        body: Callable[[Turn], Awaitable[T]],
        queued: Callable[[int], object] | None = None,
    ) -> None:
        self.turn = turn
        self._body = body
        self._queued = queued
        self._why: RequestError | None = None
        self.begun = False
        self.attempts = 0
        self.task: asyncio.Task[T] = asyncio.create_task(self._run())

    async def _run(self) -> T:
        try:
            return await self._work()
        except Exception as error:
            if (slow := self._too_slow()) is None:
                raise
            raise slow from error

    def _too_slow(self) -> TurnTooSlow | None:
        """The error of a turn that has outlived its lifetime: whatever failed, failed for that."""
        grant = self.turn.lock.grant
        if grant is None or clock() < grant.expires:
            return None
        took, lifetime = clock() - grant.granted_at, self.turn.lock.waiter.lock_lifetime
        # Said here, and not in the answer: who asked may have gone long ago.
        log.warning(
            "a turn of conversation %r was given up, message %r, attempt %d, ticket %d: it took "
            "%.1f s, and its lock_lifetime is %g s",
            self.turn.sender_id, self.turn.lock.waiter.label, self.attempts, grant.number, took,
            lifetime, extra=facts(grant, why="TurnTooSlow", attempt=self.attempts),
        )  # fmt: skip
        slow = TurnTooSlow(
            f"the turn took longer than its lock_lifetime of {lifetime:g} s and was given up; what "
            "it had not committed is not stored, and sending it again will not help by itself"
        )
        add_details(slow, {"took": round(took, 3), "lock_lifetime": lifetime})
        return slow

    async def _work(self) -> T:
        if self._queued is not None:
            self._queued(await self.turn.queue())
        async with self.turn as turn:
            self.begun = True
            return await self._body(turn)

    @property
    def tracker(self) -> Tracker:
        """The latest session, as its turn has left it."""
        return self.turn.tracker

    def stop(self, why: RequestError) -> None:
        """Cancel it: a ticket goes back, a turn writes nothing more and is handed on."""
        if self._why is None:
            self._why = why
            self.task.cancel()

    def result(self) -> T:
        """What it came to; raises what it failed with."""
        if self.task.cancelled():
            raise self._why or Draining("the server was stopped")
        return self.task.result()

    async def wait(self, seconds: float) -> T:
        """Its result, within a time. Who waits may go: the job stays.

        Raises TurnTimeout, and what the job failed with.
        """
        done, _ = await asyncio.wait([self.task], timeout=seconds)
        if not done:
            raise overdue(seconds)
        return self.result()


def overdue(seconds: float) -> TurnTimeout:
    """The error of a request whose turn takes longer than that."""
    return TurnTimeout(
        f"no reply within {seconds:g} s; the message keeps its place, and the same message_id "
        "will get the reply"
    )


class Jobs:
    """All that this process is doing for requests.

    Args:
        most: jobs at once.
        duplicates: jobs at once that are of one message.

    Attributes:
        draining: the server is about to end: it begins nothing more.
    """

    def __init__(self, most: int = 2000, duplicates: int = 10) -> None:
        self._most, self._duplicates = most, duplicates
        self._jobs: set[Job[Any]] = set()
        self._same: Counter[Hashable] = Counter()
        self.draining = False
        #: Called with each job that has ended.
        self.on_end: Callable[[Job[Any]], object] = lambda job: None

    def start(
        self,
        turn: Turn,
        body: Callable[[Turn], Awaitable[T]],
        queued: Callable[[int], object] | None = None,
        same: Hashable = None,
    ) -> Job[T]:
        """Begin a job, see `Job`.

        Args:
            same: equal for jobs of one message; None of a job that is of none.

        Raises Draining, Overloaded, TooManyDuplicates.
        """
        if self.draining:
            raise Draining("this server is being stopped; send the message again")
        if len(self._jobs) >= self._most:
            raise Overloaded(f"{self._most} turns run and wait at this server; send it again")
        if same is not None and self._same[same] >= self._duplicates:
            raise TooManyDuplicates(
                f"{self._duplicates} requests wait for the reply to this message_id; send it later"
            )
        job = Job(turn, body, queued)
        self._jobs.add(job)
        if same is not None:
            self._same[same] += 1
        job.task.add_done_callback(lambda task: self._ended(job, task, same))
        return job

    def _ended(self, job: Job[Any], task: asyncio.Task[Any], same: Hashable) -> None:
        self._jobs.discard(job)
        self._same[same] -= 1
        if self._same[same] <= 0:
            del self._same[same]
        self.on_end(job)
        if not task.cancelled() and (error := task.exception()):
            # Also when the request has gone: then nobody else would be told.
            log.debug("a turn failed: %s: %s", type(error).__name__, error)

    def __iter__(self) -> Iterator[Job[Any]]:
        return iter(list(self._jobs))

    @property
    def running(self) -> int:
        """How many turns have begun and not ended."""
        return sum(job.begun for job in self._jobs)

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._jobs) - self.running

    async def drain(self, seconds: float, hurry: asyncio.Event | None = None) -> None:
        """Begin nothing more, give back what has not begun, and let the rest end.

        Args:
            seconds: for that; then their turns are taken from them.
            hurry: when it is set, they are taken at once.
        """
        self.draining = True
        for job in list(self._jobs):
            if not job.begun:
                job.stop(Draining("this server is being stopped; send the message again"))
        await self._gone(seconds, hurry)
        for job in list(self._jobs):
            job.stop(Draining("the turn did not end in time and was given up; send it again"))
        await self._gone(_REVOKED)
        if self._jobs:
            log.error("%d turns do not end although they were cancelled", len(self._jobs))

    async def _gone(self, seconds: float, hurry: asyncio.Event | None = None) -> None:
        """Wait until all jobs have ended, or for a time."""
        if not self._jobs:
            return
        tasks = [job.task for job in self._jobs]
        waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(asyncio.wait(tasks))]
        if hurry is not None:
            waits.append(asyncio.ensure_future(hurry.wait()))
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
