"""What became of a message that was accepted: `/webhooks/outcomes/<token>`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ..inbox.listener import Listener
from ..inbox.submission import MessageOutcome, Receipt
from .bot import Message
from .errors import BadRequest, Conflict, NotFound
from .handling import Handler
from .outcome_tokens import OutcomeTokens
from .query import seconds

#: Seconds that a request may wait for an outcome.
MAX_WAIT = 60.0
#: Seconds after which a silent stream looks again, and sends a comment.
_SILENCE = 10.0


class OutcomeRoutes:
    """The endpoints of outcomes.

    Attributes:
        tokens: makes the addresses.
    """

    def __init__(self, handler: Handler, tokens: OutcomeTokens) -> None:
        self._handler = handler
        self._inbox = handler.conversations.inbox
        self.tokens = tokens

    async def accepted(self, message: Message, receipt: Receipt) -> Response:
        """The answer 202 to a message that was submitted."""
        token = await self.tokens.make(message.sender_id, message.message_id, receipt.due)
        address = f"/webhooks/outcomes/{token}"
        body: dict[str, Any] = {
            "ticket": receipt.number,
            "position": receipt.position,
            "message_id": message.message_id,
            "duplicate": receipt.known,
            "durability": await self._inbox.durability(),
            "outcome": address,
        }
        if receipt.due is not None:
            body["due"] = receipt.due
        return JSONResponse(body, 202, {"location": address})

    async def show(self, request: Request) -> Response:
        """GET: the outcome; `wait`: seconds to wait for it. With `Accept: text/event-stream` a stream."""
        conversation_id, message_id = await self.tokens.read(request.path_params["token"])
        wait = seconds(request, "wait", MAX_WAIT)
        if "text/event-stream" in request.headers.get("accept", ""):
            last = request.headers.get("last-event-id", "0")
            if not (last.isascii() and last.isdecimal() and len(last) < 10):
                raise BadRequest("Last-Event-ID is not a whole number")
            stream = self._events(conversation_id, message_id, int(last))
            headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
            return StreamingResponse(stream, media_type="text/event-stream", headers=headers)
        if wait > 0:
            outcome = await self._inbox.wait(conversation_id, message_id, wait)
        else:
            outcome = await self._inbox.outcome(conversation_id, message_id)
        if outcome.state == "unknown":
            raise NotFound(_UNKNOWN)
        return JSONResponse(as_json(outcome), headers={"cache-control": "no-store"})

    async def withdraw(self, request: Request) -> Response:
        """DELETE: withdraw the message, unless its turn has begun."""
        found = await self._inbox.withdraw(*await self.tokens.read(request.path_params["token"]))
        if found == "unknown":
            raise NotFound(_UNKNOWN)
        if found != "withdrawn":
            raise Conflict(f"the message cannot be withdrawn: its turn has {_PAST[found]}")
        return JSONResponse({"withdrawn": True})

    async def _events(self, conversation_id: str, message_id: str, last: int) -> AsyncIterator[str]:
        """Server-sent events: 1 waiting, 2 running, then a number for each reply, and the end.

        Between them, without a number, what the bot says before it is stored.
        """
        state, said = "", asyncio.Queue[Any]()
        key = (conversation_id, message_id)

        def hear(reply: dict[str, Any], index: int) -> None:
            said.put_nowait({"provisional": True, "index": index, **reply})

        listener = Listener(hear, sends_again=False)
        listener.outcome.add_done_callback(lambda _: said.put_nowait(None))
        with self._inbox.listening(*key, listener):
            heard: Any = None
            while True:
                ended = listener.outcome.done()
                outcome = await self._inbox.outcome(*key)
                if ended or outcome.finished or outcome.state == "unknown":
                    break
                if outcome.state != state:
                    state = outcome.state
                    number = {"due": None, "waiting": 1}.get(state, 2)
                    if number is None or number > last:
                        yield _event(number, "state", as_json(outcome))
                while True:
                    if heard is not None:
                        yield _event(None, "provisional", heard)
                    try:
                        heard = await asyncio.wait_for(said.get(), _SILENCE)
                    except asyncio.TimeoutError:
                        heard = None
                        yield ": still there\n\n"
                    if heard is None or state == "waiting":
                        break
        made = as_json(outcome)
        replies = made.get("replies") or []
        for number, reply in enumerate(replies, 3):
            if number > last:
                yield _event(number, "reply", reply)
        yield _event(3 + len(replies), "end", made)


_PAST = {"begun": "begun", "finished": "ended"}
_UNKNOWN = (
    "the message is not known any more: its outcome was kept for message_window, or it was cancelled "
    "or replaced before it came due"
)


def as_json(outcome: MessageOutcome) -> dict[str, Any]:
    """An outcome for clients; of a message that is finished, its place is not known any more."""
    made: dict[str, Any] = {"state": outcome.state}
    if outcome.state in ("waiting", "running"):
        made.update(ticket=outcome.number, position=outcome.position, attempts=outcome.attempts)
    if outcome.due is not None:
        made["due"] = outcome.due
    if outcome.text is None:
        return made
    content = json.loads(outcome.text)
    if outcome.state == "replied" and content is None:
        made["state"] = "rolled_back"
    elif outcome.state == "replied":
        made["replies"] = content
    else:
        made["error"] = {key: content.get(key) for key in ("code", "reason", "message")}
    return made


def _event(number: int | None, name: str, data: Any) -> str:
    line = "" if number is None else f"id: {number}\n"
    return f"{line}event: {name}\ndata: {json.dumps(data)}\n\n"


def routes(outcomes: OutcomeRoutes) -> list[Route]:
    path = "/webhooks/outcomes/{token}"
    return [
        Route(path, outcomes.show, methods=["GET"]),
        Route(path, outcomes.withdraw, methods=["DELETE"]),
    ]
