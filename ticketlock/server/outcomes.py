"""How each message was answered: for the log, and for observers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from ..errors import LockLost
from ..observers import Observers
from ..process import clock
from ..telemetry.observer import Handled
from .errors import classify
from .jobs import Job

log = logging.getLogger("ticketlock.server")

#: Reasons that were logged where they arose, with the turn's attempts.
_LOGGED = ("TurnTooSlow", "TooManyAttempts")


class Telling:
    """One message, from now on.

    Args:
        jobs: the message's job, once there is one.
    """

    def __init__(
        self,
        observers: Observers,
        conversation_id: str,
        message_id: str | None,
        jobs: Sequence[Job[Any]],
    ) -> None:
        self._observers = observers
        self._names = conversation_id, message_id
        self._jobs = jobs
        self._began = clock()

    def __call__(self, status: int, reason: str, error: Exception | None = None) -> None:
        """It is answered with that."""
        waiter = self._jobs[0].turn.lock.waiter if self._jobs else None
        ticket = waiter.number if waiter is not None and waiter.number > 0 else None
        details = {} if error is None else vars(error).get("_details", {})
        seconds, held_for = clock() - self._began, details.get("held_for")
        message = Handled(*self._names, ticket, seconds, status, reason, error, held_for)
        _log(message)
        self._observers.tell("on_handled", message)

    def refused(self, error: Exception) -> None:
        """It is answered with an error."""
        status, reason, _ = classify(error)
        self(status, reason, error)


def _log(message: Handled) -> None:
    """A WARNING for what was refused, unless it has been logged already."""
    error = message.error
    if error is None or message.status < 409 or message.reason in _LOGGED:
        return
    if isinstance(error, LockLost):
        return
    log.warning(
        "message %r of conversation %r, ticket %s: answered %d %s after %.1f s%s: %s",
        message.message_id, message.conversation_id, message.ticket, message.status,
        message.reason, message.seconds,
        "" if message.held_for is None else f", its turn held for {message.held_for:.1f} s",
        error,
        extra={
            "conversation": message.conversation_id, "message_id": message.message_id,
            "ticket": message.ticket, "held_for": message.held_for, "why": str(error),
            "status": message.status, "reason": message.reason,
        },
    )  # fmt: skip
