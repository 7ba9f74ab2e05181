"""The webhooks and the outcomes in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from ..inbox.due import MAX_AHEAD
from ..inbox.submission import State
from .channels.channel import Channel
from .double_texting import POLICIES
from .limits import MAX_MESSAGE_ID
from .openapi_parts import (
    BODY,
    ID,
    OBJECT,
    TEXT,
    TURN,
    Json,
    answer,
    body_of,
    errors_of,
    get,
    in_query,
    mapping,
    ref,
)
from .outcome_routes import MAX_WAIT

_NUMBER: Json = {"type": "number"}
_COUNT: Json = {"type": "integer", "minimum": 0}


def webhooks(channels: Sequence[Channel], *, callback: bool) -> Json:
    """The paths of the REST channel, of outcomes, and of the channels that are served."""
    paths = {**_rest(), **_outcomes(), **(_callback() if callback else {})}
    for one in channels:
        paths[one.path] = _channel(one)
    return paths


def _rest() -> Json:
    switches = [
        in_query("stream", {"type": "boolean"}, "one JSON object a line, each as soon as it is ready"),
        in_query(
            "ticket", {"type": "boolean"},
            "stream, and send the ticket number first, as soon as the message has its place",
        ),
        in_query(
            "async", {"type": "boolean"},
            "answer 202 as soon as the message is stored: it is then handled whatever dies, and "
            "`outcome` of the answer is the address of what becomes of it",
        ),
    ]  # fmt: skip
    replies = answer("the replies", {"type": "array", "items": ref("Reply")})
    replies["content"]["application/x-ndjson"] = {"schema": TEXT}
    accepted = answer("with async: the message is stored", ref("Accepted"))
    accepted["headers"] = {"Location": {"description": "`outcome`", "schema": TEXT}}
    return {
        "/webhooks/rest/": {"get": {**get("The channel is alive", OBJECT, ()), "security": []}},
        "/webhooks/rest/webhook": {
            "post": {
                "summary": "Send a message and get the bot's replies",
                "parameters": [*switches, _KEY],
                "requestBody": body_of(_MESSAGE),
                "responses": {"200": replies, "202": accepted, **errors_of(TURN)},
            }
        },
    }


def _outcomes() -> Json:
    wait = in_query(
        "wait", {**_NUMBER, "minimum": 0, "maximum": MAX_WAIT},
        "seconds to wait until the message is finished",
    )  # fmt: skip
    last = {
        "name": "Last-Event-ID", "in": "header", "description": "of a stream: go on behind this event",
        "schema": {"type": "string", "pattern": "^[0-9]{1,9}$"},
    }  # fmt: skip
    found = answer("what has become of it", ref("Outcome"))
    found["content"]["text/event-stream"] = {
        "schema": {
            **TEXT,
            "description": "with `Accept: text/event-stream`: events `state`, `provisional` (a reply "
            "that is not stored yet), `reply`, and at last `end` with the outcome",
        }
    }
    token = {
        "name": "token", "in": "path", "required": True, "schema": TEXT,
        "description": "as in the address that the 202 has; it is the authorization",
    }  # fmt: skip
    withdrawn = {"type": "object", "properties": {"withdrawn": {"const": True}}}
    return {
        "/webhooks/outcomes/{token}": {
            "parameters": [token],
            "get": {
                "summary": "What has become of a message that was accepted with 202",
                "parameters": [wait, last],
                "responses": {"200": found, **errors_of(())},
                "security": [],
            },
            "delete": {
                "summary": "Withdraw the message, unless its turn has begun",
                "responses": {"200": answer("never handled", withdrawn), **errors_of((409,))},
                "security": [],
            },
        }
    }


def _callback() -> Json:
    return {
        "/webhooks/callback/": {"get": {**get("The channel is alive", OBJECT, ()), "security": []}},
        "/webhooks/callback/webhook": {
            "post": {
                "summary": "Send a message; the replies are posted to the configured URL",
                "parameters": [_KEY],
                "requestBody": body_of(_MESSAGE),
                "responses": {
                    "200": answer("the message is stored", TEXT, "text/plain"),
                    **errors_of(TURN),
                },
            }
        },
    }


def _channel(channel: Channel) -> Json:
    """The path of a vendor's webhook, whose signature is its authorization."""
    stored: Json = {"200": {"description": "as the vendor wants it"}}
    made: Json = {
        "post": {
            "summary": f"Messages from {channel.name}; their signature is checked",
            "responses": {**stored, **errors_of(BODY)},
            "security": [],
        }
    }
    if type(channel).challenge is not Channel.challenge:
        made["get"] = {
            "summary": "The vendor verifies the address",
            "responses": {**stored, **errors_of(())},
            "security": [],
        }
    return made


_KEY: Json = {
    "name": "Idempotency-Key", "in": "header", "description": "message_id, if the body has none",
    "schema": {"type": "string", "pattern": "^[!-~]+$", "maxLength": MAX_MESSAGE_ID},
}  # fmt: skip
_MESSAGE = mapping(
    ["message"],
    sender=ID,
    message=TEXT,
    message_id={**TEXT, "minLength": 1, "maxLength": MAX_MESSAGE_ID},
    input_channel=TEXT,
    metadata=OBJECT,
    double_texting={"type": "string", "enum": list(POLICIES)},
    at={**_NUMBER, "description": "it comes due later: when, in seconds since 1970"},
    after={
        **_NUMBER, "minimum": 0, "maximum": MAX_AHEAD,
        "description": "it comes due later: in how many seconds",
    },
    name={**TEXT, "minLength": 1, "description": "it replaces the one of that name that is not due"},
)  # fmt: skip
_ERROR: Json = {
    "type": "object", "properties": {"code": {"type": "integer"}, "reason": TEXT, "message": TEXT}
}  # fmt: skip
_ACCEPTED: Json = {
    "type": "object",
    "required": ["ticket", "position", "message_id", "duplicate", "durability", "outcome"],
    "properties": {
        "ticket": {**_COUNT, "description": "0: another ticket has it, or it comes due later"},
        "position": {**_COUNT, "description": "turns before it"},
        "message_id": TEXT,
        "duplicate": {"type": "boolean", "description": "it was accepted before"},
        "durability": {"enum": ["appendonly", "memory", "unknown", "process"]},
        "outcome": {**TEXT, "description": "address of the outcome"},
        "due": {**_NUMBER, "description": "when it comes due, in seconds since 1970"},
    },
}
_OUTCOME: Json = {
    "type": "object",
    "required": ["state"],
    "properties": {
        "state": {"enum": [*(s for s in get_args(State) if s != "unknown"), "rolled_back"]},
        "ticket": _COUNT,
        "position": _COUNT,
        "attempts": {**_COUNT, "description": "attempts that have failed"},
        "due": _NUMBER,
        "replies": {"type": "array", "items": ref("Reply")},
        "error": _ERROR,
    },
}
SCHEMAS: Json = {"Accepted": _ACCEPTED, "Outcome": _OUTCOME}
