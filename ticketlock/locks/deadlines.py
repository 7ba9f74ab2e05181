"""Giving turns up in time: one timer for all the turns that a store holds on a loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from ..process import clock
from .grant import Grant


class DeadlineWatch:
    """Calls `lose` for each held turn whose deadline has passed, at that moment.

    Args:
        held: gives the turns held now; their deadlines may move on meanwhile.
        lose: called with a turn that is over; it is held no longer after that.
    """

    def __init__(
        self, held: Callable[[], Collection[Grant]], lose: Callable[[Grant], None]
    ) -> None:
        self._held = held
        self._lose = lose
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def watch(self, grant: Grant) -> None:
        """Mind a turn that has just begun."""
        if self._timer is None or grant.deadline < self._due:
            self._at(grant.deadline)

    def _at(self, moment: float) -> None:
        self.stop()
        self._due = moment
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(0.0, moment - clock()), self._look)

    def _look(self) -> None:
        now, self._timer = clock(), None
        for grant in [grant for grant in self._held() if grant.deadline <= now]:
            self._lose(grant)
        if held := self._held():
            self._at(min(grant.deadline for grant in held))

    def stop(self) -> None:
        """Mind nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
