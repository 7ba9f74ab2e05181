"""All errors of ticketlock. Errors of drivers are translated into them by the backends."""

from __future__ import annotations

from typing import Any

#: For callers whose lock store was closed while they used it.
CLOSED = "the lock store has been closed"
#: For callers while it is being closed.
CLOSING = "the lock store is being closed"
#: For callers on a second event loop, in another thread.
ELSEWHERE = (
    "this lock store is in use on another event loop: make one store per loop, "
    "or use store.sync() from threads"
)


class TicketLockError(Exception):
    """Base of all errors of this library.

    They can be pickled and copied, with their attributes and notes. `args` are the arguments of
    the constructor, so that Celery's JSON can create them again; `str` is the text.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        # Not through `__init__`, whose arguments may differ in a subclass.
        return _restored, (type(self), self.args), self.__dict__ or None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


def _restored(kind: type[TicketLockError], args: tuple[Any, ...]) -> TicketLockError:
    """An unpickled error; pickle sets its attributes afterwards."""
    return kind.__new__(kind, *args)


class ConfigurationError(TicketLockError):
    """A setting is missing, unknown, of the wrong type, or contradicts another one."""


class InvalidConversationId(TicketLockError, ValueError):
    """A conversation id is empty, not text, or text that UTF-8 cannot encode."""


class LockError(TicketLockError):
    """A lock could not be taken or kept; also the documented error of `issue_ticket`."""


class LockTimeout(LockError):
    """`wait_timeout` passed before the ticket was served. The ticket has been withdrawn.

    Attributes:
        conversation_id: the conversation.
        waited: seconds that the ticket had waited.
        position: turns before this one, the current turn included; None if unknown.
        holder: the holder of the lock, as text (`host:pid`, with its label); None if unknown.
        held_for: seconds that the holder had held it; None if unknown.
    """

    def __init__(
        self,
        conversation_id: str,
        waited: float,
        position: int | None = None,
        holder: str | None = None,
        held_for: float | None = None,
    ) -> None:
        self.conversation_id = conversation_id
        self.waited = waited
        self.position = position
        self.holder = holder
        self.held_for = held_for
        super().__init__(conversation_id, waited, position, holder, held_for)

    def __str__(self) -> str:
        text = (
            f"no turn for conversation {self.conversation_id!r} within {round(self.waited, 2):g} s"
        )
        if self.position is not None:
            text += f"; {self.position} before it"
        if self.holder is not None:
            text += f", held by {self.holder}"
        if self.held_for is not None:
            text += f" for {self.held_for:.1f} s"
        return text


class AlreadyHeld(LockError):
    """The task or thread already holds the lock, and would wait for itself.

    Attributes:
        conversation_id: the conversation.
        number: the ticket number of the turn that is held.
    """

    def __init__(self, conversation_id: str, number: int) -> None:
        self.conversation_id = conversation_id
        self.number = number
        super().__init__(conversation_id, number)

    def __str__(self) -> str:
        return (
            f"conversation {self.conversation_id!r} is already held, as ticket {self.number}, by "
            "the task or thread that asks for it, which would wait for itself: pass the grant on "
            "to the inner code, leave the outer block first, or take store.try_lock()"
        )


class LockLost(LockError):
    """The turn was lost: its lease or lifetime ran out, or an operator broke it.

    Attributes:
        conversation_id: the conversation.
        reason: why, as text.
    """

    def __init__(self, conversation_id: str, reason: str) -> None:
        self.conversation_id = conversation_id
        self.reason = reason
        super().__init__(conversation_id, reason)

    def __str__(self) -> str:
        return f"lost the lock of conversation {self.conversation_id!r}: {self.reason}"


class QueueFull(LockError):
    """`max_waiting` tickets were waiting already; no ticket was issued.

    Attributes:
        conversation_id: the conversation.
        waiting: the number of tickets that were waiting.
    """

    def __init__(self, conversation_id: str, waiting: int) -> None:
        self.conversation_id = conversation_id
        self.waiting = waiting
        super().__init__(conversation_id, waiting)

    def __str__(self) -> str:
        return f"{self.waiting} tickets already wait for conversation {self.conversation_id!r}"


class DuplicateMessage(LockError):
    """A message with this id was answered before; the error has the reply.

    Attributes:
        conversation_id: the conversation.
        message_id: the id of the message, unique in it.
        reply: what the turn gave to `answer`.
    """

    def __init__(self, conversation_id: str, message_id: str, reply: str) -> None:
        self.conversation_id = conversation_id
        self.message_id = message_id
        self.reply = reply
        super().__init__(conversation_id, message_id, reply)

    def __str__(self) -> str:
        return f"message {self.message_id!r} of conversation {self.conversation_id!r} has been answered"


class TooManyAttempts(TicketLockError):
    """The handler was called with the message `max_attempts` times, and none of these turns ended well."""


class OldReplicas(LockError):
    """Replicas of an older version, which would lose the message, are running: send it again later."""


class LockStoreConnectionError(LockError):
    """The lock store's server cannot be used; the text says which one, why, and what to change."""


