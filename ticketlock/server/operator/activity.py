"""What a process is doing at a moment: its turns and who waits, conversation by conversation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...locks.grant import Grant
from ...process import clock
from ...turn import Turn
from ..jobs import Job


class Look:
    """What a process is doing, seen in one pass: there may be thousands of jobs.

    Attributes:
        rows: conversation -> who holds it here, how many wait for it here, and for how long.
        waits: seconds for which each has been waiting that waits.
        held: how many turns are held.
    """

    def __init__(self, jobs: Iterable[Job[Any]]) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.waits: list[float] = []
        self.held = 0
        self._now = clock()
        for job in jobs:
            turn = job.turn
            if turn.lock.grant is not None:
                self._holds(turn, turn.lock.grant)
            elif started := turn.lock.waiter.started:  # else it has not come to its ticket
                self._waits(turn.sender_id, self._now - started)

    def _row(self, name: str) -> dict[str, Any]:
        if (row := self.rows.get(name)) is None:
            row = {"id": name, "holder": None, "waiting": 0, "longest_wait": 0.0}
            self.rows[name] = row
        return row

    def _holds(self, turn: Turn, grant: Grant) -> None:
        self.held += 1
        self._row(turn.sender_id)["holder"] = {
            "label": turn.lock.waiter.label,
            "number": grant.number,
            "fence": grant.fence,
            "held_for": self._now - grant.granted_at,
            "lifetime": grant.expires - grant.granted_at,
        }

    def _waits(self, name: str, seconds: float) -> None:
        self.waits.append(seconds)
        row = self._row(name)
        row["waiting"] += 1
        row["longest_wait"] = max(row["longest_wait"], seconds)


def age(row: Mapping[str, Any]) -> float:
    """Seconds of the longest turn or wait of a conversation: the oldest are shown first."""
    wait: float = row["longest_wait"]
    return max(wait, row["holder"]["held_for"]) if row["holder"] else wait
