"""`Inbox`: takes messages, and has them handled: one at a time in each conversation, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from .due import Cancelled, Due, When
from .listener import Listener
from .saying import Saying
from .served import Served
from .submission import (
    Deleted,
    Letter,
    LetterKind,
    Letters,
    MessageOutcome,
    Pending,
    Receipt,
    Submission,
    SubmittedMessage,
)

#: Starts the turn of a message: its task, which ends the turn.
Start = Callable[[Served], "asyncio.Task[Any]"]
#: What a withdrawal has found.
Withdrawn = Literal["withdrawn", "unknown", "begun", "finished"]
#: The WARNING about a Redis whose durability is "memory".
NOT_KEPT = (
    "keeps nothing through a restart: accepted messages that still wait are lost with it; set "
    "appendonly yes in its configuration"
)


class Inbox:
    """The messages of all conversations that are not finished.

    Attributes:
        durable: whether a message outlives the process that took it.
    """

    durable = False
    #: Called with a conversation whose deliveries wait and are sent by no process.
    on_deliveries: Callable[[str], object] = staticmethod(lambda conversation_id: None)
    #: Called with (conversation, delivery) at the end of a turn, where no script stores it.
    store_delivery: Callable[[str, str], object] = staticmethod(lambda conversation_id, text: None)

    def tell_of_deliveries(self, due: Callable[[str], object]) -> None:
        """Call `due` with each conversation whose deliveries wait and are sent by no process."""
        self.on_deliveries = due

    async def submit(self, message: Submission, listener: Listener | None = None) -> Receipt:
        """Store a message; it is handled whatever becomes of its sender.

        Args:
            listener: gets its replies and its outcome.

        Raises QueueFull, LockTimeout (where it must not wait), LockStoreConnectionError.
        """
        raise NotImplementedError

    async def submit_later(self, message: Submission, when: When) -> Receipt:
        """Store a message that comes due later; then it is submitted, once.

        Args:
            message: its id is `when.message_id`.

        Raises ValueError (too long, or too far ahead), QueueFull (too many wait),
        LockStoreConnectionError.
        """
        raise NotImplementedError

    async def cancel(self, conversation_id: str, name: str) -> Cancelled:
        """Cancel a message by its name, or the id of one without: it is never submitted then."""
        raise NotImplementedError

    async def cancel_all(self, conversation_id: str) -> int:
        """Cancel all messages of a conversation that come due later; returns how many there were.

        One that is being submitted just now may be handled still.
        """
        raise NotImplementedError

    async def due(self, conversation_id: str, most: int = 100) -> Sequence[Due]:
        """The messages of a conversation that come due later, the first due first."""
        raise NotImplementedError

    async def durability(self) -> str:
        """What an accepted message outlives: `process`: not even this process; `memory`: any process,
        but not a restart of Redis; `appendonly`: that too, as far as its appendfsync says; `unknown`.
        """
        return "process"

    async def outcome(self, conversation_id: str, message_id: str) -> MessageOutcome:
        """What has become of a message."""
        raise NotImplementedError

    async def wait(self, conversation_id: str, message_id: str, seconds: float) -> MessageOutcome:
        """The outcome of a message, once it is finished; as it is after `seconds`."""
        raise NotImplementedError

    @contextmanager
    def listening(
        self, conversation_id: str, message_id: str, listener: Listener
    ) -> Iterator[None]:
        """Tell a listener of the replies and the outcome of a message that was submitted."""
        raise NotImplementedError

    def saying(self, served: Served, message_id: str) -> Saying:
        """What tells those who listen for a message what its turn says.

        Args:
            message_id: the message, or one that its turn has carried.
        """
        raise NotImplementedError

    async def withdraw(self, conversation_id: str, message_id: str) -> Withdrawn:
        """Take a message back: it is never handled, unless its turn has begun."""
        raise NotImplementedError

    async def waiting(self, conversation_id: str, most: int = 100) -> Sequence[SubmittedMessage]:
        """The messages of a conversation that are not finished, in order."""
        raise NotImplementedError

    # -- what operators ask and do -----------------------------------------------------------------

    @property
    def unfinished(self) -> int:
        """About how many messages are not finished, as this process saw a second ago."""
        raise NotImplementedError

    async def conversations(self, most: int = 100) -> Sequence[Pending]:
        """Conversations with unfinished messages, those whose first has waited longest come first;
        behind them those that only have replies to send out."""
        raise NotImplementedError

    async def letters(self, conversation_id: str, most: int = 100) -> Sequence[Letter]:
        """The dead letters of a conversation, of messages and of deliveries, the oldest first."""
        raise NotImplementedError

    async def all_letters(self, most: int = 100) -> Letters:
        """The dead letters of all conversations, the last first."""
        raise NotImplementedError

    async def bury(self, served: Served, text: str) -> None:
        """Give up a message in its turn: the end of the turn makes it a dead letter.

        Args:
            text: why, as JSON.
        """
        raise NotImplementedError

    async def resend(
        self, conversation_id: str, message_id: str, kind: LetterKind = "message"
    ) -> bool:
        """Submit a dead letter again, behind all that waits; or send the replies again.

        The message keeps its id, and the letter goes in the same step. Of a delivery all parts
        are sent again.

        Returns False if there is no letter of it. Raises ValueError if its sender has submitted the
        message again and it is finished, LockStoreConnectionError.
        """
        raise NotImplementedError

    async def drop(
        self, conversation_id: str, message_id: str, kind: LetterKind = "message"
    ) -> bool:
        """Remove a dead letter. Returns False if there is none."""
        raise NotImplementedError

    async def delete(self, conversation_id: str) -> Deleted:
        """Remove all of a conversation: messages, kept replies, deliveries and dead letters.

        A sender that waits hears that its message is withdrawn. The turn of a message that runs is
        broken: its handler is cancelled, and can store nothing under its fence once another turn
        has begun. A POST of a delivery that is under way is not stopped.
        """
        raise NotImplementedError

    # -- serving -------------------------------------------------------------------------------------

    def serve(self, start: Start, room: int, lock_lifetime: float) -> None:
        """Begin to serve conversations, up to `room` turns at once."""
        raise NotImplementedError

    async def begun(self, served: Served) -> int:
        """Count an attempt at a message; returns how many there were before it.

        Raises LockLost, if the turn is another's by now.
        """
        raise NotImplementedError

    async def awaited(self, served: Served) -> bool:
        """Whether a sender waits for the reply to a message, and can get its error.

        Raises LockStoreConnectionError.
        """
        return served.awaited

    async def drain(self) -> None:
        """Serve no more; turns that run go on."""
        raise NotImplementedError

    async def close(self) -> None:
        """End what it does; messages stay where they are."""
        raise NotImplementedError
