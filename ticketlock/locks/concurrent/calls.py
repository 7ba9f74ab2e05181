"""The script calls of waiters, to acquire, and of grants, to release; several in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..grant import Grant
from ..waiter import Waiter
from .scripts import Scripts


class Calls:
    """Makes the words of calls.

    Args:
        margin: seconds by which the engine gives a turn up before the server does.
    """

    def __init__(self, scripts: Scripts, margin: float) -> None:
        self._scripts = scripts
        self._margin = margin

    def batch(self, subjects: Sequence[Waiter | Grant]) -> tuple[Any, ...]:
        """One call for all of them; a single one gets its own script."""
        if len(subjects) == 1:
            return self.alone(subjects[0])
        keys: list[str] = []
        args: list[Any] = []
        for subject in subjects:
            keys += self._scripts.keys.of(subject.conversation_id)
            if isinstance(subject, Grant):
                args += (subject.member, subject.fence, "")
            else:
                hold = self.hold(subject.lock_lifetime)
                args += (subject.member, hold, _most_waiting(subject))
        return self._scripts.batch(keys, args)

    def alone(self, subject: Waiter | Grant) -> tuple[Any, ...]:
        """A call for one."""
        if isinstance(subject, Grant):
            return self._scripts.release(subject.conversation_id, subject.member, subject.fence)
        return self.acquire(subject, max_waiting=_most_waiting(subject))

    def acquire(self, waiter: Waiter, **options: int) -> tuple[Any, ...]:
        """Acquire, after a look at the waiter's message if it has one."""
        hold = self.hold(waiter.lock_lifetime)
        words = self._scripts.acquire(waiter.conversation_id, waiter.member, hold, **options)
        if waiter.incoming is None:
            return words
        return self._scripts.admit(words, waiter.conversation_id, waiter.incoming)

    def hold(self, lock_lifetime: float) -> int:
        """Milliseconds after which the server ends a turn of that many seconds."""
        # The lifetime ends here first, and at the server only if we are frozen then.
        return round(1000 * (lock_lifetime + 2 * self._margin))


def _most_waiting(waiter: Waiter) -> int:
    if waiter.wait_timeout == 0:
        return 0
    return -1 if waiter.max_waiting is None else waiter.max_waiting
