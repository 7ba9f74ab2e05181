"""The documented channel callback: replies are posted to the URL of the section `callback`."""

from __future__ import annotations

from dataclasses import replace

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from .auth import Auth
from .handling import Handler
from .outcome_routes import OutcomeRoutes
from .query import flag
from .rest import read_message

#: The channel, and the destination of its replies.
CALLBACK = "callback"


def routes(
    handler: Handler, auth: Auth, outcomes: OutcomeRoutes, reserved: tuple[str, ...] = ()
) -> list[Route]:
    """The routes; `reserved` as for `rest.routes`."""

    async def webhook(request: Request) -> Response:
        message, policy, when = await read_message(request, handler.settings, auth, reserved)
        message = replace(message, input_channel=CALLBACK)
        receipt = await handler.accept(message, policy, when)
        if flag(request, "async"):
            return await outcomes.accepted(message, receipt)
        return PlainTextResponse("success")  # as documented; the replies are posted

    async def alive(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    return [
        Route("/webhooks/callback/", alive, methods=["GET"]),
        Route("/webhooks/callback/webhook", webhook, methods=["POST"]),
    ]
