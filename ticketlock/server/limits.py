"""What keeps one request from hurting the others: sizes, times, and ids that can be stored."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any
from urllib.parse import unquote_to_bytes

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from ..errors import InvalidEvent
from ..event_codec import check_sender_id, encode_events
from .bot import Message
from .errors import BadRequest, SlowBody, TooLarge
from .settings import Settings

#: Characters of a conversation id; the stores' columns hold no more.
MAX_ID = 255
#: Characters of a message id.
MAX_MESSAGE_ID = 255
#: Seconds, and bytes, for which the rest of a body that is too large is thrown away.
_LINGER, _LINGER_BYTES = 1.0, 8 * 1024 * 1024


async def read_json(request: Request, settings: Settings) -> Any:
    """The body. Raises TooLarge without reading on, SlowBody, and BadRequest."""
    body = await _read(request, settings)
    try:
        return json.loads(body.decode(), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not UTF-8: {error}") from None
    except ValueError as error:  # also of numbers too long to be read
        raise BadRequest(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise BadRequest("the body is nested too deeply") from None


async def read_object(request: Request, settings: Settings) -> dict[str, Any]:
    """The body, which must be an object."""
    body = await read_json(request, settings)
    if not isinstance(body, dict):
        raise BadRequest("the body is not a JSON object")
    return body


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


async def _read(request: Request, settings: Settings) -> bytes:
    """The bytes of the body, within its size and its time."""
    limit = settings.max_body
    too_large = TooLarge(f"the body has more than {limit} bytes")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and (len(announced) > 18 or int(announced) > limit):
        raise too_large

    async def read() -> bytes:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise too_large
        return bytes(body)

    try:
        return await asyncio.wait_for(read(), settings.body_timeout)
    except asyncio.TimeoutError:
        seconds = settings.body_timeout
        raise SlowBody(f"the body did not come within {seconds:g} s") from None
    except ClientDisconnect:
        raise BadRequest("the body is incomplete") from None


class Lingering(JSONResponse):
    """An answer to a body that goes on, whose connection is closed after it.

    Closed at once, with bytes that nobody has read, the system would reset it, and the client
    could not read the answer. So what still comes is thrown away, for a short time.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = {"type": "http.response.start", "status": self.status_code}
        await send({**head, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(_throw_away(receive), _LINGER)
        await send({"type": "http.response.body", "body": b""})


async def _throw_away(receive: Receive) -> None:
    left = _LINGER_BYTES
    while left > 0:
        message = await receive()
        left -= len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return


def check_id(sender_id: Any) -> str:
    """Return the conversation id. Raises BadRequest, InvalidConversationId."""
    if not isinstance(sender_id, str):
        raise BadRequest("the id of the conversation is not a text")
    return check_sender_id(sender_id, MAX_ID)


def path_id(request: Request) -> str:
    """The conversation id of the path, which may have slashes, and any Unicode.

    Bytes that are no UTF-8 are refused: replaced, two ids could become one.
    """
    try:
        unquote_to_bytes(request.scope.get("raw_path") or b"").decode()
    except UnicodeDecodeError:
        raise BadRequest("the path is not UTF-8") from None
    return check_id(request.path_params["conversation_id"])


def check_message_id(message_id: Any) -> str:
    """Return the message id. Raises BadRequest."""
    if not isinstance(message_id, str) or not 0 < len(message_id) <= MAX_MESSAGE_ID:
        raise BadRequest(f"message_id is not a text of 1 to {MAX_MESSAGE_ID} characters")
    return message_id


def check_message(message: Message) -> Message:
    """Return the message if it can be stored. Raises BadRequest, InvalidConversationId."""
    check_id(message.sender_id)
    try:
        encode_events([message.event().as_dict()])
    except InvalidEvent as error:
        raise BadRequest(str(error)) from error
    return message


def field(
    body: dict[str, Any], key: str, kind: type | tuple[type, ...], name: str, default: Any = None
) -> Any:
    """A field of the body; the default where it is missing or null. Raises BadRequest."""
    value = body.get(key)
    if value is None:
        return default
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise BadRequest(f"{key} is not {name}")
    return value
