"""Locks that report to observers. A store without observers makes plain ones, which cost nothing."""

from __future__ import annotations

import sys
from collections.abc import Awaitable
from functools import partial
from typing import Any

from ..errors import DuplicateMessage
from .grant import Grant
from .lock import Lock, OptionalLock


class ObservedLock(Lock):
    """A lock that reports the wait, the turn, and its end to the store's observers."""

    __slots__ = ("_error", "_turn", "_waits")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._waits = False
        #: The turn that was reported as begun, until its end is reported.
        self._turn: Grant | None = None
        self._error: BaseException | None = None

    async def queue(self) -> int:
        self._wait_begins()
        return await super().queue()

    def withdraw(self) -> None:
        error = sys.exc_info()[1]  # in which it is called, if it is
        self._no_turn(error)
        self._turn_ends(error)
        super().withdraw()

    def begin(self) -> Awaitable[Grant]:
        granted = super().begin()
        self._wait_begins()
        return self._reported(granted)

    async def _reported(self, granted: Awaitable[Grant]) -> Grant:
        try:
            grant = await granted
        except BaseException as error:
            self._no_turn(error)
            raise
        self._describe(
            grant
        )  # before observers read it; `begun` comes later, in another thread perhaps
        observers = grant.observers
        self._waits, self._turn = False, grant
        observers.notify("on_turn", grant)
        if observers.has("mark") and (mark := observers.ask("mark", grant)) is not None:
            self._turns.leave_mark(grant, f"{grant.number} {mark}", partial(_found, grant))
        return grant

    def _wait_begins(self) -> None:
        if not self._waits:
            self._waits = True
            self._turns.observers.notify("on_wait", self.waiter)

    def _no_turn(self, error: BaseException | None) -> None:
        if self._waits:
            self._waits = False
            observers, waiter = self._turns.observers, self.waiter
            observers.notify("on_no_turn", waiter, error)
            if isinstance(error, DuplicateMessage):
                observers.notify("on_duplicate", error.conversation_id, error.message_id)

    def _turn_ends(self, error: BaseException | None, held: float | None = None) -> None:
        grant, self._turn = self._turn, None
        if grant is not None:
            held = grant.held_for() if held is None else held
            grant.observers.notify("on_turn_end", grant, held, error)

    def note(self, error: BaseException | None) -> None:
        self._error = error

    def end(self, grant: Grant) -> Awaitable[None]:
        turn, self._turn = self._turn, None
        return self._ended(turn, grant.held_for(), super().end(grant))

    async def _ended(self, turn: Grant | None, held: float, ending: Awaitable[None]) -> None:
        try:
            await ending
        finally:  # by now it is known whether it was lost
            self._turn = turn
            self._turn_ends(self._error, held)

    def forget(self) -> None:
        super().forget()
        self._turn_ends(self._error)  # of a store that was closed meanwhile

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.note(error)
        await super().__aexit__(kind, error, trace)


class ObservedOptionalLock(ObservedLock, OptionalLock):
    """The same of `try_lock`."""

    __slots__ = ()


def _found(grant: Grant, left: str) -> None:
    """A mark of an earlier turn; that one was waited for if it was not over before."""
    number, _, mark = left.partition(" ")
    if grant.number - grant.ahead <= int(number) < grant.number:
        grant.observers.notify("on_predecessor", grant, mark)
