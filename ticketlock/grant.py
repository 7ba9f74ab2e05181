"""A grant: the proof that it is our turn, and what tells us when it no longer is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator

from . import forks
from .errors import LockLost
from .incoming import Supersede

#: Clock of all local deadlines, seconds: monotonic, and running on while the machine sleeps.
if hasattr(time, "CLOCK_BOOTTIME"):

    def clock() -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)
else:
    clock = time.monotonic


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

    def _set(self) -> None:
        if self._event is not None:
            self._event.set()


class Grant:
    """The turn of one ticket.

    Attributes:
        conversation_id: the conversation it is about.
        number: the ticket number; says the order of arrival, nothing else.
        fence: the authority to write: higher than that of every earlier turn of the
            conversation. A store that remembers the highest one can refuse stale writers.
        reason: why the grant was lost, None while it is held.
        superseded: set when a later message asks this turn to stop, to how; the turn stays
            ours, and what it makes of that is its own affair.
        lease_until: moment of `clock()` up to which nobody else can have the turn.
        deadline: moment of `clock()` up to which the turn is ours: the earlier of
            `lease_until` and the end of its lifetime.
    """

    __slots__ = (
        "_cancelled", "_cancelling", "_lost", "_pid", "_superseding", "_task", "conversation_id",
        "deadline", "expires", "fence", "granted_at", "lease_until", "member", "number", "raising",
        "reason", "request", "superseded",
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
        self.reason: str | None = None
        self.superseded: Supersede | None = None
        self._superseding: asyncio.Event | None = None
        self._pid = forks.pid
        self._lost: Lost | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancelled = False
        self._cancelling = 0

    @property
    def lost(self) -> Lost:
        """Set when the turn is no longer ours; by then the body has been cancelled."""
        if self._lost is None:
            self._lost = Lost(self)
        return self._lost

    def ensure_held(self) -> None:
        """Raise LockLost unless the turn is still certainly ours; call it before a write.

        Looks at the clock, not at a flag: a process that was frozen past its lease
        finds out here, before its event loop has had time to tell it.
        """
        if self.reason is None and self._pid != forks.pid:
            self.reason = "a forked child does not inherit the turn"
        if self.reason is None and clock() >= self.deadline:
            self.reason = self.overdue()
        if self.reason is not None:
            raise LockLost(self.conversation_id, self.reason)

    def overdue(self) -> str:
        """Why a grant past its deadline is lost."""
        if self.deadline >= self.expires:
            return f"its lock_lifetime of {self.expires - self.granted_at:g} s is over"
        return "its lease ran out: no renewal was confirmed in time"

    def extend(self, lease_until: float) -> None:
        """Note that the lease was confirmed up to that moment of `clock()`."""
        if self.reason is not None:
            return  # whoever was told that it is lost shall not see it come back
        self.lease_until = max(self.lease_until, lease_until)
        self.deadline = min(self.lease_until, self.expires)

    def supersede(self, mode: Supersede) -> None:
        """Note that a later message asks the turn to stop."""
        self.superseded = mode
        if self._superseding is not None:
            self._superseding.set()

    async def until_superseded(self) -> Supersede:
        """Return how to stop when a later message asks for it; for ever if none does."""
        self._superseding = self._superseding or asyncio.Event()
        if self.superseded is None:
            await self._superseding.wait()
        assert self.superseded is not None  # set before the event
        return self.superseded

    def lose(self, reason: str) -> None:
        """Mark the grant as lost and cancel the body that runs under it."""
        if self.reason is None:
            self.reason = reason
        if self._lost is not None:
            self._lost._set()
        if self._task is not None and not self._cancelled:
            self._cancelled = True
            self._task.cancel(self._message())

    def tell_lost(self, error: BaseException | None = None) -> None:
        """Raise LockLost if the turn was lost; a body's own `error` is not hidden, but gets a note."""
        if self.reason is None:
            return
        lost = LockLost(self.conversation_id, self.reason)
        if error is None:
            raise lost from None
        if hasattr(error, "add_note"):
            error.add_note(str(lost))

    def bind(self) -> None:
        """Make the current task the body: it is cancelled when the grant is lost."""
        self._task = asyncio.current_task()
        if self._task is not None and hasattr(self._task, "cancelling"):
            self._cancelling = self._task.cancelling()
        if self.reason is not None:
            self.lose(self.reason)

    def unbind(self) -> bool:
        """End the body; True if `lose` has cancelled it: then await `settle`."""
        if not self._cancelled:
            self._task = None
        return self._cancelled

    async def settle(self, error: BaseException | None) -> bool:
        """After `unbind`: whether `error` is the cancellation that `lose` caused."""
        task, self._task = self._task, None
        if task is None:
            return False
        ours = isinstance(error, asyncio.CancelledError) and error.args == (self._message(),)
        if hasattr(task, "uncancel"):  # Python 3.11 counts: tell our cancellation from others'
            others = task.uncancel() > self._cancelling
            ours = isinstance(error, asyncio.CancelledError) and not others
        if error is None:
            # The body ended without another await: the cancellation is still to come. It is
            # swallowed if it is ours alone.
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError as late:
                if hasattr(task, "uncancel"):
                    if task.cancelling() > self._cancelling:
                        raise
                elif late.args != (self._message(),):
                    raise
        return ours

    def _message(self) -> str:
        return f"lock lost: {self.reason}"

    def __repr__(self) -> str:
        state = "held" if self.reason is None else f"lost: {self.reason}"
        return f"<Grant {self.conversation_id!r} number={self.number} fence={self.fence} {state}>"
