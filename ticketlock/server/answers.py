"""Answers in JSON, also for values that JSON does not have."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import JSONResponse, Response

from ..plain_json import dumped, plain
from ..tracker.rendering import state_json
from ..tracker.tracker import EventVerbosity, Tracker


def answer(content: Any) -> Response:
    """The content as JSON; other values, as of a custom store, are made plain.

    It is rendered at once: inside a turn, an error here means that nothing is stored.
    """
    try:
        return JSONResponse(content)
    except (TypeError, ValueError, RecursionError):
        return JSONResponse(plain(content))


def stored(text: str) -> Response:
    """JSON that was stored, which is in ASCII."""
    if "\\u" in text:  # in UTF-8 it is shorter
        return answer(json.loads(text))
    return Response(text, media_type="application/json")


async def tracker_answer(
    tracker: Tracker, verbosity: EventVerbosity, messages: list[dict[str, Any]] | None = None
) -> Response:
    """The state of a tracker as JSON; its events, which may be many, are rendered in slices.

    Args:
        messages: the replies; the answer is then an object of them and the state.
    """
    body = await state_json(tracker, verbosity)
    if messages is not None:
        body = b'{"tracker":%b,"messages":%b}' % (body, dumped(messages))
    return Response(body, media_type="application/json")
