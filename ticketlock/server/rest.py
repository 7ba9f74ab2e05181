"""The REST channel: `/webhooks/rest/`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ..inbox.due import When, scheduled
from .answers import stored
from .auth import Auth
from .bot import Message
from .double_texting import POLICIES
from .errors import BadRequest, NotAuthorized, describe
from .handling import Handler
from .limits import check_message, check_message_id, field, read_object
from .outcome_routes import OutcomeRoutes
from .query import flag
from .settings import Settings

#: The sender of a message that names none, as documented.
DEFAULT_SENDER = "default"
#: Keys of a message that comes due later.
_WHEN = {"at", "after", "name"}


def routes(
    handler: Handler, auth: Auth, outcomes: OutcomeRoutes, reserved: tuple[str, ...] = ()
) -> list[Route]:
    """The routes.

    Args:
        reserved: what the ids of other channels' conversations begin with.
    """

    async def webhook(request: Request) -> Response:
        message, policy, when = await read_message(request, handler.settings, auth, reserved)
        if message.input_channel in handler.destinations:
            raise NotAuthorized(f"input_channel: {message.input_channel} has a webhook of its own")
        stream, ticket = flag(request, "stream"), flag(request, "ticket")
        if flag(request, "async"):
            if stream or ticket:
                raise BadRequest("async cannot be combined with stream or ticket")
            return await outcomes.accepted(message, await handler.accept(message, policy, when))
        if when is not None:
            raise BadRequest(
                "at and after go with async=true: a request cannot wait so long for the reply"
            )
        if not (stream or ticket):
            return stored(await handler.handle_json(message, policy))
        lines = _lines(handler.stream(message, policy, ticket=ticket))
        first = await anext(lines, "")  # an error before the first line still sets the status
        return StreamingResponse(_after(first, lines), media_type="application/x-ndjson")

    async def alive(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    return [
        Route("/webhooks/rest/webhook", webhook, methods=["POST"]),
        Route("/webhooks/rest/", alive, methods=["GET"]),
    ]


async def read_message(
    request: Request, settings: Settings, auth: Auth, reserved: tuple[str, ...]
) -> tuple[Message, str | None, When | None]:
    """The message of a webhook that takes any sender, its policy for double texting, and when it is due.

    Args:
        reserved: what the ids of other channels' conversations begin with.

    Raises NotAuthenticated, NotAuthorized, and as `parse`.
    """
    identity = auth.channel(request)
    body = await read_object(request, settings)
    identity.authorize(field(body, "sender", str, "text", DEFAULT_SENDER))
    message, policy = parse(body, settings, request.headers.get("idempotency-key"))
    if message.sender_id.startswith(reserved):
        raise NotAuthorized(f"sender: {message.sender_id!r:.80} is of another channel")
    message, when = parse_when(body, message)
    return message, policy, when


def parse(
    body: dict[str, Any], settings: Settings, key: str | None = None
) -> tuple[Message, str | None]:
    """The message of a body, and its policy for double texting.

    Args:
        key: the header `Idempotency-Key`: the message id if the body has none.

    Raises BadRequest, TooMuch, InvalidConversationId.
    """
    if (text := field(body, "message", str, "text")) is None:
        raise BadRequest("message is missing")
    ids = [check_message_id(x) for x in (body.get("message_id"), key) if x is not None]
    named: dict[str, Any] = {"message_id": ids[0]} if ids else {"may_repeat": False}
    message = Message(
        text,
        field(body, "sender", str, "text", DEFAULT_SENDER),
        input_channel=field(body, "input_channel", str, "text", "rest"),
        metadata=field(body, "metadata", dict, "an object", {}),
        **named,
    )
    policy = field(body, "double_texting", str, "text")
    if policy is not None and policy not in POLICIES:
        raise BadRequest(f"double_texting is not one of {', '.join(POLICIES)}")
    return check_message(message, settings), policy


def parse_when(body: dict[str, Any], message: Message) -> tuple[Message, When | None]:
    """The message with the id that it has when it comes due, and when that is; None: now.

    Raises BadRequest.
    """
    if not body.keys() & _WHEN:
        return message, None
    at, after = (field(body, key, (int, float), "a number") for key in ("at", "after"))
    try:
        when = scheduled(at, after, field(body, "name", str, "text"), message.message_id)
    except ValueError as error:
        raise BadRequest(str(error)) from error
    return (message, None) if when is None else (replace(message, message_id=when.message_id), when)


async def _lines(replies: AsyncIterator[dict[str, Any]]) -> AsyncIterator[str]:
    async for reply in replies:
        yield json.dumps(reply) + "\n"


async def _after(first: str, rest: AsyncIterator[str]) -> AsyncIterator[str]:
    """All lines; if an error occurs, it is the last line."""
    yield first
    try:
        async for line in rest:
            yield line
    except Exception as error:  # noqa: BLE001  # the status was sent before
        yield json.dumps(describe(error)) + "\n"