class NotDurable(LockStoreConnectionError):
    """What was granted, or accepted, is not as durable as `durability` asks; the text says why.

    It is raised with `durability_degraded: refuse`. A turn was given up. A message may have been
    accepted: send it again with its id, and it is found.
    """


class InvalidEvent(TicketLockError, ValueError):
    """An event cannot be stored without loss; the text says which one, why, and the way out."""


class TrackerStoreError(TicketLockError):
    """An operation of a tracker store failed; no write is stored in part."""


class TrackerStoreConnectionError(TrackerStoreError):
    """The tracker store's server cannot be used; the text says which, why, and what to change."""


class UnreadableHistory(TrackerStoreError):
    """The stored data of a conversation is not a history; the text says where and why."""


class EventsWaiting(TrackerStoreError):
    """A history cannot be replaced yet: some of its events wait to be published.

    Attributes:
        conversation_id: the conversation.
    """

    def __init__(self, conversation_id: str) -> None:
        self.conversation_id = conversation_id
        super().__init__(conversation_id)

    def __str__(self) -> str:
        return (
            f"conversation {self.conversation_id!r} has events that the event broker has not "
            "confirmed yet; replacing would lose them: try again when it has "
            "(`ticketlock events status`)"
        )


class StaleFence(TrackerStoreError):
    """A later turn has claimed the conversation: this one may no longer write.

    Attributes:
        conversation_id: the conversation.
        fence: the fence that was refused.
        stored: the fence that the store holds; 0 if it holds none.
    """

    def __init__(self, conversation_id: str, fence: int, stored: int) -> None:
        self.conversation_id = conversation_id
        self.fence = fence
        self.stored = stored
        super().__init__(conversation_id, fence, stored)

    def __str__(self) -> str:
        another = self.stored == self.fence
        why = (
            "is held by another owner"
            if another
            else f"does not match the stored fence {self.stored}"
        )
        return f"conversation {self.conversation_id!r}: fence {self.fence} {why}; nothing written"


class EventBrokerError(TicketLockError):
    """An event broker did not accept an event, or is closed; the text says why."""


class EventBrokerConnectionError(EventBrokerError):
    """The event broker cannot be used; the text says which, why, and what to change.

    Attributes:
        again: whether trying again may help; False for a wrong password or certificate.
    """

    def __init__(self, text: str, again: bool = True) -> None:
        self.again = again
        super().__init__(text, again)

    def __str__(self) -> str:
        return str(self.args[0])


class InvalidSignature(TicketLockError):
    """A webhook was not signed with the secret, or is too old; the text says which."""


class ActionError(TicketLockError):
    """A custom action gave no result; the text says which one, why, and what to do.

    Attributes:
        action: its name.
        reason: why, as text.
    """

    def __init__(self, action: str, reason: str) -> None:
        self.action = action
        self.reason = reason
        super().__init__(action, reason)

    def __str__(self) -> str:
        return f"action {self.action!r}: {self.reason}" if self.action else self.reason


class ActionRejected(ActionError):
    """The action declined to run, as by rasa_sdk's ActionExecutionRejection."""


class UnknownAction(ActionError):
    """The action server has no action of this name."""


class ActionFailed(ActionError):
    """The action raised, or its answer is not as documented; it may have had effects."""


class ActionServerConnectionError(ActionError):
    """The action server gave no answer.

    Attributes:
        sent: whether anything was sent. If so, the action may have run; if not, it has not.
    """

    def __init__(self, action: str, reason: str, sent: bool = True) -> None:
        super().__init__(action, reason)
        self.sent = sent
        self.args = (action, reason, sent)
