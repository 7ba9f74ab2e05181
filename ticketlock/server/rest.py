"""The REST channel: `/webhooks/rest/`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from .answers import answer
from .auth import Auth
from .bot import Message
from .double_texting import POLICIES
from .errors import BadRequest, describe
from .handling import Handler
from .limits import check_message, check_message_id, field, read_object
from .settings import Settings

#: The sender of a message that names none, as documented.
DEFAULT_SENDER = "default"


def routes(handler: Handler, auth: Auth) -> list[Route]:
    async def webhook(request: Request) -> Response:
        identity = auth.channel(request)
        body = await read_object(request, handler.settings)
        identity.authorize(field(body, "sender", str, "a text", DEFAULT_SENDER))
        message, policy = parse(body, handler.settings, request.headers.get("idempotency-key"))
        stream, ticket = flag(request, "stream"), flag(request, "ticket")
        if not (stream or ticket):
            return answer(await handler.handle(message, policy))
        lines = _lines(handler.stream(message, policy, ticket=ticket))
        first = await anext(lines, "")  # an error before the first line still sets the status
        return StreamingResponse(_after(first, lines), media_type="application/x-ndjson")

    async def alive(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    return [
        Route("/webhooks/rest/", alive, methods=["GET"]),
        Route("/webhooks/rest/webhook", webhook, methods=["POST"]),
    ]


def parse(
    body: dict[str, Any], settings: Settings, key: str | None = None
) -> tuple[Message, str | None]:
    """The message of a body, and its policy for double texting.

    Args:
        key: the header `Idempotency-Key`: the message id if the body has none.

    Raises BadRequest, TooMuch, InvalidConversationId.
    """
    if (text := field(body, "message", str, "a text")) is None:
        raise BadRequest("message is missing")
    ids = [check_message_id(x) for x in (body.get("message_id"), key) if x is not None]
    named: dict[str, Any] = {"message_id": ids[0]} if ids else {"may_repeat": False}
    message = Message(
        text,
        field(body, "sender", str, "a text", DEFAULT_SENDER),
        input_channel=field(body, "input_channel", str, "a text", "rest"),
        metadata=field(body, "metadata", dict, "an object", {}),
        **named,
    )
    policy = field(body, "double_texting", str, "a text")
    if policy is not None and policy not in POLICIES:
        raise BadRequest(f"double_texting is not one of {', '.join(POLICIES)}")
    return check_message(message, settings), policy


def flag(request: Request, name: str) -> bool:
    """A switch of the query, by default false. Raises BadRequest."""
    word = request.query_params.get(name, "false").lower()
    if word not in ("true", "false", "1", "0"):
        raise BadRequest(f"{name} is neither true nor false")
    return word in ("true", "1")


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
