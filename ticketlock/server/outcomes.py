"""How each request for a turn ended: the details of an error, the log, the observers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import (
    LockLost,
    LockStoreConnectionError,
    LockTimeout,
    QueueFull,
    TicketLockError,
)
from ..locks.store import LockStore
from ..process import clock
from ..telemetry.observer import Handled
from .errors import CONTENDED, add_details, classify, logged
from .jobs import Job, Sent
from .operator.failures import Failures

log = logging.getLogger("ticketlock.server")

#: Reasons that were logged before, with the attempts of the turn.
_LOGGED = ("TurnTooSlow", "TooManyAttempts")
#: Seconds in which the lock store must say who holds the conversation; the answer waits no longer.
_PATIENCE = 1.0


class Report:
    """What is known of a request when its end is reported; its block fills it in.

    Leaving the block reports how it ends, and adds details to its error.

    Attributes:
        sent: the message whose reply it waits for.
        job: its turn here; for a message `job_of` finds it.
        duplicate: whether the message was known before.
    """

    __slots__ = (
        "_began", "_outcomes", "conversation_id", "duplicate", "job", "job_of", "message_id", "sent",
    )  # fmt: skip

    def __init__(self, outcomes: Outcomes, conversation_id: str, message_id: str | None) -> None:
        self._outcomes = outcomes
        self.conversation_id = conversation_id
        self.message_id = message_id
        self.sent: Sent | None = None
        self.job: Job[Any] | None = None
        self.job_of: Callable[[Sent], Job[Any] | None] = lambda sent: None
        self.duplicate = False
        self._began = clock()

    @property
    def turn(self) -> Job[Any] | None:
        """Its turn, if it is here."""
        return self.job or (self.job_of(self.sent) if self.sent is not None else None)

    @property
    def ticket(self) -> int | None:
        """Its ticket number, once it has one."""
        number = self.job.waiter.number if self.job else self.sent.number if self.sent else 0
        return number if number > 0 else None

    @property
    def seconds(self) -> float:
        """How long it has taken."""
        return clock() - self._began

    async def __aenter__(self) -> Report:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self._outcomes.report(self, 200, "duplicate" if self.duplicate else "ok")
        elif isinstance(error, Exception):
            await self._outcomes.failed(self, error)
        elif isinstance(error, (asyncio.CancelledError, GeneratorExit)):
            self._outcomes.report(self, 499, "ClientGone")


class Outcomes:
    """Reports how requests ended.

    Args:
        failures: counts failures that no turn counts.
        max_attempts: shown to clients of messages that were tried before.
    """

    def __init__(self, store: LockStore, failures: Failures, max_attempts: int) -> None:
        self._store = store
        self._failures = failures
        self._max_attempts = max_attempts

    def reported(self, conversation_id: str, message_id: str | None) -> Report:
        """Report how a block ends, and add details to its error."""
        return Report(self, conversation_id, message_id)

    def report(
        self, request: Report, status: int, reason: str, error: Exception | None = None
    ) -> None:
        """A request has ended."""
        details = {} if error is None else vars(error).get("_details", {})
        handled = Handled(
            request.conversation_id, request.message_id, request.ticket, request.seconds, status,
            reason, error, details.get("held_for"),
        )  # fmt: skip
        _log(handled)
        self._store.observers.notify("on_handled", handled)

    async def failed(self, request: Report, error: Exception) -> None:
        """A request has ended with an error, which gets details."""
        counted = vars(error).pop("_counted", False)  # by the end of its turn
        if not (counted or (request.job and request.job.task.done())):
            self._failures.note(error, request.conversation_id)
        status, reason, _ = classify(error)
        if status in CONTENDED:
            await self._explain(error, request)
        self.report(request, status, reason, error)

    async def _explain(self, error: Exception, request: Report) -> None:
        found = await situation(self._store, request, error)
        add_details(error, found.as_dict())
        job = request.turn
        attempts = job.attempts if job else vars(error).get("_attempts", 0)
        if attempts:
            add_details(error, {"attempts": attempts, "max_attempts": self._max_attempts})


def _log(message: Handled) -> None:
    """Log a refusal as a WARNING, unless it was logged before."""
    error = message.error
    if error is None or message.status < 409 or message.reason in _LOGGED:
        return
    if isinstance(error, LockLost):
        return
    log.warning(
        "message%s of conversation %r%s: answered %d %s after %.1f s%s: %s",
        "" if message.message_id is None else f" {message.message_id!r}", message.conversation_id,
        "" if message.ticket is None else f", ticket {message.ticket}", message.status,
        message.reason, message.seconds,
        "" if message.held_for is None else f", its turn held for {message.held_for:.1f} s",
        logged(error),
        extra={
            "conversation": message.conversation_id, "message_id": message.message_id,
            "ticket": message.ticket, "held_for": message.held_for, "why": str(error),
            "status": message.status, "reason": message.reason,
        },
    )  # fmt: skip


@dataclass
class Situation:
    """Who holds a conversation; None where that is not known.

    Attributes:
        holder_alive: whether a turn holds it whose process is alive.
        held_for: seconds for which it has been held.
        ahead: turns before the message's, the current one included.
    """

    holder_alive: bool | None = None
    held_for: float | None = None
    ahead: int | None = None

    def as_dict(self) -> dict[str, Any]:
        made = asdict(self)
        if self.held_for is not None:
            made["held_for"] = round(self.held_for, 3)
        return made


async def situation(store: LockStore, request: Report, error: Exception) -> Situation:
    """The situation of a request that failed with `error`; it never fails."""
    job = request.turn
    grant = job.grant if job is not None else None
    if grant is not None and grant.reason is None and clock() < grant.deadline:
        return Situation(True, clock() - grant.granted_at, 0)  # its own turn goes on
    if isinstance(error, LockTimeout) and error.position is not None:
        return Situation(error.holder is not None, error.held_for, error.position)
    if isinstance(error, LockStoreConnectionError):
        return Situation()
    try:
        return await asyncio.wait_for(_inspect(store, request, error), _PATIENCE)
    except (TicketLockError, asyncio.TimeoutError):
        return Situation()


async def _inspect(store: LockStore, request: Report, error: Exception) -> Situation:
    found = await store.inspect(request.conversation_id, 0)
    held = found.holder is not None and found.holder.lease > 0
    ahead = found.waiting_count + held
    job, number = request.turn, request.ticket
    if number and not (job and job.grant) and not isinstance(error, QueueFull):
        place = await store.position(request.conversation_id, number)
        ahead = ahead if place is None else place  # None: it has lost its ticket
    return Situation(held, found.holder.held_for if found.holder else None, ahead)
