"""Answers in JSON, also for values that JSON does not have."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

from ..aio.slices import sliced
from ..plain_json import plain
from ..tracker.tracker import EventVerbosity, Tracker


def answer(content: Any) -> Response:
    """The content as JSON; other values, as of a custom store, are made plain.

    It is rendered at once: inside a turn, an error here means that nothing is stored.
    """
    try:
        return JSONResponse(content)
    except (TypeError, ValueError, RecursionError):
        return JSONResponse(plain(content))


async def tracker_answer(
    tracker: Tracker, verbosity: EventVerbosity, messages: list[dict[str, Any]] | None = None
) -> Response:
    """The state of a tracker as JSON; its events, which may be many, are rendered in slices.

    Args:
        messages: the replies; the answer is then an object of them and the state.
    """
    state = tracker.current_state(EventVerbosity.NONE)
    shown = tracker.shown(verbosity)
    if shown is not None:
        del state["events"]
    body = _json(state)
    if shown is not None:
        events = await sliced(_json(event.as_dict()) for event in shown)
        body = b'%b,"events":[%b]}' % (body[:-1], b",".join(events))
    if messages is not None:
        body = b'{"tracker":%b,"messages":%b}' % (body, _json(messages))
    return Response(body, media_type="application/json")


def _json(content: Any) -> bytes:
    return bytes(answer(content).body)
