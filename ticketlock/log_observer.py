"""What the log says of turns: a WARNING for each that is lost, late, refused, retried or set apart.

Each record has the facts as attributes too (`conversation`, `message_id`, `ticket`, `held_for`,
`why`), for formatters that write fields.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from .errors import LockLost
from .observing import Handled, Observer, Observers

if TYPE_CHECKING:
    from .grant import Grant
    from .outbox import DeadLetter

_lock = logging.getLogger("ticketlock.lock")
_turn = logging.getLogger("ticketlock.turn")
_relay = logging.getLogger("ticketlock.relay")
_server = logging.getLogger("ticketlock.server")
_access = logging.getLogger("ticketlock.access")

#: Reasons of which something nearer to the turn has told already.
_TOLD = ("TurnTooSlow", "TooManyAttempts")


def facts(grant: Grant, **more: Any) -> dict[str, Any]:
    """The attributes of a record about a turn."""
    return {
        "conversation": grant.conversation_id, "message_id": grant.label, "ticket": grant.number,
        "held_for": round(grant.held_for(), 3), **more,
    }  # fmt: skip


class LogObserver(Observer):
    """Writes to the loggers `ticketlock.lock`, `.turn`, `.relay` and `.server`. Always there."""

    def on_turn_lost(self, grant: Grant) -> None:
        label = "" if grant.label is None else f" ({grant.label})"
        _lock.warning(
            "lost the lock of conversation %r%s, ticket %d, held for %.1f s: %s%s",
            grant.conversation_id, label, grant.number, grant.held_for(), grant.reason,
            grant._remedy, extra=facts(grant, why=grant.reason, cause=grant.cause),
        )  # fmt: skip

    def on_retry(self, grant: Grant, message_id: str | None, attempt: int, why: str) -> None:
        _turn.warning(
            "conversation %r, message %r, ticket %d: attempt %d: %s",
            grant.conversation_id, message_id, grant.number, attempt, why,
            extra=facts(grant, why=why, attempt=attempt) | {"message_id": message_id},
        )  # fmt: skip

    def on_handled(self, message: Handled) -> None:
        error = message.error
        if error is None or message.status < 409 or message.reason in _TOLD:
            return
        if isinstance(error, LockLost):
            return
        _server.warning(
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

    def on_dead_letter(self, letter: DeadLetter) -> None:
        _relay.warning(
            "event %d of conversation %r cannot be published and is set apart (`ticketlock events "
            "dead`): %s",
            letter.sequence, letter.sender_id, letter.reason,
            extra={
                "conversation": letter.sender_id, "sequence": letter.sequence,
                "history": letter.history, "why": letter.reason,
            },
        )  # fmt: skip


class AccessLog(Observer):
    """One INFO line of the logger `ticketlock.access` for each message that a bot server gets."""

    def on_handled(self, message: Handled) -> None:
        _access.info(
            "%r %r ticket %s: %d %s, %.3f s",
            message.conversation_id, message.message_id, message.ticket, message.status,
            message.reason, message.seconds,
            extra={
                "conversation": message.conversation_id, "message_id": message.message_id,
                "ticket": message.ticket, "status": message.status, "reason": message.reason,
                "seconds": round(message.seconds, 3),
            },
        )  # fmt: skip


def observers() -> Observers:
    """Observers that the log is one of."""
    made = Observers()
    made.add(LogObserver())
    return made


#: Of a turn whose lock store has no observers of its own.
LOG = observers()
