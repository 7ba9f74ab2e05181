"""Turns in tasks of the server: a turn goes on if its request is cancelled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Generic, TypeVar

from ..aio.running import until_done
from ..inbox.listener import Listener
from ..locks.deadlines import DeadlineWatch
from ..locks.grant import Grant, facts
from ..locks.waiter import Waiter
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

#: Seconds in which a cancelled bot must stop before the server ends without it.
_REVOKED = 5.0


class Job(Generic[T]):
    """One turn with its work, from the ticket to the release.

    Attributes:
        turn: the turn; only the task of the job uses it.
        message: conversation and message id; None: it is for no message.
        begun: whether the turn has begun.
        attempts: attempts at its message, this one included; 0 if they are not counted.
        stopped_for: why it was cancelled; None: it was not.
    """

    def __init__(
        self,
        turn: Turn,
        body: Callable[[Turn], Awaitable[T]],
        message: tuple[str, str] | None = None,
    ) -> None:
        self.turn = turn
        self.message = message
        self.stopped_for: RequestError | None = None
        self.begun = False
        self.attempts = 0
        self._slow: TurnTooSlow | None = None
        self.task: asyncio.Task[T] = asyncio.create_task(self._run(body))

    @property
    def grant(self) -> Grant | None:
        """The grant of the turn; None before it is granted."""
        return self.turn.lock.grant  # `Turn.grant` raises before that

    @property
    def waiter(self) -> Waiter:
        """The ticket of the turn."""
        return self.turn.lock.waiter

    async def _run(self, body: Callable[[Turn], Awaitable[T]]) -> T:
        try:
            return await self._work(body)
        except Exception as error:
            if (slow := self.too_slow()) is None:
                raise
            raise slow from error

    def too_slow(self) -> TurnTooSlow | None:
        """The error of a turn that outlived its lifetime, which is then the cause of any error."""
        grant = self.grant
        if grant is None or clock() < grant.expires:
            return None
        if self._slow is not None:
            return self._slow
        took, lifetime = clock() - grant.granted_at, self.waiter.lock_lifetime
        # Logged here, because the client may have disconnected long ago.
        log.warning(
            "a turn of conversation %r was given up, message %r, attempt %d, ticket %d: it took "
            "%.1f s, and its lock_lifetime is %g s",
            self.turn.sender_id, self.waiter.label, self.attempts, grant.number, took,
            lifetime, extra=facts(grant, why="TurnTooSlow", attempt=self.attempts),
        )  # fmt: skip
        slow = TurnTooSlow(
            f"the turn took longer than its lock_lifetime of {lifetime:g} s and was given up; what "
            "it had not committed is not stored, and sending it again will not help by itself"
        )
        add_details(slow, {"took": round(took, 3), "lock_lifetime": lifetime})
        self._slow = slow
        return slow

    async def _work(self, body: Callable[[Turn], Awaitable[T]]) -> T:
        async with self.turn as turn:
            self.begun = True
            return await body(turn)

    @property
    def tracker(self) -> Tracker:
        """The latest session, as the turn left it."""
        return self.turn.tracker

    def stop(self, why: RequestError) -> None:
        """Cancel it: its ticket is withdrawn, or its turn writes nothing more and is released."""
        if self.stopped_for is None:
            self.stopped_for = why
            self.task.cancel()

    def result(self) -> T:
        """Its result; raises its error."""
        if self.task.cancelled():
            raise self.stopped_for or Draining("the server was stopped")
        return self.task.result()

    async def wait(self, seconds: float) -> T:
        """Wait for its result. If the caller is cancelled, the job goes on.

        Raises TurnTimeout, and the error of the job.
        """
        if not await until_done(self.task, seconds):
            raise overdue(seconds)
        return self.result()


def overdue(seconds: float) -> TurnTimeout:
    """The error of a request whose turn takes longer than `seconds`."""
    return TurnTimeout(
        f"no reply within {seconds:g} s; the message keeps its place, and the same message_id "
        "will get the reply"
    )


class Sent:
    """A message whose sender waits for the reply here.

    Attributes:
        started: moment of `clock()` at which it came.
        deadline: up to which its sender waits: then its outcome is a TurnTimeout.
        number: its ticket number, once it is known.
        listener: gets its outcome.
        may_repeat: see `Message`.
        taken_back: whether the server has withdrawn it, because it stops.
    """

    __slots__ = (
        "_jobs", "conversation_id", "deadline", "listener", "may_repeat", "message_id", "number", "started",
        "taken_back",
    )  # fmt: skip

    def __init__(self, jobs: Jobs, conversation_id: str, message_id: str, may_repeat: bool) -> None:
        self._jobs = jobs
        self.listener = Listener()
        self.may_repeat = may_repeat
        self.taken_back = False
        self.conversation_id = conversation_id
        self.message_id = message_id
        self.started = clock()
        self.deadline = self.started + jobs.patience
        self.number = 0

    def __enter__(self) -> Sent:
        self._jobs.waits_for(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._jobs.waits_no_more(self)


class Jobs:
    """The jobs of this process, and the senders that wait for replies.

    Args:
        limit: jobs at once, and senders.
        duplicates: senders at once for one message.
        patience: seconds that a sender waits for its reply.

    Attributes:
        draining: whether the server is stopping and starts no more jobs.
        on_end: called with each job that has ended.
    """

    def __init__(
        self, limit: int = 2000, duplicates: int = 10, patience: float = 60.0
    ) -> None:  # fmt: skip
        self.limit, self._duplicates, self.patience = limit, duplicates, patience
        self._jobs: set[Job[Any]] = set()
        self._messages: dict[tuple[str, str], Job[Any]] = {}
        self._senders: dict[tuple[str, str], list[Sent]] = {}
        self._count = 0
        self._late = DeadlineWatch(self._unanswered, self._overdue)
        self.draining = False
        self.on_end: Callable[[Job[Any]], object] = lambda job: None

    def start(self, turn: Turn, body: Callable[[Turn], Awaitable[T]]) -> Job[T]:
        """Start a job that waits for its turn, see `Job`. Raises Draining, Overloaded."""
        self.check()
        return self._started(Job(turn, body))

    def begin(
        self, turn: Turn, body: Callable[[Turn], Awaitable[T]], message: tuple[str, str]
    ) -> Job[T]:
        """Start the job of a message whose turn was granted."""
        job = Job(turn, body, message)
        self._messages[message] = job
        return self._started(job)

    def check_draining(self) -> None:
        """Raise Draining if the server is stopping."""
        if self.draining:
            raise Draining("this server is being stopped; send the message again")

    def check(self) -> None:
        """Raise Draining or Overloaded if nothing more is accepted that a client waits for."""
        self.check_draining()
        if max(len(self._jobs), self._count) >= self.limit:
            raise Overloaded(f"{self.limit} turns run and wait at this server; send it again")

    def sender(self, conversation_id: str, message_id: str, may_repeat: bool = True) -> Sent:
        """A sender that waits for the reply to a message in the block.

        Entering raises Draining, Overloaded, TooManyDuplicates.
        """
        return Sent(self, conversation_id, message_id, may_repeat)

    def waits_for(self, sent: Sent) -> None:
        """A sender begins to wait. Raises Draining, Overloaded, TooManyDuplicates."""
        self.check()
        same = self._senders.setdefault((sent.conversation_id, sent.message_id), [])
        if len(same) >= self._duplicates:
            raise TooManyDuplicates(
                f"{self._duplicates} requests wait for the reply to this message_id; send it later"
            )
        same.append(sent)
        self._count += 1
        self._late.watch(sent)

    def waits_no_more(self, sent: Sent) -> None:
        """A sender has its reply, or has left."""
        key = (sent.conversation_id, sent.message_id)
        same = self._senders[key]
        same.remove(sent)
        self._count -= 1
        if not same:
            del self._senders[key]

    def _unanswered(self) -> list[Sent]:
        """The senders that wait and have no outcome."""
        every = (sent for same in self._senders.values() for sent in same)
        return [sent for sent in every if not sent.listener.outcome.done()]

    def _overdue(self, sent: Sent) -> None:
        sent.listener.fail(overdue(self.patience))

    def of(self, sent: Sent) -> Job[Any] | None:
        """The job of a message, if its turn runs here."""
        return self.find(sent.conversation_id, sent.message_id)

    def find(self, conversation_id: str, message_id: str) -> Job[Any] | None:
        """The same, by its ids."""
        return self._messages.get((conversation_id, message_id))

    @property
    def senders(self) -> list[Sent]:
        """The senders that wait, but for one of each message whose turn runs here."""
        return [
            sent
            for same in self._senders.values()
            for sent in same[0 if self.of(same[0]) is None else 1 :]
        ]

    @property
    def unnamed(self) -> list[Sent]:
        """The senders of messages that cannot be sent again under their ids."""
        return [sent for same in self._senders.values() for sent in same if not sent.may_repeat]

    def waits(self, sent: Sent) -> bool:
        """Whether a sender waits still."""
        return sent in self._senders.get((sent.conversation_id, sent.message_id), ())

    def _started(self, job: Job[T]) -> Job[T]:
        self._jobs.add(job)
        job.task.add_done_callback(lambda task: self._ended(job, task))
        return job

    def _ended(self, job: Job[Any], task: asyncio.Task[Any]) -> None:
        self._jobs.discard(job)
        if job.message is not None and self._messages.get(job.message) is job:
            del self._messages[job.message]
        self.on_end(job)
        if not task.cancelled() and (error := task.exception()):
            # The request may have been cancelled: then no caller gets the error.
            log.debug("a turn failed: %s: %s", type(error).__name__, error)

    def __iter__(self) -> Iterator[Job[Any]]:
        return iter(list(self._jobs))

    @property
    def running(self) -> int:
        """The number of turns that run."""
        return sum(job.begun for job in self._jobs)

    @property
    def waiting(self) -> int:
        """The number of jobs that wait for their turn, and of senders that wait for one."""
        return len(self._jobs) - self.running + len(self.senders)

    async def drain(self, seconds: float, hurry: asyncio.Event | None = None) -> None:
        """Start no more jobs, withdraw those that wait, and let the running ones end.

        Args:
            seconds: time for that; then they are cancelled.
            hurry: when it is set, they are cancelled at once.
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
        """Wait until all jobs have ended, up to a time."""
        if not self._jobs:
            return
        tasks = [job.task for job in self._jobs]
        waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(asyncio.wait(tasks))]
        if hurry is not None:
            waits.append(asyncio.ensure_future(hurry.wait()))
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
