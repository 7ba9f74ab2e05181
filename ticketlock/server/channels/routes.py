"""The routes of channels: a webhook is verified, submitted, and then acknowledged."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ...errors import InvalidConversationId
from ..bot import Message
from ..errors import BadRequest, NotSubmitted, RequestError, TooMuch
from ..intake import read_signed
from ..limits import check_message, check_message_id
from ..settings import Settings
from .channel import Channel, Submitter

log = logging.getLogger("ticketlock.server")

#: Seconds between two WARNINGs of a channel about webhooks with a wrong signature.
_QUIET = 60.0


def routes(channels: Sequence[Channel], submitter: Submitter, settings: Settings) -> list[Route]:
    """The routes of all channels. The signature is the authorization; no token is asked for."""
    return [route for one in channels for route in _routes(one, submitter, settings)]


def _routes(channel: Channel, submitter: Submitter, settings: Settings) -> list[Route]:
    refused, warn_at = 0, 0.0

    def refuse() -> bool:
        nonlocal refused, warn_at
        refused += 1
        if time.monotonic() >= warn_at:
            log.warning(
                "%s: webhooks refused: %d; their signature does not match the secret in the section "
                "channels", channel.name, refused,
            )  # fmt: skip
            refused, warn_at = 0, time.monotonic() + _QUIET
        return False

    async def webhook(request: Request) -> Response:
        def verify(body: bytes) -> bool:
            return channel.verify(body, request.headers, time.time()) or refuse()

        body = await read_signed(request, verify, channel.max_body)
        content = channel.read(body, settings)
        for message in channel.messages(content):
            if _storable(channel, message, settings):
                await _submit(channel, submitter, message)
        return channel.acknowledge(content)

    async def check(request: Request) -> Response:
        answer = channel.challenge(request.query_params)
        if answer is None:
            raise HTTPException(405)
        return answer

    return [
        Route(channel.path, webhook, methods=["POST"]),
        Route(channel.path, check, methods=["GET"]),
    ]


def _storable(channel: Channel, message: Message, settings: Settings) -> bool:
    """Whether the message can be stored; one that cannot would only be sent again."""
    try:
        check_message_id(message.message_id)
        check_message(message, settings)
    except (BadRequest, TooMuch, InvalidConversationId) as error:
        log.warning(
            "%s: a message is dropped, because it cannot be stored: %s", channel.name, error
        )
        return False
    return True


async def _submit(channel: Channel, submitter: Submitter, message: Message) -> None:
    try:
        await submitter.submit(message, window=channel.window)
    except Exception as error:
        if isinstance(error, RequestError) and error.status == NotSubmitted.status:
            raise
        log.warning("%s: answered 503, so that it is sent again: %r", channel.name, error)
        raise NotSubmitted("the message was not accepted; send it again") from error


def reserved(channels: Sequence[Channel]) -> tuple[str, ...]:
    """What the ids of channels' conversations begin with: no other webhook may write into them."""
    return tuple(f"{channel.name}:" for channel in channels)
