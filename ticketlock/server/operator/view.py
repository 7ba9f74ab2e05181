"""What all replicas tell, as one object for the operator's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ...locks.inspection import Holder
from .meter import Counters, merged
from .replicas import Heard
from .report import Row

#: Seconds after its last word for which a process counts as running.
ALIVE = 10.0
#: Parts of its lock_lifetime from which on a turn is slow, and stuck; the lifetime where it is
#: not known, in seconds.
SLOW, STUCK, LIFETIME = 1 / 6, 1 / 2, 60.0
#: Errors that are shown, and processes that are gone.
_ERRORS, _GONE = 50, 20


class View:
    """What several processes tell, as one.

    Attributes:
        rows: all conversations that are known one by one, in no order.
        whole: the rest, as the page gets it.
        errors: the last errors of all, the latest first.
    """

    def __init__(self, told: Sequence[Heard]) -> None:
        here = [one for one in told if one.since < ALIVE and not one.summary["gone"]]
        gone = [one for one in told if one.since >= ALIVE or one.summary["gone"]]
        rows: dict[str, Row] = {}
        unlisted = 0
        for one in here:
            since, listed = one.rows_since, one.rows
            # Those told one by one may be a little older; the oldest are told each time.
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
                for one in told
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
            "history": merged([(one.since, one.summary) for one in told]),
        }

    def _totals(self, here: Sequence[Heard], unlisted: int) -> dict[str, int]:
        return {
            "held": sum(one.summary["held"] for one in here),
            "waiting": sum(one.summary["waiting"] for one in here),
            # Of which one by one nothing is known; those of two replicas may be the same.
            "unlisted": unlisted,
            "conversations": len(self.rows) + unlisted,
            "slow": sum(row["state"] == "slow" for row in self.rows),
            "stuck": sum(row["state"] == "stuck" for row in self.rows),
        }


def state(row: Mapping[str, Any]) -> str:
    """`held` or `waiting`, or for too long: `slow` or `stuck`."""
    holder = row["holder"]
    seconds = holder["held_for"] if holder else row["longest_wait"]
    lifetime = (holder and holder["lifetime"]) or LIFETIME
    if seconds >= STUCK * lifetime:
        return "stuck"
    if seconds >= SLOW * lifetime:
        return "slow"
    return "held" if holder else "waiting"


def _process(one: Heard, here: bool) -> dict[str, Any]:
    summary = one.summary
    told = ("name", "draining", "held", "waiting", "address", "version", "stores", "counters")
    uptime = summary["uptime"]
    return {
        **{key: summary[key] for key in told},
        "here": here,
        # It said good-bye; else it has died, or is cut off from Redis.
        "ended": summary["gone"],
        "age": one.since,
        "uptime": uptime if uptime is None or not here else uptime + one.since,
        "handled": summary["counters"]["handled"],
    }


def _name(one: Heard) -> str:
    return str(one.summary["name"])


def _sums(each: Sequence[Mapping[str, int]], names: Mapping[str, int] | None = None) -> Any:
    total = dict.fromkeys(names or (), 0)
    for counts in each:
        for name, count in counts.items():
            total[name] = total.get(name, 0) + count
    return total


def _aged(row: Row, since: float, process: str) -> Row:
    """A row as it is now, which was told some seconds ago."""
    holder = row["holder"]
    if holder is not None:
        holder = {**holder, "process": process, "held_for": holder["held_for"] + since}
    wait = row["longest_wait"] + since if row["waiting"] else 0.0
    waits_at = [process] if row["waiting"] else []
    return {**row, "holder": holder, "longest_wait": wait, "waits_at": waits_at}


def _add(rows: dict[str, Row], row: Row) -> None:
    """Add what another process tells of the same conversation."""
    known = rows.setdefault(row["id"], row)
    if known is row:
        return
    known["waiting"] += row["waiting"]
    known["waits_at"] += row["waits_at"]
    known["longest_wait"] = max(known["longest_wait"], row["longest_wait"])
    # Two that hold it: they told at different moments, and the later turn has the higher fence.
    known["holder"] = max(known["holder"], row["holder"], key=lambda h: h["fence"] if h else 0)


def holder_row(holder: Holder | None) -> dict[str, Any] | None:
    """A holder that the lock store tells of, in the form of a row's."""
    if holder is None:
        return None
    fields = asdict(holder)
    process = f"{holder.host}:{holder.process}" if holder.host else None
    kept = {k: fields[k] for k in ("label", "number", "fence", "held_for")}
    return {**kept, "lifetime": None, "process": process}
