"""Giving turns, and waits, up in time: one timer for all of them on a loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Generic, Protocol, TypeVar

from ..process import clock


class Dated(Protocol):
    """What has a moment of `clock()` at which it is over."""

    @property
    def deadline(self) -> float: ...


D = TypeVar("D", bound=Dated)


class DeadlineWatch(Generic[D]):
    """Calls `lose` for each held turn, or wait, whose deadline has passed, at that moment.

    Args:
        held: gives those held now; their deadlines may move on meanwhile.
        lose: called with one that is over; it is held no longer after that.
    """

    def __init__(self, held: Callable[[], Collection[D]], lose: Callable[[D], None]) -> None:
        self._held = held
        self._lose = lose
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None

    def watch(self, begun: D) -> None:
        """Mind one that has just begun."""
        # The timer of a loop that is gone would never fire.
        elsewhere = asyncio.get_running_loop() is not self._loop
        if self._timer is None or begun.deadline < self._due or elsewhere:
            self._at(begun.deadline)

    def _at(self, moment: float) -> None:
        self.stop()
        self._due = moment
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(max(0.0, moment - clock()), self._look)

    def _look(self) -> None:
        now, self._timer = clock(), None
        for over in [one for one in self._held() if one.deadline <= now]:
            self._lose(over)
        if held := self._held():
            self._at(min(one.deadline for one in held))

    def stop(self) -> None:
        """Mind nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
