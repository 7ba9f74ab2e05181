"""The data and the actions of the operator's page."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

from ... import __version__
from ...errors import LockStoreConnectionError, TicketLockError
from ..handling import Handler
from .audit import Audit, AuditRecord, outcome, write
from .conversation import details
from .dead_letters import DeadLetters, LetterKey
from .listing import Query
from .messages import SHOWN, Action, Target, letter_row, settle
from .probes import TEXT, problem
from .replicas import Replicas
from .report import ALIVE, Row
from .view import LIFETIME, SLOW, STUCK, View, holder_row, state

T = TypeVar("T")

#: Seconds for which results are cached, so that many open pages cost no more than one.
_FRESH, _FRESH_STORED = 1.0, 5.0
#: A slow result is cached for this many times as long as it took, and for this many seconds at
#: most.
_TIMES, _STALEST = 20, 5.0
#: Most conversations without a reported holder that are looked up in the lock store.
_LOOKUPS = 20
#: Most queries that are cached for one set of reports.
_ANSWERS = 100
#: Most turns that one request may break.
MAX_TURNS = 1000
#: Seconds in which a store must answer.
_PATIENCE = 3.0


class Live:
    """The data and the actions of the page.

    Attributes:
        handler: has the jobs and the stores.
        replicas: the reports of all replicas.
        audit: the actions of operators.
        letters: the dead letters.
    """

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.replicas = Replicas(handler)
        self.audit = Audit(handler.conversations.lock_store)
        self.letters = DeadLetters(handler.conversations)
        self._merged = _Cached(self._look, _FRESH)
        self._stored = _Cached(self._ask_stored, _FRESH_STORED)
        self._inbox = _Cached(self._ask_inbox, _FRESH_STORED)
        self._audit = _Cached(self.audit.last, _FRESH_STORED)

    async def document(self, query: Query | None = None) -> dict[str, Any]:
        """The object of GET `/live`; its `problems` name the parts that are unknown."""
        merged, query = await self._merged.get(), query or Query()
        if (known := merged.answers.get(query)) is None:
            found = query.found(merged.view.rows)
            start, rows = query.cut(found)
            if "lock_store" not in merged.problems:
                with contextlib.suppress(asyncio.TimeoutError, LockStoreConnectionError):
                    await asyncio.wait_for(self._look_up(rows), _PATIENCE)
            known = {"conversations": rows, "matching": len(found)}
            known |= {"start": start, "limit": query.limit}
            if len(merged.answers) < _ANSWERS:
                merged.answers[query] = known
        return {**merged.whole, **known}

    async def matching(self, query: Query) -> dict[str, Any]:
        """The `turns` that a query matches, to break them all, and how many are `cut`."""
        rows = query.found((await self._merged.get()).view.rows)
        held = [
            {"conversation": row["id"], "fence": row["holder"]["fence"], "state": row["state"]}
            for row in rows
            if row["holder"]
        ]
        return {"turns": held[:MAX_TURNS], "cut": max(0, len(held) - MAX_TURNS)}

    async def details(self, conversation_id: str) -> dict[str, Any]:
        """One conversation; see `conversation.details`."""
        view = (await self._merged.get()).view
        return await details(self.handler.conversations, self.letters, view, conversation_id)

    async def _look(self) -> _Merged:
        problems: dict[str, str] = {}
        try:
            snapshots = await self.replicas.snapshots()
        except LockStoreConnectionError as error:
            problems["lock_store"] = str(error)[:TEXT]
            snapshots = [self.replicas.own()]
        stores = snapshots[0].summary["stores"]
        for name, found in stores.items():
            if found["problem"] and (name != "lock_store" or not self.replicas.shared):
                problems[name] = found["problem"]
        for one in snapshots[1:]:
            found = one.summary["stores"].get("durability")
            if found and one.since < ALIVE and not one.summary["gone"]:
                problems.setdefault("durability", f"{one.summary['name']}: {found['problem']}")
        audit: list[dict[str, Any]] = []
        if "lock_store" not in problems:
            try:
                audit = await self._audit.get()
            except LockStoreConnectionError as error:
                problems["lock_store"] = str(error)[:TEXT]
        view = await asyncio.to_thread(View, snapshots)
        whole = {
            "version": __version__,
            "scope": "fleet" if self.replicas.shared else "process",
            "can_break": self.handler.settings.admin_token is not None,
            "slow": SLOW, "stuck": STUCK, "lifetime": LIFETIME,
            "problems": problems,
            "down_for": self.replicas.down_for,
            "audit": audit,
            **await self._stored.get(),
            "inbox": None if "lock_store" in problems else await self._inbox.get(),
            **view.whole,
        }  # fmt: skip
        return _Merged(view, whole, problems)

    async def _look_up(self, rows: Sequence[Row]) -> None:
        """Look up holders that no replica reports: those of other programs and of dead processes."""
        store = self.handler.conversations.lock_store
        for row in [row for row in rows if row["holder"] is None][:_LOOKUPS]:
            row["holder"] = holder_row((await store.inspect(row["id"], 0)).holder)
            row["state"] = state(row)

    async def _ask_inbox(self) -> dict[str, Any]:
        """What waits in the inbox, and its dead letters; a `problem` if that is not known."""
        inbox, rows, more, unknown = self.handler.conversations.inbox, [], False, ""
        try:
            letters = await asyncio.wait_for(inbox.all_letters(SHOWN), _PATIENCE)
            rows = [letter_row(letter, time.time()) for letter in letters.rows]
            more = letters.more
        except (TicketLockError, asyncio.TimeoutError) as error:
            unknown = f"not known: {problem(error)}"
        return {"messages": inbox.unfinished, "rows": rows, "more": more, "problem": unknown}

    async def _ask_stored(self) -> dict[str, Any]:
        """The outbox and the dead letters of the tracker store."""
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

    async def end(
        self, conversation_id: str, fence: int | None, record: AuditRecord
    ) -> dict[str, Any]:
        """Break the turn with that fence, or the current one; see `Audit.break_lock`."""
        held, broken = await self.audit.break_lock(conversation_id, fence, record)
        self._forget()
        follows = (await self.handler.conversations.lock_store.inspect(conversation_id, 0)).holder
        return {"broken": broken, "held": holder_row(held), "next": holder_row(follows)}

    async def end_all(
        self, turns: Sequence[tuple[str, int]], record: AuditRecord
    ) -> dict[str, Any]:
        """Break those of the turns that still hold their conversations."""
        store, broken = self.handler.conversations.lock_store, 0
        for conversation_id, fence in turns:
            done = await store.break_lock(conversation_id, fence)
            broken += done
            # The log has one line each, the page one line for all.
            write(outcome(record, conversation_id, fence, done))
        await self.audit.keep(replace(record, what=f"{broken} of {len(turns)} turns broken"))
        self._forget()
        return {"broken": broken, "ended": len(turns) - broken}

    async def settle(self, names: Sequence[LetterKey], record: AuditRecord) -> dict[str, Any]:
        """Resend or drop dead letters, as the record's action says."""
        work = self.letters.resend if record.action == "resend" else self.letters.drop
        made = await work(names)
        self._stored.forget()
        one = {name for name, _, _ in names}
        what = f"{made['done']} of {len(names)} dead letters"
        if made["problem"]:
            what += f", then: {made['problem']}"
        conversation = one.pop() if len(one) == 1 else ""
        await self.audit.note(replace(record, conversation=conversation, what=what))
        self._forget()
        return made

    async def change(
        self, action: Action, targets: Sequence[Target], record: AuditRecord
    ) -> dict[str, Any]:
        """Withdraw messages of the inbox, or resend or drop its dead letters."""
        made = await settle(self.handler.conversations.inbox, self.audit, action, targets, record)
        self._inbox.forget()
        self._forget()
        return made

    def _forget(self) -> None:
        """Drop what is cached, so that the page shows the change."""
        self._audit.forget()
        self._merged.forget()


class _Merged:
    """The merged reports of one moment, and the answers made from them."""

    def __init__(self, view: View, whole: dict[str, Any], problems: dict[str, str]) -> None:
        self.view = view
        self.whole = whole
        self.problems = problems
        self.answers: dict[Query, dict[str, Any]] = {}


class _Cached(Generic[T]):
    """Caches a result for some time; it is made once for concurrent callers."""

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
