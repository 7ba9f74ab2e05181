"""`ticketlock run --access-log`: a log line for each message."""

from __future__ import annotations

import logging

from ..telemetry.observer import Handled, Observer

log = logging.getLogger("ticketlock.access")


class AccessLog(Observer):
    """Logs each message of a bot server as INFO, by the logger `ticketlock.access`."""

    def on_handled(self, message: Handled) -> None:
        log.info(
            "%r %r%s: %d %s, %.3f s",
            message.conversation_id, message.message_id,
            "" if message.ticket is None else f" ticket {message.ticket}", message.status,
            message.reason, message.seconds,
            extra={
                "conversation": message.conversation_id, "message_id": message.message_id,
                "ticket": message.ticket, "status": message.status, "reason": message.reason,
                "seconds": round(message.seconds, 3),
            },
        )  # fmt: skip
