"""`Listener`: one who waits for a message in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from .submission import MessageOutcome

#: Called with a reply and its index among the replies to the message. After a lost turn they begin
#: at 0 again; some may be missing, and all of them are in the outcome.
OnReply = Callable[[dict[str, Any], int], object]


class Listener:
    """One who waits for the outcome of a message in this process.

    Args:
        on_reply: called with each reply as soon as the handler has it: it is not stored then.
        sends_again: whether it gets an error of the handler as a result.

    Attributes:
        outcome: resolved with the MessageOutcome, or with an error; cancelled if who waits has left.
        context: of who waits, as its trace: the turn runs in a copy, if it runs here.
    """

    __slots__ = ("context", "on_reply", "outcome", "sends_again")

    def __init__(self, on_reply: OnReply | None = None, *, sends_again: bool = True) -> None:
        self.on_reply = on_reply
        self.sends_again = sends_again
        self.context = copy_context()
        self.outcome: asyncio.Future[MessageOutcome] = asyncio.get_running_loop().create_future()

    @property
    def told(self) -> bool:
        """Whether it has the outcome of the message."""
        outcome = self.outcome
        return outcome.done() and not outcome.cancelled() and outcome.exception() is None

    def tell(self, outcome: MessageOutcome | None, error: Exception | None = None) -> bool:
        """Resolve the outcome with what it waits for; False: it waits on.

        Args:
            outcome: None: the message has none yet.
            error: what its handler has met.
        """
        if error is not None and self.sends_again:
            self.fail(error)
        elif outcome is not None and not self.outcome.done():
            self.outcome.set_result(outcome)
        return self.outcome.done()

    def fail(self, error: Exception) -> None:
        """What becomes of the message cannot be found out."""
        if not self.outcome.done():
            self.outcome.set_exception(error)
            self.outcome.exception()  # read: the sender may have left
