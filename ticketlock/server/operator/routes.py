"""The endpoints of the operator's page: `/live` and below."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ...checks import check_conversation_id
from ..answers import answer
from ..auth import Auth
from ..errors import BadRequest
from ..limits import field, read_object
from .audit import AuditRecord, requested
from .dead_letters import SEARCHED, LetterKey
from .listing import Query
from .live import MAX_TURNS, Live
from .messages import ACTIONS, SHOWN, Target


def routes(live: Live, auth: Auth) -> list[Route]:
    settings = live.handler.settings

    async def show(request: Request) -> Response:
        role = auth.page(request)
        document = await live.document(Query.of(request.query_params))
        return JSONResponse({**document, "role": role})

    async def matching(request: Request) -> Response:
        auth.page(request)
        return JSONResponse(await live.matching(Query.of(request.query_params)))

    async def conversation(request: Request) -> Response:
        auth.page(request)
        if (wanted := request.query_params.get("id")) is None:
            raise BadRequest("id must name a conversation")
        return answer(await live.details(check_conversation_id(wanted)))

    async def end(request: Request) -> Response:
        auth.admin(request)
        body = await read_object(request, settings)
        record = _record("break", body, request)
        if "turns" in body:
            return JSONResponse(await live.end_all(_turns(body["turns"]), record))
        return JSONResponse(await live.end(*_turn(body), record))

    async def letters(request: Request) -> Response:
        auth.admin(request)
        body = await read_object(request, settings)
        action = field(body, "action", str, "a text")
        if action not in ("drop", "resend"):
            raise BadRequest("action must be drop or resend")
        record = _record(action, body, request)
        return JSONResponse(await live.settle(_letters(body.get("letters")), record))

    async def messages(request: Request) -> Response:
        auth.admin(request)
        body = await read_object(request, settings)
        action = field(body, "action", str, "a text")
        if action not in ACTIONS:
            raise BadRequest(f"action must be one of {', '.join(ACTIONS)}")
        record = _record(action, body, request)
        return JSONResponse(await live.change(action, _targets(body.get("messages")), record))

    return [
        Route("/live", show, methods=["GET"]),
        Route("/live/turns", matching, methods=["GET"]),
        Route("/live/conversation", conversation, methods=["GET"]),
        Route("/live/break", end, methods=["POST"]),
        Route("/live/letters", letters, methods=["POST"]),
        Route("/live/messages", messages, methods=["POST"]),
    ]


def _record(action: str, body: dict[str, Any], request: Request) -> AuditRecord:
    who, why = (field(body, key, str, "a text", "") for key in ("who", "why"))
    return requested(action, who, why, request)


def _turn(given: Any) -> tuple[str, int]:
    if not isinstance(given, dict):
        raise BadRequest("a turn must be an object with conversation and fence")
    conversation_id = check_conversation_id(field(given, "conversation", str, "a text"))
    return conversation_id, _whole(given, "fence", 1)


def _turns(given: Any) -> list[tuple[str, int]]:
    return [_turn(one) for one in _objects(given, "turns", MAX_TURNS)]


def _letters(given: Any) -> list[LetterKey]:
    found = []
    for one in _objects(given, "letters", SEARCHED):
        if not isinstance(one, dict):
            raise BadRequest("a letter must be an object with conversation, history and sequence")
        name = check_conversation_id(field(one, "conversation", str, "a text"))
        found.append((name, _whole(one, "history"), _whole(one, "sequence")))
    return found


def _targets(given: Any) -> list[Target]:
    found = []
    for one in _objects(given, "messages", SHOWN):
        if not isinstance(one, dict):
            raise BadRequest("a message must be an object with conversation and message_id")
        name = check_conversation_id(field(one, "conversation", str, "a text"))
        kind = field(one, "kind", str, "a text", "message")
        if kind not in ("message", "delivery"):
            raise BadRequest("kind must be message or delivery")
        message_id = field(one, "message_id", str, "a text")
        if message_id is None:
            raise BadRequest("message_id is missing")
        found.append(Target(name, message_id, kind))
    return found


def _objects(given: Any, key: str, limit: int) -> list[Any]:
    if not isinstance(given, list) or not 0 < len(given) <= limit:
        raise BadRequest(f"{key} must be a list of 1 to {limit}")
    return given


def _whole(given: dict[str, Any], key: str, least: int = 0) -> int:
    value = given.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise BadRequest(f"{key} must be a whole number, {least} or more")
    return value
