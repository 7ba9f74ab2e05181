"""The OpenAPI document of the server, at `/openapi.json`."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .. import __version__
from ..tracker.tracker import EventVerbosity
from .channels.channel import Channel
from .openapi_parts import (
    ALWAYS,
    ENTITIES,
    ERROR,
    EVENT,
    ID,
    OBJECT,
    REPLY,
    STATE,
    TEXT,
    Json,
    answer,
    get,
    in_query,
    mapping,
    post,
    ref,
    without_model,
)
from .openapi_webhooks import SCHEMAS, webhooks
from .operator.audit import WHY
from .settings import Settings


def routes(
    settings: Settings, channels: Sequence[Channel] = (), *, callback: bool = False
) -> list[Route]:
    """The route of the document; the rest as for `document`."""
    made = document(settings, channels, callback=callback)

    async def show(request: Request) -> Response:
        root: str = request.scope.get("root_path") or "/"
        return JSONResponse({**made, "servers": [{"url": root}]})

    return [Route("/openapi.json", show, methods=["GET"])]


def document(
    settings: Settings, channels: Sequence[Channel] = (), *, callback: bool = False
) -> Json:
    """The document, for a server with these settings.

    Args:
        channels: those that it serves.
        callback: whether it serves the channel callback.
    """
    closed = any((settings.auth_token, settings.jwt_secret, settings.channel_token))
    return {
        "openapi": "3.1.0",
        "info": {"title": "ticketlock bot server", "version": __version__},
        "paths": {
            **_server(),
            **webhooks(channels, callback=callback),
            **_conversations(),
        },
        "components": {
            "schemas": {
                "Error": ERROR,
                "State": STATE,
                "Reply": REPLY,
                "Event": EVENT,
                **SCHEMAS,
            },
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
        **({"security": [{"bearer": []}]} if closed else {}),
    }


def _server() -> Json:
    open_to_all: Json = {"security": []}
    text = {"200": answer("a greeting", {"type": "string"}, "text/plain")}
    return {
        "/": {"get": {"summary": "A greeting", "responses": text, **open_to_all}},
        "/version": {"get": {**get("The versions", OBJECT, ()), **open_to_all}},
        "/health": {"get": {**get("The process is alive", OBJECT, ()), **open_to_all}},
        "/ready": {
            "get": {
                **get("The stores answer, and the server is not stopping", OBJECT, ()),
                **open_to_all,
            }
        },
        "/domain": {"get": get("The domain of the bot", OBJECT, (401, 403, 406, 409))},
        "/status": {"get": get("Load and limits of this replica", OBJECT, (401, 403))},
    }


def _conversations() -> Json:
    shown = in_query(
        "include_events", {"type": "string", "enum": list(EventVerbosity.__members__)}, "which"
    )
    until = in_query("until", {"type": "number"}, "the state at that time, in seconds since 1970")
    state = ref("State")
    events = {"oneOf": [ref("Event"), {"type": "array", "items": ref("Event"), "minItems": 1}]}
    named = mapping(["name"], name={**TEXT, "minLength": 1}, entities=ENTITIES)
    run = mapping(
        ["name"], name={**TEXT, "minLength": 1}, policy=TEXT, confidence={"type": "number"}
    )
    message = mapping(
        ["text", "sender"], text=TEXT, sender={"type": "string", "enum": ["user"]},
        parse_data=OBJECT,
    )  # fmt: skip
    answered = {
        "type": "object",
        "properties": {"tracker": state, "messages": {"type": "array", "items": ref("Reply")}},
    }
    channel = in_query("output_channel", TEXT, "")
    every = in_query("all_sessions", {"type": "boolean"}, "all sessions, not only the latest")
    effects = in_query(
        "execute_side_effects",
        {"type": "boolean"},
        "schedule and cancel reminders, as the events say",
    )
    story = get("As a story", {}, ALWAYS, [until, every], "text/yaml")
    paths: Json = {
        "tracker": {"get": get("The state", state, ALWAYS, [shown, until])},
        "tracker/events": {
            "post": post("Append events", events, state, [shown, channel, effects]),
            "put": post("Replace the history", events, state, [shown]),
        },
        "story": {"get": story},
        "messages": {"post": post("Store a message without answering it", message, state, [shown])},
        "trigger_intent": {
            "post": post("Let the bot answer to an intent", named, answered, [shown, channel])
        },
        "execute": {"post": post("Run a custom action", run, answered, [shown, channel])},
        "predict": {"post": without_model("Predict the next action")},
        "lock": {
            "get": get("Who holds the conversation, and who waits", OBJECT, ALWAYS),
            "delete": get(
                "End the turn that holds the conversation (needs the admin token)", OBJECT, ALWAYS,
                [
                    in_query("fence", {"type": "integer", "minimum": 0}, "only the turn with this fence"),
                    in_query("why", {"type": "string", "maxLength": WHY}, "a reason, for the audit"),
                ],
            ),
        },
    }  # fmt: skip
    sender = {
        "name": "conversation_id", "in": "path", "required": True,
        "description": "may have slashes", "schema": ID,
    }  # fmt: skip
    base = "/conversations/{conversation_id}/"
    return {base + name: {"parameters": [sender], **path} for name, path in paths.items()}
