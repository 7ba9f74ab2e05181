"""The task that works under a grant: it is cancelled when the grant is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

#: Seconds for which a held turn may be without a living task before that is a warning.
GRACE = 1.0

#: What to do about a turn whose task is over.
REMEDY = "in the task that does the work, call grant.bind() or enter the lock with `async with`"

AnyTask = asyncio.Task[object]

#: Whether tasks count their cancellations: from Python 3.11 on.
_COUNTS = hasattr(asyncio.Task, "cancelling")


def caller() -> AnyTask | None:
    """The task that runs now; None outside of a running loop."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def closed_under(error: BaseException) -> None:
    """The store was closed while this task used it, and `error` says so.

    It need not be news to asyncio ("exception was never retrieved") where no one awaits the
    task, as at a Ctrl-C: the application has closed the store itself.
    """
    task = caller()
    if task is not None:
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception() is error)


class Body:
    """A task, from when it is bound to a grant until the turn is left.

    Args:
        over: called with the task if it ends while the turn is held.
    """

    __slots__ = ("_cancelling", "_message", "_over", "task")

    def __init__(self, task: AnyTask, over: Callable[[AnyTask], None]) -> None:
        self.task = task
        self._message: str | None = None
        self._over = over
        # Python 3.11 counts cancellations: those of others come before ours, or after.
        self._cancelling = task.cancelling() if _COUNTS else 0
        task.add_done_callback(over)

    @property
    def over(self) -> bool:
        """Whether the task has ended."""
        return self.task.done()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._message is not None

    def cancel(self, message: str) -> None:
        """Cancel the task, once."""
        if self._message is None and not self.over:
            self._message = message
            self.task.cancel(message)

    def leave(self) -> None:
        """The task has left the turn: its end is not reported any more."""
        self.task.remove_done_callback(self._over)

    async def settle(self, error: BaseException | None) -> bool:
        """Take our cancellation back; whether `error`, which the body has raised, was that."""
        task = self.task
        if task is not caller():
            return False  # left by another task: what was cancelled stays cancelled
        # Python 3.10 has the message only, and loses it where the task awaited another one.
        ours = isinstance(error, asyncio.CancelledError) and error.args in ((), (self._message,))
        if hasattr(task, "uncancel"):
            others = task.uncancel() > self._cancelling
            ours = isinstance(error, asyncio.CancelledError) and not others
        if error is None:
            # The body ended without another await: the cancellation is still to come. It is
            # swallowed if it is ours alone.
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError as late:
                if hasattr(task, "uncancel"):
                    if task.cancelling() > self._cancelling:
                        raise
                elif late.args != (self._message,):
                    raise
        return ours
