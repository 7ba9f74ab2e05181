"""What the operator's page is fed with, GET `/live`, and what it can do, POST `/live/break`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import __version__
from ..errors import TicketLockError
from ..lock import check_conversation_id
from .auth import Auth
from .errors import BadRequest, NotAuthenticated, NotAuthorized
from .fleet import Fleet
from .fleet_view import holder_row, merge
from .handling import Handler
from .limits import field, read_object

log = logging.getLogger("ticketlock")

T = TypeVar("T")

#: Seconds for which an answer is given again: any number of pages cost as much as one.
_FRESH, _FRESH_BACKLOG = 1.0, 5.0
#: Conversations whose holder no replica tells of, and that are looked up in the lock store.
_LOOKUPS = 20
#: Seconds that the stores have for what the page shows.
_PATIENCE = 3.0


def routes(live: Live, auth: Auth) -> list[Route]:
    handler = live.handler

    async def show(request: Request) -> Response:
        try:
            auth.admin(request)
        except (NotAuthenticated, NotAuthorized):
            auth.api(request)
        return JSONResponse(await live.document())

    async def end(request: Request) -> Response:
        auth.admin(request)
        body = await read_object(request, handler.settings)
        conversation_id = check_conversation_id(field(body, "conversation", str, "a text"))
        fence = body.get("fence")
        if not isinstance(fence, int) or isinstance(fence, bool) or fence < 1:
            raise BadRequest("fence is no number above 0: what is broken is one turn, no other")
        return JSONResponse(await live.end(conversation_id, fence))

    return [
        Route("/live", show, methods=["GET"]),
        Route("/live/break", end, methods=["POST"]),
    ]


class Live:
    """What the page shows, and what it does.

    Attributes:
        handler: whose jobs and stores they are.
        fleet: what this process tells, and what all tell.
    """

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.fleet = Fleet(handler)
        self._document = _Cached(self._make, _FRESH)
        self._backlog = _Cached(self._ask_backlog, _FRESH_BACKLOG)

    async def document(self) -> dict[str, Any]:
        """The object of GET `/live`. Raises LockStoreConnectionError."""
        return await self._document.get()

    async def _make(self) -> dict[str, Any]:
        heard, outbox = await asyncio.gather(self.fleet.hear(), self._backlog.get())
        made = {
            "version": __version__,
            "scope": "fleet" if self.fleet.shared else "process",
            "can_break": self.handler.settings.admin_token is not None,
            "outbox": outbox,
            **merge(heard),
        }
        with contextlib.suppress(asyncio.TimeoutError):  # the page then shows no holder
            await asyncio.wait_for(self._look_up(made["conversations"]), _PATIENCE)
        return made

    async def _look_up(self, rows: list[dict[str, Any]]) -> None:
        """Find holders that no replica tells of: other programs, and processes that are gone."""
        store = self.handler.conversations.lock_store
        for row in [row for row in rows if row["holder"] is None][:_LOOKUPS]:
            row["holder"] = holder_row((await store.inspect(row["id"], 0)).holder)

    async def _ask_backlog(self) -> dict[str, Any] | None:
        conversations = self.handler.conversations
        if conversations.relay is None:
            return None
        found = {"events": None, "oldest": 0.0, "trouble": conversations.relay.counts.trouble}
        try:
            backlog = await asyncio.wait_for(
                conversations.tracker_store.outbox.backlog(), _PATIENCE
            )
        except (TicketLockError, asyncio.TimeoutError) as error:
            return {**found, "trouble": f"not known: {type(error).__name__}"}
        if backlog.since is not None:
            found["oldest"] = max(0.0, time.time() - backlog.since / 1000)
        return {**found, "events": backlog.events}

    async def end(self, conversation_id: str, fence: int) -> dict[str, Any]:
        """Break the turn of that fence, if it is still the one that holds the conversation."""
        store = self.handler.conversations.lock_store
        held = (await store.inspect(conversation_id, 0)).holder
        broken = await store.break_lock(conversation_id, fence)
        follows = (await store.inspect(conversation_id, 0)).holder
        self._document.forget()
        what = "broken" if broken else "not broken, it had ended"
        log.warning("an operator: turn of fence %d of %r: %s", fence, conversation_id, what)
        return {"broken": broken, "held": holder_row(held), "next": holder_row(follows)}


class _Cached(Generic[T]):
    """The last result of something, for a while; it runs once, however many want it."""

    def __init__(self, make: Callable[[], Awaitable[T]], seconds: float) -> None:
        self._make = make
        self._seconds = seconds
        self._made_at = -seconds
        self._made: T
        self._guard = asyncio.Lock()

    async def get(self) -> T:
        async with self._guard:
            if time.monotonic() - self._made_at >= self._seconds:
                self._made = await self._make()
                self._made_at = time.monotonic()
            return self._made

    def forget(self) -> None:
        self._made_at = -self._seconds


class Metered:
    """Counts what is refused and what fails, and lets the fleet know of this process."""

    def __init__(self, app: ASGIApp, live: Live) -> None:
        self._app = app
        self._live = live

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        self._live.fleet.start()
        counts = scope["method"] == "POST" and scope["path"].endswith("/webhook")

        async def counted(message: Message) -> None:
            if counts and message["type"] == "http.response.start":
                self._live.handler.counters.answered(message["status"])
            await send(message)

        return await self._app(scope, receive, counted)
