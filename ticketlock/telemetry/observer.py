"""`Observer`: notifies an application of turns, messages and events.

Metrics and traces are observers. A method that is not overridden costs nothing, and without
observers of turns a lock is an ordinary `Lock`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..observers import BaseObserver, hook

if TYPE_CHECKING:
    from ..locks.grant import Grant
    from ..locks.waiter import Waiter
    from ..publishing.message import Published
    from ..tracker.outbox import Backlog, DeadLetter


@dataclass(frozen=True)
class Handled:
    """A message of the bot server, answered or refused.

    Attributes:
        ticket: its number; None if it had none.
        seconds: from the start of its handling to the answer.
        status, reason: of the answer: 200 and `ok`, 200 and `duplicate`, or those of the error;
            499 and `ClientGone` if the client has disconnected.
        error: the error of a refusal.
        held_for: seconds that the conversation's turn has been held; None if unknown.
    """

    conversation_id: str
    message_id: str | None
    ticket: int | None
    seconds: float
    status: int
    reason: str
    error: Exception | None = None
    held_for: float | None = None


@dataclass(frozen=True)
class Written:
    """Events that a turn has written.

    Attributes:
        first: number of the first of them in the conversation.
        to_publish: whether a relay publishes them.
    """

    first: int
    count: int
    to_publish: bool


@dataclass(frozen=True)
class ActionCall:
    """A call of a custom action that has ended.

    Attributes:
        name: of the action.
        number: of the call in its turn, from 1.
        seconds: from its start to its end, with all tries.
        error: why it gave no result; a CancelledError if it was cancelled.
    """

    name: str
    number: int
    seconds: float
    error: BaseException | None = None


class Observer(BaseObserver):
    """Override the methods that you need, and pass it to `Conversations.observe`.

    The methods are called in the event loop that the turns are in: they must not block. An
    exception in them is logged and does not affect the turn.
    """

    @hook
    def on_wait(self, waiter: Waiter) -> None:
        """A ticket is being taken, or waited for."""

    @hook
    def on_no_turn(self, waiter: Waiter, error: BaseException | None) -> None:
        """The wait of `on_wait` ended without a turn; None: the ticket was withdrawn."""

    @hook
    def on_turn(self, grant: Grant) -> None:
        """The turn has begun: the wait of `on_wait` is over. See `Grant.waited`, `.ahead`."""

    @hook
    def on_turn_lost(self, grant: Grant) -> None:
        """The turn was lost; `Grant.reason` says why, `Grant.cause` in one word."""

    @hook
    def on_turn_end(self, grant: Grant, held: float, error: BaseException | None) -> None:
        """The turn has ended, lost or not, after `held` seconds; `error` is that of its block."""

    @hook
    def on_late_renewals(self, count: int) -> None:
        """`count` renewals of turns failed, or were confirmed a heartbeat late."""

    @hook
    def on_durability(self, server: str, why: str) -> None:
        """Writes of this process to a Redis are not durable in time, and `why`; `""`: they are again."""

    @hook
    def on_skipped(self, conversation_id: str, number: int) -> None:
        """A ticket of this process was skipped because the process seemed dead; it is queued again."""

    @hook
    def on_claim(self, grant: Grant, seconds: float, error: BaseException | None) -> None:
        """A turn has claimed its history at the tracker store, or failed to."""

    @hook
    def on_commit(
        self, grant: Grant, written: Written, seconds: float, error: BaseException | None
    ) -> None:
        """A turn has written events, or failed to."""

    @hook
    def on_retry(self, grant: Grant, message_id: str | None, attempt: int, why: str) -> None:
        """A message is handled again, or a write is repeated: this is attempt number `attempt`."""

    @hook
    def on_action(self, grant: Grant, call: ActionCall) -> None:
        """A custom action was called in the turn."""

    @hook
    def on_duplicate(self, conversation_id: str, message_id: str) -> None:
        """A message was sent again, and gets the first reply."""

    @hook
    def on_handled(self, message: Handled) -> None:
        """The bot server has answered a message, or refused it."""

    @hook
    def on_published(self, published: Published) -> None:
        """A relay has passed events of a conversation to the broker."""

    @hook
    def on_dead_letter(self, letter: DeadLetter) -> None:
        """An event cannot be published and became a dead letter."""

    @hook
    def on_backlog(self, backlog: Backlog) -> None:
        """The events that wait in the outbox, every five seconds; read only if this is overridden."""

    # -- for traces ----------------------------------------------------------------------

    @hook
    def mark(self, grant: Grant) -> str | None:
        """A text that the next turn of the conversation gets by `on_predecessor`, in any process."""
        return None

    @hook
    def on_predecessor(self, grant: Grant, mark: str) -> None:
        """The `mark` of the turn that this one has waited for."""

    @hook
    def headers(self, conversation_id: str, sequence: int) -> Mapping[str, str] | None:
        """Headers to publish an event with."""
        return None

    @hook
    def action_headers(self, grant: Grant) -> Mapping[str, str] | None:
        """Headers to call an action with, in the turn."""
        return None
