"""What this process is doing now: its turns and waiting messages, by conversation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...locks.grant import Grant
from ...process import clock
from ..jobs import Job, Jobs


class Activity:
    """What this process is doing, counted in one pass, because there may be thousands of jobs.

    Attributes:
        rows: conversation -> its holder here, the messages that wait for it here, and their
            longest wait.
        waits: seconds that each waiting message has waited.
        held: the number of turns that run.
    """

    def __init__(self, jobs: Jobs) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.waits: list[float] = []
        self.held = 0
        self._now = clock()
        for job in jobs:
            if (grant := job.grant) is not None:
                self._add_holder(job, grant)
            elif started := job.waiter.started:  # else it has not asked for its ticket yet
                self._add_wait(job.turn.sender_id, self._now - started)
        for sent in jobs.senders:
            self._add_wait(sent.conversation_id, self._now - sent.started)

    def _row(self, name: str) -> dict[str, Any]:
        if (row := self.rows.get(name)) is None:
            row = {"id": name, "holder": None, "waiting": 0, "longest_wait": 0.0}
            self.rows[name] = row
        return row

    def _add_holder(self, job: Job[Any], grant: Grant) -> None:
        self.held += 1
        self._row(job.turn.sender_id)["holder"] = {
            "label": job.waiter.label,
            "number": grant.number,
            "fence": grant.fence,
            "held_for": self._now - grant.granted_at,
            "lifetime": grant.expires - grant.granted_at,
        }

    def _add_wait(self, name: str, seconds: float) -> None:
        self.waits.append(seconds)
        row = self._row(name)
        row["waiting"] += 1
        row["longest_wait"] = max(row["longest_wait"], seconds)


def age(row: Mapping[str, Any]) -> float:
    """Seconds of the longest turn or wait of a conversation; the page sorts by it."""
    wait: float = row["longest_wait"]
    return max(wait, row["holder"]["held_for"]) if row["holder"] else wait
