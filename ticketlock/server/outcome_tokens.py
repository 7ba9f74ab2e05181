"""Tokens of outcomes: who submitted a message may ask what became of it, and about nothing else."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time

from ..conversations import Conversations
from ..locks.concurrent.shared import SharedState
from .errors import NotAuthenticated
from .settings import Settings

#: Bytes of a longer token are not looked at: the longest ids make shorter ones.
_LONGEST = 4096


class OutcomeTokens:
    """Makes and reads tokens: conversation, message id and expiry, signed by HMAC-SHA256.

    Replicas must agree on the key: it is made of a secret of the section `server`, or kept in
    the Redis of the locks. Without both each process has its own.
    """

    def __init__(self, conversations: Conversations, settings: Settings) -> None:
        given = settings.outcome_secret or settings.auth_token or settings.channel_token
        given = given or settings.jwt_secret
        self._key = None if given is None else hashlib.sha256(b"outcome " + given.encode()).digest()
        self._shared = SharedState.of(conversations.lock_store)
        self._seconds = settings.message_window

    async def make(self, conversation_id: str, message_id: str, due: float | None = None) -> str:
        """The token of a message, valid for a day and the window of its outcome.

        Args:
            due: seconds since the epoch at which the message comes due: that day begins then.
        """
        expires = int(max(time.time(), due or 0) + 86_400 + self._seconds)
        body = json.dumps([conversation_id, message_id, expires], separators=(",", ":"))
        return f"{_encoded(body.encode())}.{_encoded(await self._sign(body.encode()))}"

    async def read(self, token: str) -> tuple[str, str]:
        """The conversation and the message id of a token. Raises NotAuthenticated."""
        text, _, mac = token.partition(".")
        try:
            if len(token) > _LONGEST:
                raise ValueError("too long")
            body, given = _decoded(text), _decoded(mac)
            if not hmac.compare_digest(await self._sign(body), given):
                raise ValueError("not signed by us")
            conversation_id, message_id, expires = json.loads(body)
        except (ValueError, binascii.Error):
            raise NotAuthenticated(
                "the address of this outcome is not valid: use the one of the 202 as it is; replicas "
                "that do not share tokens or a Redis need the same outcome_secret"
            ) from None
        if expires < time.time():
            raise NotAuthenticated(
                "the address of this outcome has expired: it is valid for a day after the message "
                "was accepted, or was due"
            )
        return conversation_id, message_id

    async def _sign(self, body: bytes) -> bytes:
        if self._key is None:
            self._key = await self._kept()
        return hmac.digest(self._key, body, "sha256")

    async def _kept(self) -> bytes:
        fresh = secrets.token_hex(32)
        if self._shared is None:
            return fresh.encode()
        found: bytes = await self._shared.run("secret", self._shared.keys.secret, fresh)
        return found


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
