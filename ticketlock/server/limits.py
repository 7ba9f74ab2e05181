"""Limits of a request: its size, and ids and messages that can be stored."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any
from urllib.parse import unquote_to_bytes

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from ..aio.slices import Aside
from ..checks import check_sender_id
from ..errors import InvalidEvent
from ..events.codec import certainly_stored, encode_events
from .bot import Message
from .errors import BadRequest, TooMuch
from .intake import read_body
from .json_limits import parse
from .settings import Settings

#: Most characters of a conversation id, as in the columns of the stores.
MAX_ID = 255
#: Most characters of a message id.
MAX_MESSAGE_ID = 255
#: Seconds and bytes in which the rest of a body that is too large is discarded.
_LINGER, _LINGER_BYTES = 1.0, 8 * 1024 * 1024


async def read_json(request: Request, settings: Settings) -> Any:
    """The JSON of the body. Raises as `read_body` and `parse`."""
    body = await read_body(request, settings)
    async with Aside():
        return parse(body, settings)


async def read_object(request: Request, settings: Settings) -> dict[str, Any]:
    """The JSON object of the body. Raises as `read_json`, and BadRequest."""
    body = await read_json(request, settings)
    if not isinstance(body, dict):
        raise BadRequest("the body is not a JSON object")
    return body


class Lingering(JSONResponse):
    """An answer before the end of the body, after which the connection is closed.

    Closed at once, with unread bytes, the connection would be reset, and the client would lose
    the answer. So the rest of the body is discarded for a short time first.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = {"type": "http.response.start", "status": self.status_code}
        await send({**head, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(_discard(receive), _LINGER)
        await send({"type": "http.response.body", "body": b""})


async def _discard(receive: Receive) -> None:
    left = _LINGER_BYTES
    while left > 0:
        message = await receive()
        left -= len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return


def check_id(sender_id: Any) -> str:
    """Return the conversation id. Raises BadRequest, InvalidConversationId."""
    if not isinstance(sender_id, str):
        raise BadRequest("the id of the conversation is not text")
    return check_sender_id(sender_id, MAX_ID)


def path_id(request: Request) -> str:
    """The conversation id in the path: any Unicode, also slashes.

    Raises BadRequest for invalid UTF-8, because with replaced bytes two ids could be the same.
    """
    try:
        unquote_to_bytes(request.scope.get("raw_path") or b"").decode()
    except UnicodeDecodeError:
        raise BadRequest("the path is not UTF-8") from None
    return check_id(request.path_params["conversation_id"])


def check_message_id(message_id: Any) -> str:
    """Return the message id. Raises BadRequest."""
    if not isinstance(message_id, str) or not 0 < len(message_id) <= MAX_MESSAGE_ID:
        raise BadRequest(f"message_id is not text of 1 to {MAX_MESSAGE_ID} characters")
    return message_id


def check_message(message: Message, settings: Settings) -> Message:
    """Return the message if it can be stored and its metadata and parse_data are not too large.

    Raises BadRequest, TooMuch, InvalidConversationId.
    """
    check_id(message.sender_id)
    texts = (message.text, message.message_id, message.input_channel)
    if not message.metadata and not message.parse_data and certainly_stored(*texts):
        return message
    for key in ("metadata", "parse_data"):
        if len(json.dumps(getattr(message, key))) > settings.max_text:
            raise TooMuch(f"{key} has more than {settings.max_text} characters of JSON")
    try:
        encode_events([message.event().as_dict()])
    except InvalidEvent as error:
        raise BadRequest(str(error)) from error
    return message


def field(
    body: dict[str, Any], key: str, kind: type | tuple[type, ...], name: str, default: Any = None
) -> Any:
    """A field of the body; the default if it is missing or null. Raises BadRequest."""
    value = body.get(key)
    if value is None:
        return default
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise BadRequest(f"{key} is not {name}")
    return value
