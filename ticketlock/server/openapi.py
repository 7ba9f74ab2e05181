"""The OpenAPI document of the server, at `/openapi.json`."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .. import __version__
from ..tracker.tracker import EventVerbosity
from .double_texting import POLICIES
from .limits import MAX_ID, MAX_MESSAGE_ID
from .operator.audit import WHY
from .settings import Settings

Json = dict[str, Any]

_TEXT: Json = {"type": "string"}
#: A conversation id that every store can have.
_ID: Json = {"type": "string", "pattern": "^[^\\x00]+$", "minLength": 1, "maxLength": MAX_ID}
_OBJECT: Json = {"type": "object"}

#: Error statuses of any request, of those with a body, and of those with a turn.
_ALWAYS = (400, 401, 403, 404, 421, 503)
_BODY = (408, 413)
_TURN = (*_BODY, 409, 429, 500, 504)


def routes(settings: Settings) -> list[Route]:
    made = document(settings)

    async def show(request: Request) -> Response:
        root: str = request.scope.get("root_path") or "/"
        return JSONResponse({**made, "servers": [{"url": root}]})

    return [Route("/openapi.json", show, methods=["GET"])]


def document(settings: Settings) -> Json:
    """The document, for a server with these settings."""
    closed = any((settings.auth_token, settings.jwt_secret, settings.channel_token))
    return {
        "openapi": "3.1.0",
        "info": {"title": "ticketlock bot server", "version": __version__},
        "paths": {**_server(), **_channel(), **_conversations()},
        "components": {
            "schemas": {"Error": _ERROR, "State": _STATE, "Reply": _REPLY, "Event": _EVENT},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
        **({"security": [{"bearer": []}]} if closed else {}),
    }


def _server() -> Json:
    open_to_all: Json = {"security": []}
    text = {"200": _answer("a greeting", {"type": "string"}, "text/plain")}
    return {
        "/": {"get": {"summary": "A greeting", "responses": text, **open_to_all}},
        "/version": {"get": {**_get("The versions", _OBJECT, ()), **open_to_all}},
        "/health": {"get": {**_get("The process is alive", _OBJECT, ()), **open_to_all}},
        "/ready": {
            "get": {
                **_get("The stores answer, and the server is not stopping", _OBJECT, ()),
                **open_to_all,
            }
        },
        "/status": {"get": _get("Load and limits of this replica", _OBJECT, (401, 403))},
    }


def _channel() -> Json:
    stream = _query(
        "stream", {"type": "boolean"}, "one JSON object a line, each as soon as it is ready"
    )
    ticket = _query(
        "ticket", {"type": "boolean"},
        "stream, and send the ticket number first, as soon as the message has its place",
    )  # fmt: skip
    key = {
        "name": "Idempotency-Key", "in": "header", "description": "message_id, if the body has none",
        "schema": {"type": "string", "pattern": "^[!-~]+$", "maxLength": MAX_MESSAGE_ID},
    }  # fmt: skip
    body = _mapping(
        ["message"],
        sender=_ID,
        message=_TEXT,
        message_id={**_TEXT, "minLength": 1, "maxLength": MAX_MESSAGE_ID},
        input_channel=_TEXT,
        metadata=_OBJECT,
        double_texting={"type": "string", "enum": list(POLICIES)},
    )
    replies = _answer("the replies", {"type": "array", "items": _ref("Reply")})
    replies["content"]["application/x-ndjson"] = {"schema": {"type": "string"}}
    return {
        "/webhooks/rest/": {"get": {**_get("The channel is alive", _OBJECT, ()), "security": []}},
        "/webhooks/rest/webhook": {
            "post": {
                "summary": "Send a message and get the bot's replies",
                "parameters": [stream, ticket, key],
                "requestBody": _body(body),
                "responses": {"200": replies, **_errors(_TURN)},
            }
        },
    }


def _conversations() -> Json:
    shown = _query(
        "include_events", {"type": "string", "enum": list(EventVerbosity.__members__)}, "which"
    )
    until = _query("until", {"type": "number"}, "the state at that time, in seconds since 1970")
    state = _ref("State")
    events = {"oneOf": [_ref("Event"), {"type": "array", "items": _ref("Event"), "minItems": 1}]}
    named = _mapping(["name"], name={**_TEXT, "minLength": 1}, entities=_ENTITIES)
    message = _mapping(
        ["text", "sender"], text=_TEXT, sender={"type": "string", "enum": ["user"]},
        parse_data=_OBJECT,
    )  # fmt: skip
    answered = {
        "type": "object",
        "properties": {"tracker": state, "messages": {"type": "array", "items": _ref("Reply")}},
    }
    channel = _query("output_channel", _TEXT, "")
    every = _query("all_sessions", {"type": "boolean"}, "all sessions, not only the latest")
    effects = _query("execute_side_effects", {"type": "boolean", "enum": [False]}, "never")
    story = _get("As a story", {}, _ALWAYS, [until, every], "text/yaml")
    paths: Json = {
        "tracker": {"get": _get("The state", state, _ALWAYS, [shown, until])},
        "tracker/events": {
            "post": _post("Append events", events, state, [shown, channel, effects]),
            "put": _post("Replace the history", events, state, [shown]),
        },
        "story": {"get": story},
        "messages": {"post": _post("Store a message without answering it", message, state, [shown])},
        "trigger_intent": {
            "post": _post("Let the bot answer to an intent", named, answered, [shown, channel])
        },
        "execute": {"post": _without_model("Run an action")},
        "predict": {"post": _without_model("Predict the next action")},
        "lock": {
            "get": _get("Who holds the conversation, and who waits", _OBJECT, _ALWAYS),
            "delete": _get(
                "End the turn that holds the conversation (needs the admin token)", _OBJECT, _ALWAYS,
                [
                    _query("fence", {"type": "integer", "minimum": 0}, "only the turn with this fence"),
                    _query("why", {"type": "string", "maxLength": WHY}, "a reason, for the audit"),
                ],
            ),
        },
    }  # fmt: skip
    sender = {
        "name": "conversation_id", "in": "path", "required": True,
        "description": "may have slashes", "schema": _ID,
    }  # fmt: skip
    base = "/conversations/{conversation_id}/"
    return {base + name: {"parameters": [sender], **path} for name, path in paths.items()}


def _get(
    summary: str, schema: Json, errors: Iterable[int], query: Iterable[Json] = (),
    kind: str = "application/json",
) -> Json:  # fmt: skip
    responses = {"200": _answer("as asked for", schema, kind), **_errors(errors)}
    if not errors:
        responses["503"] = _answer("not now", _OBJECT)
    return {"summary": summary, "parameters": list(query), "responses": responses}


def _post(summary: str, body: Json, schema: Json, query: Iterable[Json]) -> Json:
    return {
        "summary": summary,
        "parameters": list(query),
        "requestBody": _body(body),
        "responses": {"200": _answer("done", schema), **_errors(_TURN)},
    }


def _without_model(summary: str) -> Json:
    return {"summary": f"{summary}: there is no model", "responses": _errors((409,))}


def _mapping(required: list[str], **properties: Json) -> Json:
    """An object, whose optional properties may be null."""
    optional = {name: {"anyOf": [schema, {"type": "null"}]} for name, schema in properties.items()}
    for name in required:
        optional[name] = properties[name]
    return {"type": "object", "required": required, "properties": optional}


def _body(schema: Json) -> Json:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _query(name: str, schema: Json, description: str) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _answer(description: str, schema: Json, kind: str = "application/json") -> Json:
    return {"description": description, "content": {kind: {"schema": schema}}}


def _errors(statuses: Iterable[int]) -> Json:
    every = sorted({*_ALWAYS, *statuses})
    return {str(status): _answer(HTTPStatus(status).phrase, _ref("Error")) for status in every}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


_ERROR = _mapping(
    ["version", "status", "message", "reason", "code"],
    version={"type": "string"},
    status={"type": "string", "enum": ["failure"]},
    message={"type": "string"},
    reason={"type": "string"},
    details=_OBJECT,
    help={"type": "string"},
    code={"type": "integer"},
)
_STATE = _mapping(
    ["sender_id", "slots", "latest_message", "events"],
    sender_id={"type": "string"},
    slots=_OBJECT,
    latest_message=_OBJECT,
    events={"type": ["array", "null"], "items": _OBJECT},
)
_REPLY = _mapping(["recipient_id"], recipient_id={"type": "string"}, text={"type": "string"})
_EVENT = _mapping(["event"], event=_TEXT)
_ENTITIES: Json = {"oneOf": [{"type": "array", "items": _OBJECT}, _OBJECT]}
