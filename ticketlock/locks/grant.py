"""A grant: the proof that it is our turn, and what tells us when it no longer is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator
from typing import Any

from .. import process
from ..errors import CLOSED, LockLost
from ..observers import Observers
from ..process import clock
from .body import GRACE, REMEDY, AnyTask, Body, caller, closed_under
from .incoming import Supersede
from .lost_turns import FORKED, NOT_RENEWED, WARNING, cause, too_slow
from .shield import Shield

log = logging.getLogger("ticketlock.lock")

#: Of a turn whose lock store has none.
UNOBSERVED = Observers()


def facts(grant: Grant, **more: Any) -> dict[str, Any]:
    """The attributes of a log record about a turn, for formatters that write fields."""
    return {
        "conversation": grant.conversation_id, "message_id": grant.label, "ticket": grant.number,
        "held_for": round(grant.held_for(), 3), **more,
    }  # fmt: skip


class Lost:
    """An event that is set when the grant is lost: `await grant.lost`, `grant.lost.is_set()`."""

    __slots__ = ("_event", "_grant")

    def __init__(self, grant: Grant) -> None:
        self._grant = grant
        self._event: asyncio.Event | None = None

    def is_set(self) -> bool:
        return self._grant.reason is not None

    async def wait(self) -> None:
        """Return when the grant is lost; for ever if it never is."""
        if not self.is_set():
            self._event = self._event or asyncio.Event()
            await self._event.wait()

    def __await__(self) -> Generator[object, None, None]:
        return self.wait().__await__()

    def happened(self) -> None:
        """The grant was lost."""
        if self._event is not None:
            self._event.set()


class Grant:
    """The turn of one ticket.

    When it is lost, the task that entered the lock is cancelled. If another task does the
    work, call `bind` in it; `ensure_held` binds the calling task once the first one is over.

    Attributes:
        conversation_id: the conversation.
        number: the ticket number: the order of arrival, nothing else.
        fence: the authority to write: higher than that of every earlier turn of the
            conversation. A store that remembers the highest one can refuse stale writers.
        label: the text, or message id, that `inspect` shows for it; None: it has none.
        waited: seconds from asking for the ticket to the start of the turn.
        ahead: how many turns were before it when the ticket was taken, the one being served
            included; those whose waiters gave up later are counted too.
        reason: why the turn was lost; None while it is held.
        superseded: how a later message asks this turn to stop, `interrupt` or `rollback`; None: none
            does. The turn is still held, and decides itself what to do.
        on_stop: called once when the turn is asked to stop, not before `shield` is left.
        lease_until: moment of `clock()` up to which no other ticket can have the turn.
        deadline: moment of `clock()` up to which the turn is ours: the earlier of
            `lease_until` and the end of its lifetime.
    """

    __slots__ = (
        "_body", "_lost", "_pid", "_reason", "_superseding", "ahead",
        "conversation_id", "deadline", "expires", "fence", "granted_at", "label", "lease_until",
        "left", "member", "number", "observers", "on_stop", "raising", "request", "shields",
        "superseded", "waited",
    )  # fmt: skip

    def __init__(
        self,
        conversation_id: str,
        number: int,
        fence: int,
        lease_until: float,
        lock_lifetime: float,
        *,
        request: int = 0,
        member: str = "",
    ) -> None:
        self.conversation_id = conversation_id
        self.number = number
        self.fence = fence
        self.granted_at = clock()
        self.expires = self.granted_at + lock_lifetime
        self.lease_until = lease_until
        self.deadline = min(lease_until, self.expires)
        self.request = request
        self.member = member
        #: How many calls that raise the fence are under way.
        self.raising = 0
        #: The block was left: the turn is no longer ours, without being lost.
        self.left = False
        self.label: str | None = None
        self.waited = 0.0
        self.ahead = 0
        #: Those of its lock store; called when it is lost.
        self.observers = UNOBSERVED
        self._reason: str | None = None
        self.superseded: Supersede | None = None
        self._superseding: asyncio.Event | None = None
        #: How many shields are entered.
        self.shields = 0
        self.on_stop: Callable[[], object] | None = None
        self._pid = process.pid
        self._lost: Lost | None = None
        self._body: Body | None = None

    @property
    def reason(self) -> str | None:
        """Why the turn was lost; None while it is held."""
        return self._reason

    @reason.setter
    def reason(self, reason: str | None) -> None:
        """The first one is logged and passed to observers: all code that finds a turn lost sets it."""
        first, self._reason = self._reason is None and reason is not None, reason
        if first and reason != FORKED:
            log.warning(
                WARNING,
                self.conversation_id, self._labelled(), self.number, self.held_for(), reason,
                self._remedy, extra=facts(self, why=reason, cause=self.cause),
            )  # fmt: skip
            self.observers.notify("on_turn_lost", self)

    @property
    def cause(self) -> str:
        """Why it was lost, in a word: `too_slow` (its lock_lifetime is over), `broken`, `closed`
        (the lock store), or `lease` (not renewed in time, or wiped); empty while it is held."""
        return cause(self._reason, self.expires - self.granted_at)

    @property
    def _remedy(self) -> str:
        """What the log adds where no task could be cancelled."""
        if self._body is None or not self._body.over:
            return ""
        return f"; the task that entered it has ended, so no task was cancelled: {REMEDY}"

    def held_for(self) -> float:
        """Seconds since the turn began."""
        return clock() - self.granted_at

    def _labelled(self) -> str:
        return "" if self.label is None else f" ({self.label})"

    @property
    def lost(self) -> Lost:
        """Set when the turn is lost; by then its block has been cancelled."""
        if self._lost is None:
            self._lost = Lost(self)
        return self._lost

    def ensure_held(self) -> None:
        """Raise LockLost unless this turn certainly still holds the lock; call it before a write.

        A released turn raises too. This looks at the clock, not at a flag: so a process that was
        frozen for longer than its lease finds out here, before its event loop could tell it. If the
        task that entered the lock has ended, the calling task is bound to the turn from now on.
        """
        if self.reason is None and self._pid != process.pid:
            self.reason = FORKED
        if self.reason is None and not self.left and clock() >= self.deadline:
            self.reason = self.overdue()
        if self.reason is not None:
            raise LockLost(self.conversation_id, self.reason)
        if self.left:
            raise LockLost(self.conversation_id, "it has been released")
        self.keep_bound()

    def leave(self) -> None:
        """The block was left: the turn is no longer ours, and lost if that was too late."""
        self.left = True
        if self._reason is None and clock() >= self.deadline:
            self.reason = self.overdue()

    def overdue(self) -> str:
        """Why a grant past its deadline is lost."""
        if self.deadline >= self.expires:
            return too_slow(self.expires - self.granted_at)
        return NOT_RENEWED

    def extend(self, lease_until: float) -> None:
        """Note that the lease was confirmed up to that moment of `clock()`."""
        if self.reason is not None:
            return  # it was reported as lost, and must not come back
        self.lease_until = max(self.lease_until, lease_until)
        self.deadline = min(self.lease_until, self.expires)

    def supersede(self, mode: Supersede) -> None:
        """Note that a later message asks the turn to stop."""
        self.superseded = mode
        self.ask_to_stop()

    def ask_to_stop(self) -> bool:
        """Pass on that the turn is to stop, if it is and no shield is entered; whether it was."""
        if self.superseded is None or self.shields:
            return False
        if self._superseding is not None:
            self._superseding.set()
        stop, self.on_stop = self.on_stop, None
        if stop is not None:
            stop()
        return True

    async def until_superseded(self) -> Supersede:
        """Wait until a later message asks this turn to stop, and return how; in a `shield` it goes on
        waiting."""
        self._superseding = self._superseding or asyncio.Event()
        while self.superseded is None or self.shields:
            self._superseding.clear()
            await self._superseding.wait()
        return self.superseded

    def shield(self) -> Shield:
        """While it is entered, a later message does not stop the turn; see `Turn.shield`."""
        return Shield(self)

    def lose(self, reason: str) -> None:
        """Mark the grant as lost and cancel the body that runs under it."""
        if self.reason is None:
            self.reason = reason
        if self._lost is not None:
            self._lost.happened()
        if self._body is not None:
            self._body.cancel(f"lock lost: {self.reason}")

    def tell_lost(self, error: BaseException | None = None) -> None:
        """Raise LockLost if the turn was lost; a body's own `error` is not hidden, but gets a note."""
        if self._reason is None:
            return
        lost = LockLost(self.conversation_id, self._reason)
        if self.reason == CLOSED:
            closed_under(lost)
        if error is None:
            raise lost from None
        if hasattr(error, "add_note"):
            error.add_note(str(lost))

    def bind(self, task: AnyTask | None = None) -> None:
        """Bind a task to the turn, in place of the one before: it is cancelled when the turn is lost.

        `async with` binds the task that enters. Call it after `acquire()`, and if another task
        than the one that works has entered: a fixture, `asyncio.wait_for` before Python 3.12.

        Args:
            task: default: the calling task. Raises RuntimeError outside of a task.
        """
        task = task or asyncio.current_task()
        if task is None:
            raise RuntimeError("call bind() in the task that works under the grant")
        if self._body is not None:
            self._body.leave()
        self._body = Body(task, self._body_over)
        if self._reason is not None:
            self.lose(self._reason)

    def keep_bound(self) -> None:
        """If the body's task is over, the task that uses the turn now is the body."""
        if self._body is None or not self._body.over:
            return
        task = caller()
        if task is not None and task.get_loop() is self._body.task.get_loop():
            self.bind(task)

    def _body_over(self, task: AnyTask) -> None:
        """The body's task has ended in the turn: say so, unless another one binds itself."""
        if self.reason is None:
            task.get_loop().call_later(GRACE, self._check_body, task)

    def _check_body(self, task: AnyTask) -> None:
        if self.reason is None and self._body is not None and self._body.task is task:
            log.warning(
                "the task that entered the lock of conversation %r%s has ended before its "
                "turn: if the turn is lost, no task can be cancelled: %s",
                self.conversation_id,
                self._labelled(),
                REMEDY,
            )

    @property
    def bound(self) -> bool:
        """Whether a task is bound to the turn."""
        return self._body is not None

    def unbind(self) -> bool:
        """End the body; True if `lose` has cancelled it: then await `settle`."""
        if self._body is None:
            return False
        self._body.leave()
        if self._body.cancelled:
            return True
        self._body = None
        return False

    async def settle(self, error: BaseException | None) -> bool:
        """After `unbind`: whether `error` is the cancellation that `lose` caused."""
        body, self._body = self._body, None
        return body is not None and await body.settle(error)

    def __repr__(self) -> str:
        state = "released" if self.left else "held"
        if self.reason is not None:
            state = f"lost: {self.reason}"
        return f"<Grant {self.conversation_id!r} number={self.number} fence={self.fence} {state}>"
