"""The parts that the OpenAPI document is made of."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from .limits import MAX_ID

Json = dict[str, Any]

TEXT: Json = {"type": "string"}
#: A conversation id that every store can have.
ID: Json = {"type": "string", "pattern": "^[^\\x00]+$", "minLength": 1, "maxLength": MAX_ID}
OBJECT: Json = {"type": "object"}

#: Error statuses of any request, of those with a body, and of those with a turn.
ALWAYS = (400, 401, 403, 404, 421, 503)
BODY = (408, 413)
TURN = (*BODY, 409, 429, 500, 504)


def get(
    summary: str, schema: Json, errors: Iterable[int], query: Iterable[Json] = (),
    kind: str = "application/json",
) -> Json:  # fmt: skip
    responses = {"200": answer("as asked for", schema, kind), **errors_of(errors)}
    if not errors:
        responses["503"] = answer("not now", OBJECT)
    return {"summary": summary, "parameters": list(query), "responses": responses}


def post(summary: str, body: Json, schema: Json, query: Iterable[Json]) -> Json:
    return {
        "summary": summary,
        "parameters": list(query),
        "requestBody": body_of(body),
        "responses": {"200": answer("done", schema), **errors_of(TURN)},
    }


def without_model(summary: str) -> Json:
    return {"summary": f"{summary}: there is no model", "responses": errors_of((409,))}


def mapping(required: list[str], **properties: Json) -> Json:
    """An object, whose optional properties may be null."""
    optional = {name: {"anyOf": [schema, {"type": "null"}]} for name, schema in properties.items()}
    for name in required:
        optional[name] = properties[name]
    return {"type": "object", "required": required, "properties": optional}


def body_of(schema: Json) -> Json:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def in_query(name: str, schema: Json, description: str) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def answer(description: str, schema: Json, kind: str = "application/json") -> Json:
    return {"description": description, "content": {kind: {"schema": schema}}}


def errors_of(statuses: Iterable[int]) -> Json:
    every = sorted({*ALWAYS, *statuses})
    return {str(status): answer(HTTPStatus(status).phrase, ref("Error")) for status in every}


def ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


ERROR = mapping(
    ["version", "status", "message", "reason", "code"],
    version={"type": "string"},
    status={"type": "string", "enum": ["failure"]},
    message={"type": "string"},
    reason={"type": "string"},
    details=OBJECT,
    help={"type": "string"},
    code={"type": "integer"},
)
STATE = mapping(
    ["sender_id", "slots", "latest_message", "events"],
    sender_id={"type": "string"},
    slots=OBJECT,
    latest_message=OBJECT,
    events={"type": ["array", "null"], "items": OBJECT},
)
REPLY = mapping(["recipient_id"], recipient_id={"type": "string"}, text={"type": "string"})
EVENT = mapping(["event"], event=TEXT)
ENTITIES: Json = {"oneOf": [{"type": "array", "items": OBJECT}, OBJECT]}
