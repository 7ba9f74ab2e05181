"""Tells the observers how each message was answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..grant import clock
from ..observing import Handled, Observer, Observers
from .errors import classify
from .jobs import Job


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
        waiter = self._jobs[0].turn._lock._waiter if self._jobs else None
        ticket = waiter.number if waiter is not None and waiter.number > 0 else None
        details = {} if error is None else vars(error).get("_details", {})
        seconds, held_for = clock() - self._began, details.get("held_for")
        message = Handled(*self._names, ticket, seconds, status, reason, error, held_for)
        self._observers.tell(Observer.on_handled, message)

    def refused(self, error: Exception) -> None:
        """It is answered with an error."""
        status, reason, _ = classify(error)
        self(status, reason, error)
