"""The documented channel `callback`: replies are posted to a URL of the configuration."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from ..errors import ConfigurationError
from .address import CheckedURL
from .delivery import Delivery
from .http import HTTPDestination
from .poster import Outgoing, Poster
from .settings import CallbackSettings
from .signature import sign_webhook


class Callback(HTTPDestination):
    """Posts replies to one URL, signed.

    Each POST has the headers of Standard Webhooks, and `ticketlock-conversation` (percent-encoded),
    `ticketlock-number`, `ticketlock-attempt` and `ticketlock-part` (`1/3`). Only `webhook-id`, which
    is the idempotency key and the part, and the body are signed.
    """

    def __init__(self, settings: CallbackSettings) -> None:
        super().__init__(
            Poster(
                allow_private=settings.allow_private,
                ssl_ca_certs=settings.ssl_ca_certs,
                timeout=settings.timeout,
            )
        )
        if settings.url is None:
            raise ConfigurationError("callback: url: is missing")
        self._url = CheckedURL.parse(settings.url)
        self._secrets = settings.secrets
        self._whole = settings.body == "turn"
        self.max_tries = settings.max_tries
        self.max_pause = settings.max_pause

    def requests(self, delivery: Delivery) -> Sequence[Outgoing]:
        bodies: Sequence[Any] = [_turn(delivery)] if self._whole else delivery.replies
        return [
            self._outgoing(delivery, body, f"{number}/{len(bodies)}")
            for number, body in enumerate(bodies, 1)
        ]

    def _outgoing(self, delivery: Delivery, value: Any, part: str) -> Outgoing:
        body = json.dumps(value, separators=(",", ":")).encode()
        webhook_id = f"{delivery.key}-{part.partition('/')[0]}"
        headers = {
            "content-type": "application/json",
            "idempotency-key": webhook_id,
            "ticketlock-conversation": quote(delivery.conversation_id, safe=""),
            "ticketlock-number": str(delivery.number),
            "ticketlock-attempt": str(delivery.attempt),
            "ticketlock-part": part,
            **(sign_webhook(body, webhook_id, *self._secrets) if self._secrets else {}),
        }
        return Outgoing(self._url, headers, body)


def _turn(delivery: Delivery) -> dict[str, Any]:
    """The body of `turn`: the same in each attempt, but for the attempt's number."""
    return {
        "recipient_id": delivery.conversation_id,
        "number": delivery.number,
        "message_id": delivery.message_id,
        "attempt": delivery.attempt,
        "idempotency_key": delivery.key,
        "replies": delivery.replies,
    }
