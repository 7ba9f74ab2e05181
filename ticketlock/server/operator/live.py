"""What the operator's page shows, and what it does."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ... import __version__
from ...errors import LockStoreConnectionError, TicketLockError
from ..handling import Handler
from .audit import Audit, Deed, outcome, write
from .conversation import opened
from .dead_letters import Letters, Name
from .probes import TEXT, problem
from .query import Query
from .replicas import Fleet
from .report import Row
from .view import LIFETIME, SLOW, STUCK, View, holder_row, state

T = TypeVar("T")

#: Seconds for which an answer is given again: any number of pages cost as much as one.
_FRESH, _FRESH_STORED = 1.0, 5.0
#: What takes long to make is made less often: for so many times as long it counts, and for so
#: many seconds at most.
_TIMES, _STALEST = 20, 5.0
#: Conversations whose holder no replica tells of, and that are looked up in the lock store.
_LOOKUPS = 20
#: Different questions that are answered from one look at the fleet.
_ANSWERS = 100
#: Turns that one request may break.
MOST_TURNS = 1000
#: Seconds that the stores have for what the page shows.
_PATIENCE = 3.0


class Live:
    """What the page shows, and what it does.

    Attributes:
        handler: whose jobs and stores they are.
        fleet: what this process tells, and what all tell.
        audit: what operators did.
        letters: events that could not be published.
    """

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.fleet = Fleet(handler)
        self.audit = Audit(handler.conversations.lock_store)
        self.letters = Letters(handler.conversations)
        self._scene = _Cached(self._look, _FRESH)
        self._stored = _Cached(self._ask_stored, _FRESH_STORED)
        self._audit = _Cached(self.audit.last, _FRESH_STORED)

    async def document(self, query: Query | None = None) -> dict[str, Any]:
        """The object of GET `/live`. What cannot be found out is named in its `problems`."""
        scene, query = await self._scene.get(), query or Query()
        if (known := scene.answers.get(query)) is None:
            found = query.found(scene.view.rows)
            start, rows = query.cut(found)
            if "lock_store" not in scene.problems:
                with contextlib.suppress(asyncio.TimeoutError, LockStoreConnectionError):
                    await asyncio.wait_for(self._look_up(rows), _PATIENCE)
            known = {"conversations": rows, "matching": len(found)}
            known |= {"start": start, "limit": query.limit}
            if len(scene.answers) < _ANSWERS:
                scene.answers[query] = known
        return {**scene.whole, **known}

    async def matching(self, query: Query) -> dict[str, Any]:
        """The turns that a query finds, to act on all of them: `turns`, and whether they are `cut`."""
        rows = query.found((await self._scene.get()).view.rows)
        held = [
            {"conversation": row["id"], "fence": row["holder"]["fence"], "state": row["state"]}
            for row in rows
            if row["holder"]
        ]
        return {"turns": held[:MOST_TURNS], "cut": max(0, len(held) - MOST_TURNS)}

    async def opened(self, conversation_id: str) -> dict[str, Any]:
        """One conversation; see `opened.opened`."""
        view = (await self._scene.get()).view
        return await opened(self.handler.conversations, self.letters, view, conversation_id)

    async def _look(self) -> _Scene:
        problems: dict[str, str] = {}
        try:
            told = await self.fleet.hear()
        except LockStoreConnectionError as error:
            problems["lock_store"] = str(error)[:TEXT]
            told = [self.fleet.own()]
        stores = told[0].summary["stores"]
        for name, found in stores.items():
            if found["problem"] and (name != "lock_store" or not self.fleet.shared):
                problems[name] = found["problem"]
        audit: list[dict[str, Any]] = []
        if "lock_store" not in problems:
            try:
                audit = await self._audit.get()
            except LockStoreConnectionError as error:
                problems["lock_store"] = str(error)[:TEXT]
        view = await asyncio.to_thread(View, told)
        whole = {
            "version": __version__,
            "scope": "fleet" if self.fleet.shared else "process",
            "can_break": self.handler.settings.admin_token is not None,
            "slow": SLOW, "stuck": STUCK, "lifetime": LIFETIME,
            "problems": problems,
            "down_for": self.fleet.down_for,
            "audit": audit,
            **await self._stored.get(),
            **view.whole,
        }  # fmt: skip
        return _Scene(view, whole, problems)

    async def _look_up(self, rows: Sequence[Row]) -> None:
        """Find holders that no replica tells of: other programs, and processes that are gone."""
        store = self.handler.conversations.lock_store
        for row in [row for row in rows if row["holder"] is None][:_LOOKUPS]:
            row["holder"] = holder_row((await store.inspect(row["id"], 0)).holder)
            row["state"] = state(row)

    async def _ask_stored(self) -> dict[str, Any]:
        """What the tracker store keeps for the event broker."""
        conversations = self.handler.conversations
        if conversations.relay is None:
            return {"outbox": None, "letters": None}
        outbox = {"events": None, "oldest": 0.0, "trouble": conversations.relay.counts.trouble}
        letters: dict[str, Any] = {"rows": [], "more": False}
        try:
            backlog = await asyncio.wait_for(
                conversations.tracker_store.outbox.backlog(), _PATIENCE
            )
            letters = await self.letters.listed()
        except (TicketLockError, asyncio.TimeoutError) as error:
            unknown = f"not known: {problem(error)}"
            return {"outbox": {**outbox, "trouble": unknown}, "letters": letters}
        if backlog.since is not None:
            outbox["oldest"] = max(0.0, time.time() - backlog.since / 1000)
        return {"outbox": {**outbox, "events": backlog.events}, "letters": letters}

    async def end(self, conversation_id: str, fence: int | None, deed: Deed) -> dict[str, Any]:
        """Break the turn of that fence, or any; see `Audit.break_lock`."""
        held, broken = await self.audit.break_lock(conversation_id, fence, deed)
        self._forget()
        follows = (await self.handler.conversations.lock_store.inspect(conversation_id, 0)).holder
        return {"broken": broken, "held": holder_row(held), "next": holder_row(follows)}

    async def end_all(self, turns: Sequence[tuple[str, int]], deed: Deed) -> dict[str, Any]:
        """Break these very turns, those of them that still hold their conversations."""
        store, broken = self.handler.conversations.lock_store, 0
        for conversation_id, fence in turns:
            done = await store.break_lock(conversation_id, fence)
            broken += done
            # Each in the log; on the page one line stands for all.
            write(outcome(deed, conversation_id, fence, done))
        await self.audit.keep(replace(deed, what=f"{broken} of {len(turns)} turns broken"))
        self._forget()
        return {"broken": broken, "ended": len(turns) - broken}

    async def settle(self, names: Sequence[Name], deed: Deed) -> dict[str, Any]:
        """Resend or drop dead letters, as the deed's action says."""
        work = self.letters.resend if deed.action == "resend" else self.letters.drop
        made = await work(names)
        self._stored.forget()
        one = {name for name, _, _ in names}
        what = f"{made['done']} of {len(names)} dead letters"
        if made["problem"]:
            what += f", then: {made['problem']}"
        conversation = one.pop() if len(one) == 1 else ""
        await self.audit.note(replace(deed, conversation=conversation, what=what))
        self._forget()
        return made

    def _forget(self) -> None:
        """Show what was done at the next look."""
        self._audit.forget()
        self._scene.forget()


class _Scene:
    """One look at the fleet, and what was answered from it."""

    def __init__(self, view: View, whole: dict[str, Any], problems: dict[str, str]) -> None:
        self.view = view
        self.whole = whole
        self.problems = problems
        self.answers: dict[Query, dict[str, Any]] = {}


class _Cached(Generic[T]):
    """The last result of something, for a while; it runs once, however many want it."""

    def __init__(self, make: Callable[[], Awaitable[T]], seconds: float) -> None:
        self._make = make
        self._seconds = seconds
        self._until = 0.0
        self._made: T
        self._guard = asyncio.Lock()

    async def get(self) -> T:
        async with self._guard:
            began = time.monotonic()
            if began >= self._until:
                self._made = await self._make()
                took = time.monotonic() - began
                self._until = began + max(self._seconds, min(_TIMES * took, _STALEST))
            return self._made

    def forget(self) -> None:
        self._until = 0.0


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
