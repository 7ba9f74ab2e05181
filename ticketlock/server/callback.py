"""The documented channel callback: replies are posted to the URL of the section `callback`."""

from __future__ import annotations

from dataclasses import replace

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from .auth import Auth
from .handling import Handler
from .limits import field, read_object
from .rest import DEFAULT_SENDER, parse

#: The channel, and the destination of its replies.
CALLBACK = "callback"


def routes(handler: Handler, auth: Auth) -> list[Route]:
    async def webhook(request: Request) -> Response:
        identity = auth.channel(request)
        body = await read_object(request, handler.settings)
        identity.authorize(field(body, "sender", str, "a text", DEFAULT_SENDER))
        message, policy = parse(body, handler.settings, request.headers.get("idempotency-key"))
        await handler.accept(replace(message, input_channel=CALLBACK), policy)
        return PlainTextResponse("success")  # as documented; the replies are posted

    async def alive(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    return [
        Route("/webhooks/callback/", alive, methods=["GET"]),
        Route("/webhooks/callback/webhook", webhook, methods=["POST"]),
    ]
