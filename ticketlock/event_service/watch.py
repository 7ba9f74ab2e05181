"""Says in the log which gaps stay. Those that an instance is just about to fill are no news."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from .database import EventDatabase, Gap, History

log = logging.getLogger("ticketlock.events")

#: Seconds that a gap may last before it is told: messages in the hands of another instance,
#: or sent again after a loss, come late and fill it.
GRACE = 10.0
#: Gaps that are told each time the log speaks of them; it counts the others.
MOST_TOLD = 10


class GapWatch:
    """Remembers the histories that have gaps, and tells of a gap once when it has lasted."""

    def __init__(self, database: EventDatabase, grace: float = GRACE) -> None:
        self._database = database
        self._grace = grace
        self._since: dict[History, float] = {}
        self._told: dict[History, set[Gap]] = {}
        self._next = 0.0

    def note(self, gaps: dict[History, list[Gap]]) -> None:
        """What a batch has found; an empty list ends the suspicion."""
        now = time.monotonic()
        for history, missing in gaps.items():
            if missing:
                self._since.setdefault(history, now)
            elif self._since.pop(history, None) is not None:
                self._fill(history, set())

    async def look(self, *, last: bool = False) -> None:
        """Tell of what is due; `last`: of all that there is.

        Raises EventDatabaseError.
        """
        now = time.monotonic()
        if not self._since or (now < self._next and not last):
            return
        self._next = now + self._grace / 2
        due = {h for h, since in self._since.items() if last or now - since >= self._grace}
        if not due:
            return
        missing: dict[History, set[Gap]] = {history: set() for history in due}
        for gap in await self._database.gaps(due):
            missing[History(gap.sender_id, gap.history)].add(gap)
        self._tell([gap for h, gaps in missing.items() for gap in gaps - self._told.get(h, set())])
        for history, gaps in missing.items():
            self._fill(history, gaps)
            if gaps:
                self._told[history] = gaps
            else:
                self._since.pop(history)

    def _fill(self, history: History, gaps: set[Gap]) -> None:
        if self._told.pop(history, set()) and not gaps:
            log.info("conversation %r: its gaps are filled", history.sender_id)

    def _tell(self, gaps: Iterable[Gap]) -> None:
        new = sorted(gaps)
        for gap in new[:MOST_TOLD]:
            log.warning("%s", describe(gap))
        if len(new) > MOST_TOLD:
            log.warning("and %d more gaps; see: ticketlock events gaps", len(new) - MOST_TOLD)


def describe(gap: Gap) -> str:
    """A gap for people; the conversation, which others have named, is quoted."""
    life = f" (history {gap.history})" if gap.history else ""
    which = f"event {gap.first} is" if gap.first == gap.last else f"events {gap.first} to " \
        f"{gap.last} are"  # fmt: skip
    return f"conversation {gap.sender_id!r}{life}: {which} missing"
