"""The reports of all replicas, merged into one object for the operator's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ...locks.inspection import Holder, Waiting
from .meter import Counters, merged
from .replicas import Snapshot
from .report import ALIVE, Row

#: The share of its lock_lifetime after which a turn is slow, and stuck; the lifetime to assume
#: if it is unknown, in seconds.
SLOW, STUCK, LIFETIME = 1 / 6, 1 / 2, 60.0
#: Most errors, and most ended processes, that are shown.
_ERRORS, _GONE = 50, 20


class View:
    """The reports of several processes, merged.

    Attributes:
        rows: all conversations that are listed one by one, unsorted.
        whole: the rest, as the page gets it.
        errors: the last errors of all processes, the latest first.
    """

    def __init__(self, snapshots: Sequence[Snapshot]) -> None:
        here = [one for one in snapshots if one.since < ALIVE and not one.summary["gone"]]
        gone = [one for one in snapshots if one.since >= ALIVE or one.summary["gone"]]
        rows: dict[str, Row] = {}
        unlisted = 0
        for one in here:
            since, listed = one.rows_since, one.rows
            # The list may be a little older than the summary, which has the oldest rows.
            if listed is None or len(listed) < len(one.summary["rows"]):
                since, listed = one.since, one.summary["rows"]
            unlisted += max(0, one.summary["conversations"] - len(listed))
            for row in listed:
                _add(rows, _aged(row, since, one.summary["name"]))
        for row in rows.values():
            row["state"] = state(row)
        self.rows = list(rows.values())
        self.errors = sorted(
            (
                {**error, "ago": error["ago"] + one.since, "process": one.summary["name"]}
                for one in snapshots
                for error in one.summary["errors"]
            ),
            key=lambda error: error["ago"],
        )[:_ERRORS]
        self.whole = {
            "processes": [
                *(_process(one, True) for one in sorted(here, key=_name)),
                *(_process(one, False) for one in sorted(gone, key=lambda one: one.since)[:_GONE]),
            ],
            "totals": self._totals(here, unlisted),
            "counters": _sums([one.summary["counters"] for one in here], vars(Counters())),
            "reasons": _sums([one.summary["reasons"] for one in here]),
            "errors": self.errors,
            "history": merged([(one.since, one.summary) for one in snapshots]),
        }

    def _totals(self, here: Sequence[Snapshot], unlisted: int) -> dict[str, int]:
        return {
            "held": sum(one.summary["held"] for one in here),
            "waiting": sum(one.summary["waiting"] for one in here),
            # Conversations that are not listed; two replicas may count the same one.
            "unlisted": unlisted,
            "conversations": len(self.rows) + unlisted,
            "slow": sum(row["state"] == "slow" for row in self.rows),
            "stuck": sum(row["state"] == "stuck" for row in self.rows),
        }


def state(row: Mapping[str, Any]) -> str:
    """`held` or `waiting`, or if that takes too long `slow` or `stuck`."""
    holder = row["holder"]
    seconds = holder["held_for"] if holder else row["longest_wait"]
    lifetime = (holder and holder["lifetime"]) or LIFETIME
    if seconds >= STUCK * lifetime:
        return "stuck"
    if seconds >= SLOW * lifetime:
        return "slow"
    return "held" if holder else "waiting"


def _process(one: Snapshot, here: bool) -> dict[str, Any]:
    summary = one.summary
    kept = ("name", "draining", "held", "waiting", "address", "version", "stores", "counters")
    uptime = summary["uptime"]
    return {
        **{key: summary[key] for key in kept},
        "here": here,
        # It reported its end; otherwise it died, or cannot reach Redis.
        "ended": summary["gone"],
        "age": one.since,
        "uptime": uptime if uptime is None or not here else uptime + one.since,
        "handled": summary["counters"]["handled"],
    }


def _name(one: Snapshot) -> str:
    return str(one.summary["name"])


def _sums(each: Sequence[Mapping[str, int]], names: Mapping[str, int] | None = None) -> Any:
    total = dict.fromkeys(names or (), 0)
    for counts in each:
        for name, count in counts.items():
            total[name] = total.get(name, 0) + count
    return total


def _aged(row: Row, since: float, process: str) -> Row:
    """A row as it is now, from a report of some seconds ago."""
    holder = row["holder"]
    if holder is not None:
        holder = {**holder, "process": process, "held_for": holder["held_for"] + since}
    wait = row["longest_wait"] + since if row["waiting"] else 0.0
    waits_at = [process] if row["waiting"] else []
    return {**row, "holder": holder, "longest_wait": wait, "waits_at": waits_at}


def _add(rows: dict[str, Row], row: Row) -> None:
    """Add a row, merged with that of another process for the same conversation."""
    known = rows.setdefault(row["id"], row)
    if known is row:
        return
    known["waiting"] += row["waiting"]
    known["waits_at"] += row["waits_at"]
    known["longest_wait"] = max(known["longest_wait"], row["longest_wait"])
    # Two holders: the reports are of different moments, and the later turn has the higher fence.
    known["holder"] = max(known["holder"], row["holder"], key=lambda h: h["fence"] if h else 0)


def holder_row(holder: Holder | None) -> dict[str, Any] | None:
    """A holder from the lock store, in the form of a row."""
    if holder is None:
        return None
    fields = asdict(holder)
    kept = {k: fields[k] for k in ("label", "number", "fence", "held_for")}
    return {**kept, "lifetime": None, "process": process_of(holder)}


def process_of(ticket: Holder | Waiting) -> str | None:
    """The process of a holder or a waiting ticket, as host:pid; None if unknown."""
    return f"{ticket.host}:{ticket.process}" if ticket.host else None
