"""Logs gaps that stay. Gaps that another instance is about to fill are not reported."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from .database import EventDatabase, Gap, HistoryKey

log = logging.getLogger("ticketlock.events")

#: Seconds that a gap may last before it is logged. Messages that another instance holds, or
#: that are sent again, arrive late and fill it.
GRACE = 10.0
#: Gaps that are logged at a time; the others are only counted.
MAX_LOGGED = 10


class GapWatch:
    """Remembers the histories that have gaps, and logs each gap once it has lasted."""

    def __init__(self, database: EventDatabase, grace: float = GRACE) -> None:
        self._database = database
        self._grace = grace
        self._since: dict[HistoryKey, float] = {}
        self._reported: dict[HistoryKey, set[Gap]] = {}
        self._next = 0.0

    def note(self, gaps: dict[HistoryKey, list[Gap]]) -> None:
        """Note the gaps that a batch has found; an empty list means that a history has none."""
        now = time.monotonic()
        for history, missing in gaps.items():
            if missing:
                self._since.setdefault(history, now)
            elif self._since.pop(history, None) is not None:
                self._fill(history, set())

    async def look(self, *, last: bool = False) -> None:
        """Log the gaps that are due; with `last`, all gaps. Raises EventDatabaseError."""
        now = time.monotonic()
        if not self._since or (now < self._next and not last):
            return
        self._next = now + self._grace / 2
        due = {h for h, since in self._since.items() if last or now - since >= self._grace}
        if not due:
            return
        missing: dict[HistoryKey, set[Gap]] = {history: set() for history in due}
        for gap in await self._database.gaps(due):
            missing[HistoryKey(gap.sender_id, gap.history)].add(gap)
        self._report(
            [gap for h, gaps in missing.items() for gap in gaps - self._reported.get(h, set())]
        )
        for history, gaps in missing.items():
            self._fill(history, gaps)
            if gaps:
                self._reported[history] = gaps
            else:
                self._since.pop(history)

    def _fill(self, history: HistoryKey, gaps: set[Gap]) -> None:
        if self._reported.pop(history, set()) and not gaps:
            log.info("conversation %r: its gaps are filled", history.sender_id)

    def _report(self, gaps: Iterable[Gap]) -> None:
        new = sorted(gaps)
        for gap in new[:MAX_LOGGED]:
            log.warning("%s", describe(gap))
        if len(new) > MAX_LOGGED:
            log.warning("and %d more gaps; see: ticketlock events gaps", len(new) - MAX_LOGGED)


def describe(gap: Gap) -> str:
    """A gap as text for people. The conversation id is quoted, because clients choose it."""
    life = f" (history {gap.history})" if gap.history else ""
    which = f"event {gap.first} is" if gap.first == gap.last else f"events {gap.first} to " \
        f"{gap.last} are"  # fmt: skip
    return f"conversation {gap.sender_id!r}{life}: {which} missing"
