"""Every error of ticketlock. One base, few leaves; drivers' errors are translated at the seam."""

from __future__ import annotations


class TicketLockError(Exception):
    """Base of all errors of this library."""


class ConfigurationError(TicketLockError):
    """A setting is missing, unknown, of the wrong type, or contradicts another one."""


class InvalidConversationId(TicketLockError, ValueError):
    """A conversation id is empty, no text, or text that UTF-8 cannot encode."""


class LockError(TicketLockError):
    """A lock could not be had or kept; also the documented error of `issue_ticket`."""


class LockTimeout(LockError):
    """`wait_timeout` passed before the ticket was served. The ticket has been withdrawn.

    Attributes:
        conversation_id: the conversation.
        position: how many turns were before ours, the one being served included;
            None when that is not known.
        holder: who held the lock, as text (`host:pid`, with its label); None if unknown.
        held_for: seconds for which the holder had held it; None if unknown.
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
        self.position = position
        self.holder = holder
        self.held_for = held_for
        text = f"no turn for conversation {conversation_id!r} within {waited:g} s"
        if position is not None:
            text += f"; {position} before it"
        if holder is not None:
            text += f", held by {holder}"
        if held_for is not None:
            text += f" for {held_for:.1f} s"
        super().__init__(text)


class LockLost(LockError):
    """The turn was no longer ours: its lease or lifetime ran out, or an operator broke it."""

    def __init__(self, conversation_id: str, reason: str) -> None:
        self.conversation_id = conversation_id
        self.reason = reason
        super().__init__(f"lost the lock of conversation {conversation_id!r}: {reason}")


class QueueFull(LockError):
    """`max_waiting` tickets were waiting already; no ticket was issued.

    Attributes:
        conversation_id: the conversation.
        waiting: how many were waiting.
    """

    def __init__(self, conversation_id: str, waiting: int) -> None:
        self.conversation_id = conversation_id
        self.waiting = waiting
        super().__init__(f"{waiting} tickets already wait for conversation {conversation_id!r}")


class DuplicateMessage(LockError):
    """Another ticket has had this message id, and its turn has answered: here is the reply.

    Attributes:
        conversation_id: the conversation.
        message_id: the id of the message, unique in it.
        reply: what the turn gave to `answer`.
    """

    def __init__(self, conversation_id: str, message_id: str, reply: str) -> None:
        self.conversation_id = conversation_id
        self.message_id = message_id
        self.reply = reply
        super().__init__(
            f"message {message_id!r} of conversation {conversation_id!r} has been answered"
        )


class LockStoreConnectionError(LockError):
    """The lock store's server cannot be used; the text says which one, why, and what to change."""


class InvalidEvent(TicketLockError, ValueError):
    """An event cannot be stored without loss; the text says which one, why, and the way out."""


class TrackerStoreError(TicketLockError):
    """A tracker store could not do what it was asked; nothing was half-written."""


class TrackerStoreConnectionError(TrackerStoreError):
    """The tracker store's server cannot be used; the text says which, why, and what to change."""


class EventsWaiting(TrackerStoreError):
    """Events of a conversation that is to be replaced have not been published yet.

    Attributes:
        conversation_id: the conversation.
    """

    def __init__(self, conversation_id: str) -> None:
        self.conversation_id = conversation_id
        super().__init__(
            f"conversation {conversation_id!r} has events that the event broker has not confirmed "
            "yet; replacing would lose them: try again when it has (`ticketlock events status`)"
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
        why = "is held by another owner" if stored == fence else f"is not the stored {stored}"
        super().__init__(f"conversation {conversation_id!r}: fence {fence} {why}; nothing written")


class EventBrokerError(TicketLockError):
    """An event broker did not take what it was given, or is closed; the text says why."""


class EventBrokerConnectionError(EventBrokerError):
    """The event broker cannot be used; the text says which, why, and what to change.

    Attributes:
        again: whether trying again may help; False for a wrong password or certificate.
    """

    def __init__(self, text: str, again: bool = True) -> None:
        self.again = again
        super().__init__(text)
