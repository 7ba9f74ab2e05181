"""The report that a message, or a write, is tried again."""

from __future__ import annotations

import logging

from .grant import Grant, facts

log = logging.getLogger("ticketlock.turn")


def report_retry(grant: Grant, message_id: str | None, attempt: int, why: str) -> None:
    """Log, and tell the observers, that a message or a write is tried again."""
    log.warning(
        "conversation %r, message %r, ticket %d: attempt %d: %s",
        grant.conversation_id, message_id, grant.number, attempt, why,
        extra=facts(grant, why=why, attempt=attempt) | {"message_id": message_id},
    )  # fmt: skip
    grant.observers.notify("on_retry", grant, message_id, attempt, why)
